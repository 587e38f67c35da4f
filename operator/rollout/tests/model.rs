//! A model check of rollouts under everything that goes wrong: two operators that read late, write
//! late, lose writes and crash; replicas that obey late; counts, edits and commands at any moment;
//! the loss of the route with its rebuild. Every order of these within the bounds is tried.
//!
//! The real `decide` and the real `rebuild` run inside. Invariants are checked on every
//! write that takes effect, against what really happened and not against what the state believes.
//! Three broken operators show that the invariants can fail.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::LazyLock;

use kanarie_rollout::analysis::Finding;
use kanarie_rollout::decide::decide;
use kanarie_rollout::observation::{Command, LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::policy::Policy;
use kanarie_rollout::rebuild::{Remains, rebuild};
use kanarie_rollout::state::{CommandAnswer, CommandResult, Phase, RejectedRevision, Stage, State};
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::{ServingTally, Tally};
use kanarie_words::ids::{EpochDigest, ReplicaName, RevisionName};
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;
use stateright::{Checker, Model, Property};

const HOLD_SECONDS: u64 = 1;
/// The operators' clock at a rebuild: later than any number of this model.
const REBUILD_AT: Timestamp = Timestamp(1_000_000);

/// Every replica is called so; only its `serving` matters.
static GATEWAY: LazyLock<ReplicaName> = LazyLock::new(|| "gateway".parse().unwrap());
static EPOCH: LazyLock<EpochDigest> = LazyLock::new(|| "epoch".parse().unwrap());

/// How the operator works; all but the first are broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Right,
    WritesUnconditionally,
    StartsClockBeforeAcknowledgement,
    ForgetsRejectionsInRebuild,
}

/// The operator and how much may happen.
#[derive(Clone, Debug)]
struct Rollouts {
    operator: Operator,
    replicas: usize,
    edits: u8,
    ticks: u64,
    crashes: u8,
    losses: u8,
    pauses: u8,
    command: Option<&'static str>,
}

/// The world, and what is known of it for the invariants only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    route: Option<State>,
    reported: Reported,
    desired: u8,
    paused: bool,
    command: Option<&'static str>,
    acknowledged: Vec<u64>,
    at: u64,
    evidence: (u64, Counted),
    operators: [Worker; 2],
    edits: u8,
    crashes: u8,
    losses: u8,
    pauses: u8,
    /// Since when every replica has really acknowledged the route.
    in_force_since: Option<u64>,
    /// Highest `serving` that was ever written.
    highest: u64,
    /// Revisions that were really rejected.
    rejected: Vec<RevisionName>,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counted {
    Nothing,
    Good,
    Bad,
}

/// One operator: the route as it last read it, and a write on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Worker {
    read: Option<State>,
    /// Whether nobody has written since: what comparing versions tells the API server.
    is_newest: bool,
    writes: Option<State>,
}

/// What status tells of the route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reported {
    stable: RevisionName,
    rejected: Vec<RejectedRevision>,
    last_command: Option<CommandAnswer>,
    transition: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Read(usize),
    Decide(usize),
    Write(usize),
    Crash(usize),
    Report,
    LoseRoute,
    Rebuild,
    Obey(usize),
    Tick,
    Count(Counted),
    Edit(u8),
    Pause,
    Order,
}

impl Model for Rollouts {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let first = forgotten(State::first(name(1), Timestamp(0)));
        vec![World {
            reported: Reported::of(&first),
            acknowledged: vec![first.serving; self.replicas],
            highest: first.serving,
            route: Some(first),
            desired: 2,
            paused: false,
            command: None,
            at: 0,
            evidence: (0, Counted::Nothing),
            operators: Default::default(),
            edits: 0,
            crashes: 0,
            losses: 0,
            pauses: 0,
            in_force_since: Some(0),
            rejected: Vec::new(),
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for (index, worker) in world.operators.iter().enumerate() {
            if worker.writes.is_some() {
                actions.push(Action::Write(index));
                if world.crashes < self.crashes {
                    actions.push(Action::Crash(index));
                }
            } else {
                if worker.read.is_some() {
                    actions.push(Action::Decide(index));
                }
                if !worker.is_newest && world.route.is_some() {
                    actions.push(Action::Read(index));
                }
            }
        }
        match &world.route {
            Some(state) => {
                if self.losses > world.losses && world.reported != Reported::of(state) {
                    actions.push(Action::Report);
                }
                if world.losses < self.losses {
                    actions.push(Action::LoseRoute);
                }
                for replica in 0..self.replicas {
                    if world.acknowledged[replica] != state.serving {
                        actions.push(Action::Obey(replica));
                    }
                }
                if state.split().canary.is_some()
                    && world.counted(state.serving) == Counted::Nothing
                {
                    actions.extend([Counted::Good, Counted::Bad].map(Action::Count));
                }
            }
            None => actions.push(Action::Rebuild),
        }
        if world.at < self.ticks {
            actions.push(Action::Tick);
        }
        if world.edits < self.edits {
            actions
                .extend([1, 2, 3].into_iter().filter(|to| *to != world.desired).map(Action::Edit));
        }
        if world.pauses < self.pauses {
            actions.push(Action::Pause);
        }
        if self.command.is_some() && world.command.is_none() {
            actions.push(Action::Order);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Read(index) => next.read(index),
            Action::Decide(index) => self.decide(&mut next, index)?,
            Action::Write(index) => self.write(&mut next, index),
            Action::Crash(index) => {
                next.operators[index] = Worker::default();
                next.crashes += 1;
            }
            Action::Report => next.reported = Reported::of(next.route.as_ref()?),
            Action::LoseRoute => next.lose_route(),
            Action::Rebuild => self.rebuild(&mut next),
            Action::Obey(replica) => {
                let serving = next.route.as_ref()?.serving;
                next.acknowledged[replica] = serving;
                if next.acknowledged.iter().all(|one| *one == serving) {
                    next.in_force_since = Some(next.at);
                }
            }
            Action::Tick => next.at += 1,
            Action::Count(counted) => next.evidence = (next.route.as_ref()?.serving, counted),
            Action::Edit(to) => {
                next.desired = to;
                next.edits += 1;
            }
            Action::Pause => {
                next.paused = !next.paused;
                next.pauses += 1;
            }
            Action::Order => next.command = self.command,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is broken", |_, world: &World| world.broken.is_none()),
            Property::sometimes("a canary is promoted", |_, world: &World| {
                world.is_stable(2) && world.evidence.1 == Counted::Good
            }),
            Property::sometimes("a canary is rolled back", |_, world: &World| {
                world.is_stable(1) && world.rejected.contains(&name(2))
            }),
        ]
    }
}

impl Rollouts {
    fn decide(&self, world: &mut World, index: usize) -> Option<()> {
        let state = world.operators[index].read.clone()?;
        let mut seen = world.observation();
        if self.operator == Operator::StartsClockBeforeAcknowledgement {
            for replica in &mut seen.store.as_mut()?.replicas {
                replica.serving = Some(state.serving);
            }
        }
        let decision = decide(&state, &seen, Timestamp(0));
        let failed = decision.verdict.is_some_and(|verdict| verdict.finding == Finding::Fail);
        if failed && decision.next.split().weight > Weight::ZERO {
            world.broken = Some("a failed verdict left a weight");
        }
        let next = forgotten(decision.next);
        if next == state && world.broken.is_none() {
            return None;
        }
        world.operators[index].writes = Some(next);
        Some(())
    }

    fn write(&self, world: &mut World, index: usize) {
        let worker = std::mem::take(&mut world.operators[index]);
        let (Some(next), Some(state)) = (worker.writes, world.route.clone()) else { return };
        if worker.is_newest || self.operator == Operator::WritesUnconditionally {
            world.take_effect(&state, &next);
            // The operator knows what it has written.
            world.read(index);
        }
    }

    fn rebuild(&self, world: &mut World) {
        let reported = world.reported.clone();
        let forgets = self.operator == Operator::ForgetsRejectionsInRebuild;
        let remains = Remains {
            revisions: Vec::new(),
            stable: Some(reported.stable),
            rejected: if forgets { Vec::new() } else { reported.rejected },
            last_command: reported.last_command,
            standing: world.observation().command,
            transition: reported.transition,
        };
        let state = forgotten(rebuild(remains, REBUILD_AT).unwrap());
        if state.serving <= world.highest || state.transition <= reported.transition {
            world.broken = Some("numbers went back in a rebuild");
        }
        world.put(state);
    }
}

impl World {
    fn observation(&self) -> Observation {
        let replicas = self
            .acknowledged
            .iter()
            .map(|serving| LiveReplica { name: GATEWAY.clone(), serving: Some(*serving) });
        let (serving, counted) = self.evidence;
        let canary = match counted {
            Counted::Nothing => Tally::default(),
            Counted::Good => Tally { success: 1, ..Tally::default() },
            Counted::Bad => Tally { http: 20, ..Tally::default() },
        };
        Observation {
            desired: name(self.desired),
            policy: policy(),
            mode: Mode::Automatic,
            paused: self.paused,
            command: self.command.map(|verb| Command::new("c1", verb)),
            store: Some(StoreAnswer {
                epoch: EPOCH.clone(),
                at: Timestamp(self.at * 1000),
                replicas: replicas.collect(),
                evidence: vec![ServingTally { serving, stable: Tally::default(), canary }],
            }),
        }
    }

    fn read(&mut self, index: usize) {
        let worker = &mut self.operators[index];
        worker.read.clone_from(&self.route);
        worker.is_newest = true;
    }

    fn counted(&self, serving: u64) -> Counted {
        if self.evidence.0 == serving { self.evidence.1 } else { Counted::Nothing }
    }

    fn is_stable(&self, revision: u8) -> bool {
        self.route.as_ref().is_some_and(|state| {
            let split = state.split();
            *split.stable == name(revision) && split.canary.is_none()
        })
    }

    /// A write that takes effect: checked against what really happened, then in force.
    fn take_effect(&mut self, old: &State, new: &State) {
        self.broken = self.broken.or_else(|| self.fault(old, new));
        let retried = executed(new, "retry") && !executed(old, "retry");
        if retried {
            self.rejected.clear();
        }
        for rejection in &new.rejected {
            if !self.rejected.contains(&rejection.revision) {
                self.rejected.push(rejection.revision.clone());
            }
        }
        let split = new.split();
        if split.canary.into_iter().chain([split.stable]).any(|one| self.rejected.contains(one)) {
            self.broken = Some("a rejected revision got traffic");
        }
        self.put(new.clone());
    }

    fn put(&mut self, state: State) {
        if self.route.as_ref().is_none_or(|old| old.serving != state.serving) {
            self.in_force_since = None;
        }
        self.highest = self.highest.max(state.serving);
        self.route = Some(state);
        for worker in &mut self.operators {
            worker.is_newest = false;
        }
    }

    /// Whatever was not reported goes with the route; that much is declared.
    fn lose_route(&mut self) {
        self.losses += 1;
        self.route = None;
        for worker in &mut self.operators {
            worker.is_newest = false;
        }
        self.rejected = self.reported.rejected.iter().map(|one| one.revision.clone()).collect();
    }

    fn fault(&self, old: &State, new: &State) -> Option<&'static str> {
        if new.serving < old.serving || new.transition < old.transition {
            return Some("numbers went back");
        }
        if (old.split() != new.split()) != (old.serving != new.serving) {
            return Some("serving changed without weight or revisions, or they without it");
        }
        let held = self.in_force_since.is_some_and(|since| self.at - since >= HOLD_SECONDS);
        let moved = |index: usize| if held { index + 1 } else { index };
        match (&old.phase, &new.phase) {
            (Phase::Rolling(from), Phase::Rolling(to)) if from.canary != to.canary => {
                Some("a revision followed another without weight 0 between them")
            }
            (Phase::Rolling(from), Phase::Rolling(to)) => match (&from.stage, &to.stage) {
                (Stage::Step { index: from, .. }, Stage::Step { index: to, .. })
                    if *to > moved(*from) =>
                {
                    Some("a step was skipped or cut short")
                }
                _ => None,
            },
            (Phase::Clearing { .. }, Phase::Rolling(_)) if self.in_force_since.is_none() => {
                Some("a rollout started before weight 0 was acknowledged")
            }
            (_, Phase::Rolling(to)) if to.step_index() != Some(0) => {
                Some("a rollout did not start at its first step")
            }
            (Phase::Rolling(from), Phase::Stable { stable }) if *stable == from.canary => {
                let baked = from.step_index() == Some(2) && held;
                let good = self.counted(old.serving) == Counted::Good;
                (!(baked && good || executed(new, "promote-full")))
                    .then_some("a canary was promoted without a passed bake")
            }
            _ => None,
        }
    }
}

impl Reported {
    fn of(state: &State) -> Self {
        Self {
            stable: state.split().stable.clone(),
            rejected: state.rejected.clone(),
            last_command: state.last_command.clone(),
            transition: state.transition,
        }
    }
}

fn executed(state: &State, verb: &str) -> bool {
    matches!(
        &state.last_command,
        Some(CommandAnswer { verb: last, result: CommandResult::Executed, .. }) if last == verb
    )
}

/// Drops what no decision reads, so that equal situations are one state of the model.
fn forgotten(mut state: State) -> State {
    state.history.clear();
    for RejectedRevision { message, .. } in &mut state.rejected {
        message.clear();
    }
    state
}

fn name(number: u8) -> RevisionName {
    format!("r{number}").parse().unwrap()
}

fn policy() -> Policy {
    let step = |weight| Step { weight: Weight::new(weight).unwrap(), hold_seconds: 1 };
    Policy {
        steps: Steps::new([10, 50, 100].map(step).to_vec()).unwrap(),
        max_error_basis_points: 100,
        min_messages: 1,
        max_latency_ms: None,
        interval_seconds: 5,
        on_failure: OnFailure::Rollback,
        retry_on_stable: true,
        progress_deadline_seconds: 86_400,
    }
}

/// Little of everything; the tests below add what they are about.
fn calm(operator: Operator) -> Rollouts {
    Rollouts {
        operator,
        replicas: 1,
        edits: 0,
        ticks: 3,
        crashes: 0,
        losses: 0,
        pauses: 0,
        command: None,
    }
}

fn holds(model: Rollouts) {
    let whole = model.ticks >= 3;
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_no_discovery("nothing is broken");
    checker.assert_any_discovery("a canary is rolled back");
    if whole {
        checker.assert_any_discovery("a canary is promoted");
    }
}

fn breaks(model: Rollouts) -> &'static str {
    let checker = model.checker().threads(2).spawn_bfs().join();
    let path = checker.assert_any_discovery("nothing is broken");
    let actions = path.clone().into_actions();
    println!("{} states; {} actions: {actions:?}", checker.unique_state_count(), actions.len());
    path.into_states().pop().unwrap().broken.unwrap()
}

#[test]
fn it_holds_under_late_lost_and_competing_writes() {
    holds(Rollouts { crashes: 1, replicas: 2, ..calm(Operator::Right) });
}

#[test]
fn it_holds_when_the_spec_changes_at_any_moment() {
    holds(Rollouts { edits: 1, crashes: 1, ..calm(Operator::Right) });
    holds(Rollouts { edits: 2, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn it_holds_when_the_route_is_lost() {
    holds(Rollouts { losses: 1, ..calm(Operator::Right) });
    holds(Rollouts { losses: 1, edits: 1, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn it_holds_when_paused_and_resumed() {
    holds(Rollouts { pauses: 2, ..calm(Operator::Right) });
}

#[test]
fn it_holds_under_every_command() {
    for verb in ["retry", "abort", "promote-full"] {
        holds(Rollouts { command: Some(verb), ..calm(Operator::Right) });
    }
}

#[test]
fn a_standing_command_is_not_executed_again_after_a_loss() {
    holds(Rollouts { command: Some("retry"), losses: 1, ticks: 1, ..calm(Operator::Right) });
}

#[test]
fn an_unconditional_write_breaks_it() {
    breaks(calm(Operator::WritesUnconditionally));
}

#[test]
fn a_clock_that_starts_before_the_acknowledgement_breaks_it() {
    let fault = breaks(calm(Operator::StartsClockBeforeAcknowledgement));
    assert!(fault.contains("cut short") || fault.contains("without a passed bake"), "{fault}");
}

#[test]
fn a_rebuild_that_forgets_rejections_breaks_it() {
    let model = Rollouts { losses: 1, ..calm(Operator::ForgetsRejectionsInRebuild) };
    assert_eq!(breaks(model), "a rejected revision got traffic");
}

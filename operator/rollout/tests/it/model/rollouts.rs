//! What may happen in the world, in any order: the model that is checked.

use kanarie_rollout::analysis::Finding;
use kanarie_rollout::decide::decide;
use kanarie_rollout::rebuild::{Remains, rebuild};
use kanarie_rollout::state::{Phase, State};
use kanarie_words::timestamp::Timestamp;
use stateright::{Model, Property};

use crate::model::world::{Counted, Reported, Spec, Worker, World, forgotten, name};

/// The operators' clock at a rebuild: later than any number of this model.
const REBUILD_AT: Timestamp = Timestamp(1_000_000);

/// How the operator works; all but the first are broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Right,
    WritesUnconditionally,
    StartsClockBeforeAcknowledgement,
    ForgetsRejectionsInRebuild,
    ForgetsThatItSteppedBack,
    BelievesAnOlderSpec,
    BelievesARestoredRoute,
    CutsAtItsTrigger,
}

/// The operator and how much may happen.
#[derive(Clone, Debug)]
pub(crate) struct Rollouts {
    pub(crate) operator: Operator,
    pub(crate) replicas: usize,
    pub(crate) edits: u8,
    pub(crate) ticks: u64,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) restores: u8,
    /// Whether an operator may see the spec late.
    pub(crate) lags: bool,
    pub(crate) pauses: u8,
    pub(crate) command: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Read(usize),
    Decide(usize),
    Write(usize),
    Crash(usize),
    Report,
    LoseRoute,
    Watch(usize),
    Backup,
    Restore,
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
            backup: None,
            desired: 2,
            paused: false,
            command: None,
            at: 0,
            evidence: (0, Counted::Nothing),
            operators: std::array::from_fn(|_| Worker {
                spec: self.lags.then_some(Spec { generation: 1, desired: 2 }),
                ..Worker::default()
            }),
            edits: 0,
            crashes: 0,
            losses: 0,
            restores: 0,
            decided: 0,
            pauses: 0,
            in_force_since: Some(0),
            stepped_back: false,
            rejected: Vec::new(),
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        self.of_operators(world, actions);
        match &world.route {
            Some(state) => {
                let is_told = self.losses > world.losses || self.restores > world.restores;
                if is_told && world.reported != Reported::of(state) {
                    actions.push(Action::Report);
                }
                if world.losses < self.losses {
                    actions.push(Action::LoseRoute);
                }
                if world.restores < self.restores {
                    match &world.backup {
                        None => actions.push(Action::Backup),
                        // What happened just before, and was not reported, is lost with the route.
                        Some(backup)
                            if backup != state && world.reported.transition == state.transition =>
                        {
                            actions.push(Action::Restore);
                        }
                        Some(_) => {}
                    }
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
                let spec = next.operators[index].spec;
                next.operators[index] = Worker { spec, ..Worker::default() };
                next.crashes += 1;
            }
            Action::Report => next.reported = Reported::of(next.route.as_ref()?),
            Action::LoseRoute => next.lose_route(),
            Action::Watch(index) => next.operators[index].spec = Some(world.spec()),
            Action::Backup => next.backup.clone_from(&world.route),
            Action::Restore => next.restore(),
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
    fn of_operators(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, worker) in world.operators.iter().enumerate() {
            if worker.spec.is_some_and(|spec| spec != world.spec()) {
                actions.push(Action::Watch(index));
            }
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
    }

    fn decide(&self, world: &mut World, index: usize) -> Option<()> {
        let state = world.operators[index].read.clone()?;
        let mut seen = world.observation(index);
        let looked_at = seen.generation;
        if self.lags {
            world.operators[index].looked_at = looked_at;
        }
        let remains = self.remains(world);
        let believes = self.operator == Operator::BelievesARestoredRoute;
        if remains.are_newer_than(&state) && !believes {
            world.operators[index].writes = Some(forgotten(rebuild(remains, REBUILD_AT).ok()?));
            return Some(());
        }
        if self.operator == Operator::BelievesAnOlderSpec {
            seen.generation = state.generation;
        }
        if self.operator == Operator::StartsClockBeforeAcknowledgement {
            for replica in &mut seen.store.as_mut()?.replicas {
                replica.serving = Some(state.serving);
            }
        }
        let decision = decide(&state, &seen, Timestamp(world.at * 1000));
        let failed = decision.verdict.is_some_and(|verdict| verdict.finding == Finding::Fail);
        let mut next = forgotten(decision.next);
        if failed && next.split().weight >= state.split().weight {
            world.broken = Some("a failed verdict left a weight");
        }
        if let Phase::Rolling(rolling) = &mut next.phase {
            match self.operator {
                Operator::ForgetsThatItSteppedBack => rolling.stepped_back = false,
                Operator::CutsAtItsTrigger if world.counted(state.serving) == Counted::Bad => {
                    let steps = rolling.policy.steps.count();
                    rolling.segments.cut(1, steps);
                }
                _ => {}
            }
        }
        if next == state && world.broken.is_none() {
            return None;
        }
        world.operators[index].writes = Some(next);
        Some(())
    }

    fn write(&self, world: &mut World, index: usize) {
        let spec = world.operators[index].spec;
        let empty = Worker { spec, ..Worker::default() };
        let worker = std::mem::replace(&mut world.operators[index], empty);
        let (Some(next), Some(state)) = (worker.writes, world.route.clone()) else { return };
        if worker.is_newest || self.operator == Operator::WritesUnconditionally {
            world.take_effect(&state, &next, worker.looked_at);
            // The operator knows what it has written.
            world.read(index);
        }
    }

    /// What status tells, and the command that stands.
    fn remains(&self, world: &World) -> Remains {
        let reported = world.reported.clone();
        let forgets = self.operator == Operator::ForgetsRejectionsInRebuild;
        Remains {
            revisions: Vec::new(),
            stable: Some(reported.stable),
            stable_since: None,
            rejected: if forgets { Vec::new() } else { reported.rejected },
            last_command: reported.last_command,
            standing: world.observation(0).command,
            transition: reported.transition,
            generation: reported.generation,
        }
    }

    fn rebuild(&self, world: &mut World) {
        let state = forgotten(rebuild(self.remains(world), REBUILD_AT).unwrap());
        if state.serving <= world.highest || state.transition <= world.reported.transition {
            world.broken = Some("numbers went back in a rebuild");
        }
        world.put(state);
    }
}

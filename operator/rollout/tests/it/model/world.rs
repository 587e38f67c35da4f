//! The world as it really is: the route, what everybody knows of it, and what must never be.

use std::sync::LazyLock;

use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::order::Command;
use kanarie_rollout::policy::Policy;
use kanarie_rollout::state::{
    CommandAnswer, CommandResult, Phase, RejectedRevision, Rolling, Stage, State,
};
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::{CustomerTally, ServingTally, Tally};
use kanarie_words::ids::{EpochDigest, ReplicaName, RevisionName};
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;

const HOLD_SECONDS: u64 = 1;

/// Every replica is called so; only its `serving` matters.
static GATEWAY: LazyLock<ReplicaName> = LazyLock::new(|| "gateway".parse().unwrap());
static EPOCH: LazyLock<EpochDigest> = LazyLock::new(|| "epoch".parse().unwrap());

/// The world, and what is known of it for the invariants only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) route: Option<State>,
    /// A copy of the route that somebody has kept.
    pub(crate) backup: Option<State>,
    pub(crate) reported: Reported,
    pub(crate) desired: u8,
    pub(crate) paused: bool,
    pub(crate) command: Option<&'static str>,
    pub(crate) acknowledged: Vec<u64>,
    pub(crate) at: u64,
    pub(crate) evidence: (u64, Counted),
    pub(crate) operators: [Worker; 2],
    pub(crate) edits: u8,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) restores: u8,
    pub(crate) pauses: u8,
    /// Since when every replica has really acknowledged the route.
    pub(crate) in_force_since: Option<u64>,
    /// Newest spec for which anything was really decided.
    pub(crate) decided: u64,
    /// Highest `serving` that was ever written.
    pub(crate) highest: u64,
    /// Whether the rollout that runs has really been taken back to its first step.
    pub(crate) stepped_back: bool,
    /// Revisions that were really rejected.
    pub(crate) rejected: Vec<RevisionName>,
    pub(crate) broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    Nothing,
    Good,
    Bad,
}

/// The spec at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spec {
    pub(crate) generation: u64,
    pub(crate) desired: u8,
}

/// One operator: the spec as its watch last told, the route as it last read it, and a write on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    /// None for one whose watch never lags.
    pub(crate) spec: Option<Spec>,
    pub(crate) read: Option<State>,
    /// Whether nobody has written since: what comparing versions tells the API server.
    pub(crate) is_newest: bool,
    pub(crate) writes: Option<State>,
    /// Generation of the spec that was looked at for this write.
    pub(crate) looked_at: u64,
}

/// What status tells of the route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reported {
    pub(crate) stable: RevisionName,
    pub(crate) rejected: Vec<RejectedRevision>,
    pub(crate) last_command: Option<CommandAnswer>,
    pub(crate) transition: u64,
    pub(crate) generation: u64,
}

impl World {
    pub(crate) fn spec(&self) -> Spec {
        Spec { generation: u64::from(self.edits) + 1, desired: self.desired }
    }

    pub(crate) fn observation(&self, index: usize) -> Observation {
        let spec = self.operators[index].spec.unwrap_or_else(|| self.spec());
        let replicas = self
            .acknowledged
            .iter()
            .map(|serving| LiveReplica { name: GATEWAY.clone(), serving: Some(*serving) });
        let (serving, counted) = self.evidence;
        let canary = match counted {
            Counted::Nothing => Tally::default(),
            Counted::Good => {
                Tally { success: 100, customers: customers(100, 0), ..Tally::default() }
            }
            Counted::Bad => Tally { http: 20, customers: customers(20, 20), ..Tally::default() },
        };
        Observation {
            generation: spec.generation,
            desired: Some(name(spec.desired)),
            policy: policy(),
            mode: Mode::Automatic,
            paused: self.paused,
            rollback_window_seconds: 86_400,
            command: self.command.map(|text| Command::read(text, None)),
            store: Some(StoreAnswer {
                epoch: EPOCH.clone(),
                at: StoreTime(self.at * 1000),
                replicas: replicas.collect(),
                evidence: vec![ServingTally { serving, stable: self.stable(canary), canary }],
            }),
        }
    }

    /// As many customers of stable as the weight says.
    fn stable(&self, canary: Tally) -> Tally {
        let weight = self.route.as_ref().map_or(100, |state| state.split().weight.percent());
        let weight = u64::from(weight).max(1);
        let success = canary.messages() * (100 - weight) / weight;
        Tally { success, customers: customers(success, 0), ..Tally::default() }
    }

    pub(crate) fn read(&mut self, index: usize) {
        let worker = &mut self.operators[index];
        worker.read.clone_from(&self.route);
        worker.is_newest = true;
    }

    pub(crate) fn counted(&self, serving: u64) -> Counted {
        if self.evidence.0 == serving { self.evidence.1 } else { Counted::Nothing }
    }

    pub(crate) fn is_stable(&self, revision: u8) -> bool {
        self.route.as_ref().is_some_and(|state| {
            let split = state.split();
            *split.stable == name(revision) && split.canary.is_none()
        })
    }

    /// A write that takes effect: checked against what really happened, then in force.
    pub(crate) fn take_effect(&mut self, old: &State, new: &State, looked_at: u64) {
        self.broken = self.broken.or_else(|| self.fault(old, new));
        let begins = new.split().canary.is_some() && old.split().canary != new.split().canary;
        let ends = old.split().canary.is_some() && new.split().canary.is_none();
        let takes_off = ends && new.rejected == old.rejected;
        if looked_at < self.decided && (begins || takes_off) {
            self.broken = Some("an older spec decided something");
        }
        self.decided = self.decided.max(looked_at);
        let retried = executed(new, "retry") && !executed(old, "retry");
        if retried {
            self.rejected.clear();
        }
        for rejection in &new.rejected {
            if !self.rejected.contains(&rejection.revision) {
                self.rejected.push(rejection.revision.clone());
            }
        }
        self.stepped_back = match (&old.phase, &new.phase) {
            (Phase::Rolling(from), Phase::Rolling(to)) => {
                self.stepped_back || to.step_index() < from.step_index()
            }
            _ => false,
        };
        let split = new.split();
        if split.canary.into_iter().chain([split.stable]).any(|one| self.rejected.contains(one)) {
            self.broken = Some("a rejected revision got traffic");
        }
        self.put(new.clone());
    }

    pub(crate) fn put(&mut self, state: State) {
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
    pub(crate) fn lose_route(&mut self) {
        self.losses += 1;
        self.route = None;
        for worker in &mut self.operators {
            worker.is_newest = false;
        }
        self.rejected = self.reported.rejected.iter().map(|one| one.revision.clone()).collect();
    }

    /// The kept copy is the route again. Of rejections, those stay known that it or status tells.
    pub(crate) fn restore(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        if self.route.as_ref().is_none_or(|route| route.serving != backup.serving) {
            self.in_force_since = None;
        }
        self.lose_route();
        self.losses -= 1;
        self.restores += 1;
        for rejection in &backup.rejected {
            if !self.rejected.contains(&rejection.revision) {
                self.rejected.push(rejection.revision.clone());
            }
        }
        self.route = Some(backup);
    }

    fn fault(&self, old: &State, new: &State) -> Option<&'static str> {
        if new.serving < old.serving || new.transition < old.transition {
            return Some("numbers went back");
        }
        if old.transition < self.reported.transition {
            // The route was put back by somebody, and is made again.
            return (new.serving <= self.highest).then_some("numbers went back in a rebuild");
        }
        if (old.split() != new.split()) != (old.serving != new.serving) {
            return Some("serving changed without weight or revisions, or they without it");
        }
        let held = self.in_force_since.is_some_and(|since| self.at - since >= HOLD_SECONDS);
        let ordered = |verb| executed(new, verb) && !executed(old, verb);
        let moved = |index: usize| if held || ordered("promote") { index + 1 } else { index };
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
                (Stage::Step { index: from, .. }, Stage::Step { index: to, .. })
                    if to < from && self.stepped_back =>
                {
                    Some("a rollout was taken back to its first step twice")
                }
                // Steps are too short here for a second start.
                _ if starts(to, new.serving) > 1 => Some("a start was chosen by what was counted"),
                _ => None,
            },
            (Phase::Clearing { .. }, Phase::Rolling(_)) if self.in_force_since.is_none() => {
                Some("a rollout started before weight 0 was acknowledged")
            }
            (_, Phase::Rolling(to)) if to.step_index() != Some(0) => {
                Some("a rollout did not start at its first step")
            }
            (Phase::Rolling(from), Phase::Stable { stable, .. }) if *stable == from.canary => {
                let baked = from.is_baking() && held;
                let good = self.counted(old.serving) == Counted::Good;
                (!(baked && good || ordered("promote-full")))
                    .then_some("a canary was promoted without a passed bake")
            }
            _ => None,
        }
    }
}

impl Reported {
    pub(crate) fn of(state: &State) -> Self {
        Self {
            stable: state.split().stable.clone(),
            rejected: state.rejected.clone(),
            last_command: state.last_command.clone(),
            transition: state.transition,
            generation: state.generation,
        }
    }
}

/// Starts of the present serving from which on the canary may be bad.
fn starts(rolling: &Rolling, serving: u64) -> usize {
    let of = rolling.segments.as_slice().iter().filter(|one| one.serving == serving);
    of.filter(|one| one.mass > 0).count()
}

fn executed(state: &State, verb: &str) -> bool {
    matches!(
        &state.last_command,
        Some(CommandAnswer { verb: last, result: CommandResult::Executed, .. }) if last == verb
    )
}

/// Drops what no decision reads, so that equal situations are one state of the model.
pub(crate) fn forgotten(mut state: State) -> State {
    state.history.clear();
    for RejectedRevision { message, at, .. } in &mut state.rejected {
        message.clear();
        *at = Timestamp(0);
    }
    if let Some(answer) = &mut state.last_command {
        answer.at = Timestamp(0);
    }
    state
}

pub(crate) fn name(number: u8) -> RevisionName {
    format!("r{number}").parse().unwrap()
}

/// Stable rescues every customer that the canary fails.
fn customers(asked: u64, failed: u64) -> CustomerTally {
    CustomerTally { asked, failed, rescued: failed }
}

fn policy() -> Policy {
    let step = |weight| Step { weight: Weight::new(weight).unwrap(), hold_seconds: 1 };
    Policy {
        steps: Steps::new([10, 100].map(step).to_vec()).unwrap(),
        max_error_basis_points: 100,
        certify_basis_points: None,
        min_messages: 1,
        max_latency_ms: None,
        timeout_seconds: 0,
        interval_seconds: 5,
        on_failure: OnFailure::Rollback,
        retry_on_stable: true,
        progress_deadline_seconds: 86_400,
    }
}

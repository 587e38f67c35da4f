//! A channel told to `decide`: what is observed, what is remembered, and two clocks.

use kanarie_rollout::decide::{Decision, decide};
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::order::Command;
use kanarie_rollout::policy::Policy;
use kanarie_rollout::state::{CommandResult, State};
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::{CustomerTally, ServingTally, Tally};
use kanarie_words::ids::RevisionName;
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;

/// A channel, the gateways that serve it, and two clocks.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) seen: Observation,
    pub(crate) now: Timestamp,
    /// Whether replicas take up a route as soon as it is written.
    pub(crate) obedient: bool,
}

impl World {
    /// r1 is stable and the spec asks for `desired`.
    pub(crate) fn asking_for(desired: &str) -> Self {
        let now = Timestamp(1_000_000_000);
        let replicas = ["gateway-0", "gateway-1"]
            .map(|name| LiveReplica { name: name.parse().unwrap(), serving: Some(1) });
        Self {
            state: State::first(named("r1"), now),
            seen: Observation {
                generation: 0,
                desired: Some(named(desired)),
                policy: policy(),
                mode: Mode::Automatic,
                paused: false,
                rollback_window_seconds: 86_400,
                command: None,
                store: Some(StoreAnswer {
                    epoch: "e1".parse().unwrap(),
                    // The store's clock has nothing to do with the operator's.
                    at: StoreTime(5_000),
                    replicas: replicas.to_vec(),
                    evidence: Vec::new(),
                }),
            },
            now,
            obedient: true,
        }
    }

    /// A rollout of r2 whose first step is in force on every replica.
    pub(crate) fn rolling() -> Self {
        let mut world = Self::asking_for("r2");
        assert_eq!(world.reason(), "RolloutStarted");
        assert_eq!(world.reason(), "StepStarted");
        world
    }

    /// A rollout of r2 in its bake, its hold just begun.
    pub(crate) fn baking() -> Self {
        let mut world = Self::rolling();
        for _ in 0..2 {
            world.canary(100, 0);
            world.pass(7200);
            assert_eq!(world.reason(), "StepAdvanced");
            assert_eq!(world.reason(), "StepStarted");
        }
        world
    }

    pub(crate) fn store(&mut self) -> &mut StoreAnswer {
        self.seen.store.as_mut().unwrap()
    }

    pub(crate) fn decide(&mut self) -> Decision {
        let decision = decide(&self.state, &self.seen, self.now);
        self.state = decision.next.clone();
        if self.obedient && self.seen.store.is_some() {
            self.acknowledge();
        }
        decision
    }

    pub(crate) fn reason(&mut self) -> &'static str {
        self.decide().why.reason().as_str()
    }

    pub(crate) fn acknowledge(&mut self) {
        let serving = self.state.serving;
        for replica in &mut self.store().replicas {
            replica.serving = Some(serving);
        }
    }

    /// Lets time pass. In more than two minutes the operator looks once, a minute before their end.
    pub(crate) fn pass(&mut self, seconds: u64) {
        let holds = self.state.rolling().is_some_and(|rolling| rolling.hold().is_some());
        if seconds > 120 && holds {
            self.skip(seconds - 70);
            self.decide();
            self.skip(70);
        } else {
            self.skip(seconds);
        }
    }

    /// Lets time pass in which nobody looks.
    pub(crate) fn skip(&mut self, seconds: u64) {
        self.now.0 += seconds * 1000;
        if let Some(store) = &mut self.seen.store {
            store.at.0 += seconds * 1000;
        }
    }

    /// More of the present serving; every message is another customer's.
    pub(crate) fn count(&mut self, stable: Tally, canary: Tally) {
        let serving = self.state.serving;
        let (stable, canary) = (of_customers(stable), of_customers(canary));
        self.store().evidence.push(ServingTally { serving, stable, canary });
    }

    /// More of the canary, and as many of stable as the weight says, all of them good; stable rescues
    /// every customer that the canary fails.
    pub(crate) fn canary(&mut self, success: u64, http: u64) {
        let weight = u64::from(self.weight());
        let stable = (success + http) * (100 - weight) / weight.max(1);
        let canary = Tally { success, http, ..Tally::default() };
        self.count(Tally { success: stable, ..Tally::default() }, canary);
    }

    pub(crate) fn command(&mut self, text: &str) {
        self.seen.command = Some(Command::read(text, None));
    }

    pub(crate) fn weight(&self) -> u8 {
        self.state.split().weight.percent()
    }

    pub(crate) fn stable(&self) -> &str {
        self.state.split().stable.as_str()
    }

    pub(crate) fn answer(&self) -> (CommandResult, &str) {
        let answer = self.state.last_command.as_ref().unwrap();
        (answer.result, &answer.message)
    }
}

fn of_customers(tally: Tally) -> Tally {
    if tally.customers != CustomerTally::default() {
        return tally;
    }
    let (asked, failed) = (tally.messages(), tally.failures());
    Tally { customers: CustomerTally { asked, failed, rescued: failed }, ..tally }
}

pub(crate) fn named(revision: &str) -> RevisionName {
    revision.parse().unwrap()
}

pub(crate) fn step(weight: u8, hold_seconds: u32) -> Step {
    Step { weight: Weight::new(weight).unwrap(), hold_seconds }
}

pub(crate) fn policy() -> Policy {
    Policy {
        steps: Steps::new(vec![step(10, 3600), step(50, 7200), step(100, 3600)]).unwrap(),
        max_error_basis_points: 100,
        certify_basis_points: None,
        min_messages: 50,
        max_latency_ms: None,
        timeout_seconds: 0,
        interval_seconds: 5,
        on_failure: OnFailure::Rollback,
        retry_on_stable: true,
        progress_deadline_seconds: 86_400,
    }
}

pub(crate) fn manual(weight: u8) -> Mode {
    Mode::Manual(Weight::new(weight).unwrap())
}

//! A history: what happens around a rollout, drawn at random, and every decision in it.

use kanarie_rollout::decide::{Decision, decide};
use kanarie_rollout::moment::{Moment, StoreTime};
use kanarie_rollout::observation::{LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::order::Command;
use kanarie_rollout::policy::Policy;
use kanarie_rollout::state::State;
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::{CustomerTally, ServingTally, Tally};
use kanarie_words::ids::RevisionName;
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;
use proptest::collection;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// One thing that happens before the next look.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Desire(u8),
    Follow(Policy),
    Move(Mode),
    Pause(bool),
    Order(u8, &'static str, u8),
    Wait(u64, u64),
    Obey(bool),
    Restart,
    /// What was counted, or what is added to it by as many good customers of stable as the weight says.
    Count(Tally, Tally, bool),
    LoseCounts,
    /// Everything goes well for a while.
    Ripen,
    Disconnect(bool),
}

/// Everything around the state.
pub(crate) struct World {
    pub(crate) seen: Observation,
    pub(crate) store: StoreAnswer,
    pub(crate) connected: bool,
    pub(crate) now: Timestamp,
}

impl World {
    pub(crate) fn new(policy: Policy) -> Self {
        let replica = |name: &str| LiveReplica { name: name.parse().unwrap(), serving: Some(1) };
        Self {
            seen: Observation {
                generation: 0,
                desired: Some(revision(1)),
                policy,
                mode: Mode::Automatic,
                paused: false,
                rollback_window_seconds: 100,
                command: None,
                store: None,
            },
            store: StoreAnswer {
                epoch: "0".parse().unwrap(),
                at: StoreTime(0),
                replicas: vec![replica("a"), replica("b")],
                evidence: Vec::new(),
            },
            connected: true,
            now: Timestamp(0),
        }
    }

    pub(crate) fn happen(&mut self, event: &Event, state: &State) {
        match event.clone() {
            Event::Desire(number) => {
                self.seen.desired = (number > 0).then(|| revision(number));
            }
            Event::Follow(policy) => self.seen.policy = policy,
            Event::Move(mode) => self.seen.mode = mode,
            Event::Pause(paused) => self.seen.paused = paused,
            Event::Order(token, verb, about) => {
                let split = state.split();
                let text = match about {
                    0 => format!("{verb} #{token}"),
                    1 => format!("{verb} {} #{token}", split.canary.unwrap_or(split.stable)),
                    other => format!("{verb} {} #{token}", revision(other)),
                };
                self.seen.command = Some(Command::read(&text, Some("anna")));
            }
            Event::Wait(now, store) => {
                self.now = self.now.plus_seconds(u32::try_from(now).unwrap());
                self.store.at = StoreTime(self.store.at.0 + store * 1000);
            }
            Event::Obey(all) => {
                let count = if all { 2 } else { 1 };
                for replica in self.store.replicas.iter_mut().take(count) {
                    replica.serving = Some(state.serving);
                }
            }
            // A replica that has just come back holds no route yet.
            Event::Restart => self.store.replicas[1].serving = None,
            Event::Count(stable, canary, matches) => {
                let serving = state.serving;
                let weight = u128::from(state.split().weight.percent()).max(1);
                let as_many = u128::from(canary.messages()) * (100 - weight) / weight;
                let good = u64::try_from(as_many).unwrap_or(u64::MAX);
                let good = Tally { success: good, customers: of(good, 0), ..Tally::default() };
                let stable = if matches { good } else { stable };
                self.store.evidence.retain(|evidence| evidence.serving >= serving);
                self.store.evidence.push(ServingTally { serving, stable, canary });
            }
            Event::LoseCounts => {
                let losses: u64 = self.store.epoch.as_str().parse().unwrap();
                self.store.epoch = (losses + 1).to_string().parse().unwrap();
                self.store.evidence.clear();
            }
            Event::Ripen => {
                let good = of(400, 0);
                let canary = Tally { success: 400, customers: good, ..Tally::default() };
                for event in [
                    Event::Obey(true),
                    Event::Wait(200, 200),
                    Event::Count(Tally::default(), canary, true),
                ] {
                    self.happen(&event, state);
                }
            }
            Event::Disconnect(gone) => self.connected = !gone,
        }
        self.seen.store = self.connected.then(|| self.store.clone());
    }
}

/// One decision in a history, with what led to it.
pub(crate) struct Look {
    pub(crate) before: State,
    pub(crate) seen: Observation,
    pub(crate) now: Timestamp,
    pub(crate) decision: Decision,
    /// When every replica really had the present serving in force.
    pub(crate) in_force_since: Option<Moment>,
}

pub(crate) fn play(policy: &Policy, events: &[Event]) -> Vec<Look> {
    let mut world = World::new(policy.clone());
    let mut state = State::first(revision(1), Timestamp(0));
    let mut in_force: Option<(u64, Moment)> = None;
    let mut looks = Vec::new();
    for event in events {
        world.happen(event, &state);
        let serving = state.serving;
        if in_force.is_some_and(|(of, _)| of != serving) {
            in_force = None;
        }
        if in_force.is_none() && world.store.in_force(serving) {
            in_force = Some((serving, Moment { store: world.store.at, operator: world.now }));
        }
        let decision = decide(&state, &world.seen, world.now);
        let before = std::mem::replace(&mut state, decision.next.clone());
        let seen = world.seen.clone();
        let in_force_since = in_force.map(|(_, at)| at);
        looks.push(Look { before, seen, now: world.now, decision, in_force_since });
    }
    looks
}

pub(crate) fn revision(number: u8) -> RevisionName {
    format!("r{number}").parse().unwrap()
}

pub(crate) fn policies() -> impl Strategy<Value = Policy> {
    let weights = collection::btree_set(1_u8..100, 0..3);
    let holds = collection::vec(prop_oneof![Just(0_u32), 1_u32..100], 3);
    let judging = (0_u32..300, 0_u64..60, any::<bool>(), 1_u32..500, 0_u32..70);
    (weights, holds, judging).prop_map(
        |(weights, holds, (limit, min, pause, deadline, timeout))| {
            let weights = weights.into_iter().chain([100]);
            let steps = weights.zip(holds).map(|(weight, hold_seconds)| Step {
                weight: Weight::new(weight).unwrap(),
                hold_seconds,
            });
            Policy {
                steps: Steps::new(steps.collect()).unwrap(),
                max_error_basis_points: limit,
                certify_basis_points: None,
                min_messages: min,
                max_latency_ms: None,
                timeout_seconds: timeout,
                interval_seconds: 5,
                on_failure: if pause { OnFailure::Pause } else { OnFailure::Rollback },
                retry_on_stable: true,
                progress_deadline_seconds: deadline,
            }
        },
    )
}

pub(crate) fn tallies() -> impl Strategy<Value = Tally> {
    let tallies = prop_oneof![
        4 => (0_u64..400).prop_map(|success| Tally { success, ..Tally::default() }),
        2 => (0_u64..200, 0_u64..4)
            .prop_map(|(success, http)| Tally { success, http, ..Tally::default() }),
        1 => (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(success, slow, http)| Tally { success, slow, http, ..Tally::default() }),
    ];
    // As many customers as messages, or nonsense.
    (tallies, prop_oneof![9 => Just(None), 1 => any::<[u64; 3]>().prop_map(Some)]).prop_map(
        |(tally, odd)| {
            let usual = of(tally.messages(), tally.failures());
            let odd = odd.map(|[asked, failed, rescued]| CustomerTally { asked, failed, rescued });
            Tally { customers: odd.unwrap_or(usual), ..tally }
        },
    )
}

/// Every customer that the canary failed was rescued.
fn of(asked: u64, failed: u64) -> CustomerTally {
    CustomerTally { asked, failed, rescued: failed }
}

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let mode = prop_oneof![
        2 => Just(Mode::Automatic),
        1 => Just(Mode::Manual(Weight::FULL)),
        1 => (0_u8..=100).prop_map(|weight| Mode::Manual(Weight::new(weight).unwrap())),
    ];
    let verb = prop_oneof![
        Just("retry"),
        Just("abort"),
        Just("promote"),
        Just("promote-full"),
        Just("undo"),
        Just("dance")
    ];
    let event = prop_oneof![
        4 => (0_u8..5).prop_map(Event::Desire),
        1 => policies().prop_map(Event::Follow),
        1 => mode.prop_map(Event::Move),
        1 => any::<bool>().prop_map(Event::Pause),
        2 => (0_u8..4, verb, prop_oneof![1 => 0_u8..5, 4 => Just(1)])
            .prop_map(|(token, verb, about)| Event::Order(token, verb, about)),
        8 => (0_u64..200, 0_u64..200).prop_map(|(now, store)| Event::Wait(now, store)),
        12 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Event::Obey),
        10 => (tallies(), tallies(), prop_oneof![4 => Just(true), 1 => Just(false)])
            .prop_map(|(stable, canary, matches)| Event::Count(stable, canary, matches)),
        1 => Just(Event::Restart),
        1 => Just(Event::LoseCounts),
        6 => Just(Event::Ripen),
        1 => prop_oneof![1 => Just(true), 3 => Just(false)].prop_map(Event::Disconnect),
    ];
    collection::vec(event, 1..80)
}

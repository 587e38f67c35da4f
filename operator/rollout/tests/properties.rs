//! What holds for every history that anybody can think of: random specs, policies, commands,
//! clocks and counts against the real `decide`, starting from any state that it can reach.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use kanarie_rollout::analysis::Finding;
use kanarie_rollout::bounds::{MAX_HISTORY, MAX_REJECTED};
use kanarie_rollout::decide::{Decision, decide};
use kanarie_rollout::observation::{Command, LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::policy::Policy;
use kanarie_rollout::state::{CommandResult, Phase, Stage, State};
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::{ServingTally, Tally};
use kanarie_words::ids::RevisionName;
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{collection, option, prop_assert, prop_assert_eq, proptest};

/// One thing that happens before the next look.
#[derive(Clone, Debug)]
enum Event {
    Desire(u8),
    Follow(Policy),
    Move(Mode),
    Pause(bool),
    Order(u8, &'static str),
    Wait(u64, u64),
    Obey(bool),
    Restart,
    Count(Tally, Tally),
    LoseCounts,
    Disconnect(bool),
}

/// Everything around the state.
struct World {
    seen: Observation,
    store: StoreAnswer,
    connected: bool,
    now: Timestamp,
}

impl World {
    fn new(policy: Policy) -> Self {
        let replica = |name: &str| LiveReplica { name: name.parse().unwrap(), serving: Some(1) };
        Self {
            seen: Observation {
                desired: revision(1),
                policy,
                mode: Mode::Automatic,
                paused: false,
                command: None,
                store: None,
            },
            store: StoreAnswer {
                epoch: "0".parse().unwrap(),
                at: Timestamp(0),
                replicas: vec![replica("a"), replica("b")],
                evidence: Vec::new(),
            },
            connected: true,
            now: Timestamp(0),
        }
    }

    fn happen(&mut self, event: &Event, state: &State) {
        match event.clone() {
            Event::Desire(number) => self.seen.desired = revision(number),
            Event::Follow(policy) => self.seen.policy = policy,
            Event::Move(mode) => self.seen.mode = mode,
            Event::Pause(paused) => self.seen.paused = paused,
            Event::Order(id, verb) => {
                self.seen.command = Some(Command::new(&id.to_string(), verb));
            }
            Event::Wait(now, store) => {
                self.now = self.now.plus_seconds(u32::try_from(now).unwrap());
                self.store.at = Timestamp(self.store.at.0 + store * 1000);
            }
            Event::Obey(all) => {
                let count = if all { 2 } else { 1 };
                for replica in self.store.replicas.iter_mut().take(count) {
                    replica.serving = Some(state.serving);
                }
            }
            // A replica that has just come back holds no route yet.
            Event::Restart => self.store.replicas[1].serving = None,
            Event::Count(stable, canary) => {
                let serving = state.serving;
                self.store.evidence.retain(|evidence| evidence.serving >= serving);
                self.store.evidence.push(ServingTally { serving, stable, canary });
            }
            Event::LoseCounts => {
                let losses: u64 = self.store.epoch.as_str().parse().unwrap();
                self.store.epoch = (losses + 1).to_string().parse().unwrap();
                self.store.evidence.clear();
            }
            Event::Disconnect(gone) => self.connected = !gone,
        }
        self.seen.store = self.connected.then(|| self.store.clone());
    }
}

/// One decision in a history, with what led to it.
struct Look {
    before: State,
    seen: Observation,
    now: Timestamp,
    decision: Decision,
    /// When every replica really had the present serving in force, on the store's clock.
    in_force_since: Option<Timestamp>,
}

fn play(policy: &Policy, events: &[Event]) -> Vec<Look> {
    let mut world = World::new(policy.clone());
    let mut state = State::first(revision(1), Timestamp(0));
    let mut in_force: Option<(u64, Timestamp)> = None;
    let mut looks = Vec::new();
    for event in events {
        world.happen(event, &state);
        let serving = state.serving;
        if in_force.is_some_and(|(of, _)| of != serving) {
            in_force = None;
        }
        if in_force.is_none() && world.store.in_force(serving) {
            in_force = Some((serving, world.store.at));
        }
        let decision = decide(&state, &world.seen, world.now);
        let before = std::mem::replace(&mut state, decision.next.clone());
        let seen = world.seen.clone();
        let in_force_since = in_force.map(|(_, at)| at);
        looks.push(Look { before, seen, now: world.now, decision, in_force_since });
    }
    looks
}

fn revision(number: u8) -> RevisionName {
    format!("r{number}").parse().unwrap()
}

fn policies() -> impl Strategy<Value = Policy> {
    let weights = collection::btree_set(1_u8..100, 0..3);
    let holds = collection::vec(prop_oneof![Just(0_u32), 1_u32..100], 3);
    let judging = (0_u32..300, 0_u64..60, any::<bool>(), 1_u32..500);
    (weights, holds, judging).prop_map(|(weights, holds, (limit, min, pause, deadline))| {
        let weights = weights.into_iter().chain([100]);
        let steps = weights.zip(holds).map(|(weight, hold_seconds)| Step {
            weight: Weight::new(weight).unwrap(),
            hold_seconds,
        });
        Policy {
            steps: Steps::new(steps.collect()).unwrap(),
            max_error_basis_points: limit,
            min_messages: min,
            max_latency_ms: None,
            interval_seconds: 5,
            on_failure: if pause { OnFailure::Pause } else { OnFailure::Rollback },
            retry_on_stable: true,
            progress_deadline_seconds: deadline,
        }
    })
}

fn tallies() -> impl Strategy<Value = Tally> {
    prop_oneof![
        4 => (0_u64..200).prop_map(|success| Tally { success, ..Tally::default() }),
        2 => (0_u64..200, 0_u64..4)
            .prop_map(|(success, http)| Tally { success, http, ..Tally::default() }),
        1 => (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(success, slow, http)| Tally { success, slow, http, ..Tally::default() }),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let mode = prop_oneof![
        2 => Just(Mode::Automatic),
        1 => Just(Mode::Manual(Weight::FULL)),
        1 => (0_u8..=100).prop_map(|weight| Mode::Manual(Weight::new(weight).unwrap())),
    ];
    let verb = prop_oneof![Just("retry"), Just("abort"), Just("promote-full"), Just("dance")];
    let event = prop_oneof![
        4 => (1_u8..5).prop_map(Event::Desire),
        1 => policies().prop_map(Event::Follow),
        1 => mode.prop_map(Event::Move),
        1 => any::<bool>().prop_map(Event::Pause),
        2 => (0_u8..4, verb).prop_map(|(id, verb)| Event::Order(id, verb)),
        8 => (0_u64..200, 0_u64..200).prop_map(|(now, store)| Event::Wait(now, store)),
        12 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Event::Obey),
        8 => (tallies(), tallies()).prop_map(|(stable, canary)| Event::Count(stable, canary)),
        1 => Just(Event::Restart),
        1 => Just(Event::LoseCounts),
        1 => prop_oneof![1 => Just(true), 3 => Just(false)].prop_map(Event::Disconnect),
    ];
    collection::vec(event, 1..80)
}

proptest! {
    #[test]
    fn numbers_never_go_back_and_serving_grows_only_with_weight_or_revisions(
        policy in policies(), events in events()
    ) {
        for Look { before, decision, .. } in play(&policy, &events) {
            let changed = before.split() != decision.next.split();
            prop_assert_eq!(decision.next.serving, before.serving + u64::from(changed));
            prop_assert!(decision.next.transition >= before.transition);
            prop_assert!(!changed || decision.next.transition > before.transition);
        }
    }

    #[test]
    fn every_transition_has_a_reason_and_is_remembered(policy in policies(), events in events()) {
        for Look { before, decision, now, .. } in play(&policy, &events) {
            let Decision { next, why, .. } = decision;
            prop_assert!(next.transition <= before.transition + 1);
            if next.transition > before.transition {
                prop_assert_eq!(&next.history[0].reason, why.reason().as_str());
                prop_assert_eq!(next.history[0].number, next.transition);
                prop_assert_eq!(next.history[0].at, now);
            }
            prop_assert!(!why.to_string().is_empty());
        }
    }

    #[test]
    fn a_failed_verdict_means_weight_0_in_that_very_decision(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            let failed = decision.verdict.as_ref().is_some_and(|it| it.finding == Finding::Fail);
            let running = before.rolling();
            let rollback = running.is_some_and(|it| it.policy.on_failure == OnFailure::Rollback);
            if failed && rollback && seen.mode == Mode::Automatic {
                prop_assert_eq!(decision.next.split().weight, Weight::ZERO);
                prop_assert_eq!(decision.next.split().stable, before.split().stable);
                let canary = &running.unwrap().canary;
                prop_assert!(decision.next.rejection(canary).is_some());
            }
        }
    }

    #[test]
    fn a_rejected_revision_gets_no_traffic_until_retry(policy in policies(), events in events()) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            let next = decision.next;
            let split = next.split();
            for one in split.canary.into_iter().chain([split.stable]) {
                prop_assert!(next.rejection(one).is_none(), "{} has traffic", one);
            }
            let forgotten =
                before.rejected.iter().any(|it| next.rejection(&it.revision).is_none());
            if forgotten {
                let answer = next.last_command.as_ref().unwrap();
                prop_assert_eq!(&answer.verb, "retry");
                prop_assert_eq!(answer.result, CommandResult::Executed);
                prop_assert_eq!(&answer.id, &seen.command.as_ref().unwrap().id);
                prop_assert!(before.last_command.as_ref() != Some(answer));
            }
        }
    }

    #[test]
    fn no_step_is_skipped_upward_or_left_before_its_hold_has_run(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, in_force_since, .. } in play(&policy, &events) {
            let (Some(from), Some(to)) = (before.rolling(), decision.next.rolling()) else {
                continue;
            };
            prop_assert_eq!(&from.canary, &to.canary);
            let (Some(left), Some(reached)) = (from.step_index(), to.step_index()) else {
                continue;
            };
            prop_assert!(reached <= left + 1);
            if reached > left {
                let held = seen.store.as_ref().unwrap().at.millis_since(in_force_since.unwrap());
                let hold = from.policy.steps.get(left).unwrap().hold_seconds;
                prop_assert!(held >= u64::from(hold) * 1000);
                prop_assert!(seen.store.unwrap().in_force(before.serving));
                prop_assert!(!seen.paused);
                prop_assert_eq!(decision.verdict.unwrap().finding, Finding::Pass);
            }
        }
    }

    #[test]
    fn promotion_follows_a_passed_bake_or_a_persons_word(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, in_force_since, .. } in play(&policy, &events) {
            let (old, new) = (before.split(), decision.next.split());
            if old.stable == new.stable {
                continue;
            }
            let manual = seen.mode == Mode::Manual(Weight::FULL);
            let ordered = decision.why.reason().as_str() == "PromotedInFull";
            if manual || ordered {
                continue;
            }
            let from = before.rolling().unwrap();
            let bake = from.policy.steps.count() - 1;
            prop_assert_eq!(from.step_index(), Some(bake));
            prop_assert_eq!(decision.verdict.unwrap().finding, Finding::Pass);
            let held = seen.store.unwrap().at.millis_since(in_force_since.unwrap());
            let hold = from.policy.steps.get(bake).unwrap().hold_seconds;
            prop_assert!(held >= u64::from(hold) * 1000);
            prop_assert_eq!(new.stable, &from.canary);
        }
    }

    #[test]
    fn without_an_answer_of_the_store_the_weight_never_rises_by_itself(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            let started = before.rolling().is_none();
            let ordered = decision.why.reason().as_str() == "PromotedInFull";
            if seen.store.is_none() && seen.mode == Mode::Automatic && !started && !ordered {
                let below_first = matches!(
                    before.rolling().unwrap().stage,
                    Stage::Manual { .. }
                );
                let (old, new) = (before.split(), decision.next.split());
                prop_assert!(new.weight <= old.weight || below_first);
                prop_assert_eq!(new.stable, old.stable);
            }
        }
    }

    #[test]
    fn a_newer_revision_starts_only_after_weight_0_is_in_force(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            if matches!(before.phase, Phase::Clearing { .. })
                && before.split() != decision.next.split()
            {
                prop_assert!(seen.store.unwrap().in_force(before.serving));
            }
            if let (Some(old), Some(new)) =
                (before.split().canary, decision.next.split().canary)
            {
                prop_assert_eq!(old, new);
            }
        }
    }

    #[test]
    fn traffic_goes_only_to_revisions_that_were_asked_for(
        policy in policies(), events in events()
    ) {
        let mut known = vec![revision(1)];
        for Look { seen, decision, .. } in play(&policy, &events) {
            known.push(seen.desired);
            let split = decision.next.split();
            for one in split.canary.into_iter().chain([split.stable]) {
                prop_assert!(known.contains(one));
            }
        }
    }

    #[test]
    fn deciding_again_on_unchanged_facts_settles_and_then_changes_nothing(
        policy in policies(), events in events()
    ) {
        for Look { seen, now, decision, .. } in play(&policy, &events) {
            let mut state = decision.next;
            // Answer, start or resume, clock, up to three steps with a hold of nothing, promotion.
            for _ in 0..12 {
                state = decide(&state, &seen, now).next;
            }
            let settled = decide(&state, &seen, now);
            prop_assert_eq!(&settled.next, &state);
            prop_assert_eq!(decide(&settled.next, &seen, now), settled);
        }
    }

    #[test]
    fn each_command_is_answered_in_the_next_decision_and_never_again(
        policy in policies(), events in events()
    ) {
        for Look { before, seen, decision, .. } in play(&policy, &events) {
            let Some(command) = &seen.command else { continue };
            let answer = decision.next.last_command.as_ref().unwrap();
            prop_assert_eq!(&answer.id, &command.id);
            prop_assert!(answer.message.contains(' '));
            if before.last_command.as_ref().is_some_and(|it| it.id == command.id) {
                prop_assert_eq!(before.last_command.as_ref().unwrap(), answer);
            }
        }
    }

    #[test]
    fn a_snapshot_of_the_policy_never_changes_while_its_rollout_runs(
        policy in policies(), events in events()
    ) {
        for Look { before, decision, .. } in play(&policy, &events) {
            if let (Some(old), Some(new)) = (before.rolling(), decision.next.rolling()) {
                prop_assert_eq!(&old.policy, &new.policy);
            }
        }
    }

    #[test]
    fn a_record_replays_to_the_same_decisions(policy in policies(), events in events()) {
        let looks = play(&policy, &events);
        let record: Vec<String> = looks
            .iter()
            .map(|look| serde_json::to_string(&(&look.seen, look.now)).unwrap())
            .collect();
        let mut state = State::first(revision(1), Timestamp(0));
        for (line, look) in record.iter().zip(&looks) {
            let (seen, now): (Observation, Timestamp) = serde_json::from_str(line).unwrap();
            let written = serde_json::to_string(&state).unwrap();
            let read: State = serde_json::from_str(&written).unwrap();
            let decision = decide(&read, &seen, now);
            prop_assert_eq!(&decision, &look.decision);
            state = decision.next;
        }
    }

    #[test]
    fn a_state_stays_within_its_bounds(policy in policies(), events in events()) {
        for Look { decision, .. } in play(&policy, &events) {
            let next = decision.next;
            prop_assert!(next.rejected.len() <= MAX_REJECTED);
            prop_assert!(next.history.len() <= MAX_HISTORY);
            prop_assert!(next.rolling().is_none_or(|it| it.finished.len() <= 101));
        }
    }

    #[test]
    fn any_steps_are_refused_or_rise_to_100(
        raw in collection::vec((0_u8..=100, any::<u32>()), 0..25), weight in 0_u8..=100
    ) {
        let steps = raw.iter().map(|&(weight, hold_seconds)| Step {
            weight: Weight::new(weight).unwrap(),
            hold_seconds,
        });
        if let Ok(steps) = Steps::new(steps.collect()) {
            let weights: Vec<u8> =
                steps.as_slice().iter().map(|step| step.weight.percent()).collect();
            prop_assert!(weights.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(weights.last(), Some(&100));
            let weight = Weight::new(weight).unwrap();
            let landed = steps.get(steps.highest_not_over(weight)).unwrap().weight;
            prop_assert!(landed <= weight || steps.highest_not_over(weight) == 0);
        }
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(2_000))]

    #[test]
    fn any_counts_clocks_and_replicas_are_decided_without_panic(
        counts in (tallies(), tallies()),
        clocks in (any::<u64>(), any::<u64>(), any::<u64>()),
        acknowledged in collection::vec(option::of(0_u64..4), 0..3),
        limit in any::<u32>(),
        hold in any::<u32>(),
    ) {
        let (now, at, then) = clocks;
        let step = |weight, hold_seconds| Step { weight: Weight::new(weight).unwrap(), hold_seconds };
        let policy = Policy {
            steps: Steps::new(vec![step(80, hold), step(100, hold)]).unwrap(),
            max_error_basis_points: limit,
            min_messages: u64::from(hold),
            max_latency_ms: None,
            interval_seconds: limit,
            on_failure: OnFailure::Rollback,
            retry_on_stable: false,
            progress_deadline_seconds: limit,
        };
        let mut world = World::new(policy);
        world.seen.desired = revision(2);
        let mut state = State::first(revision(1), Timestamp(then));
        for (now, at) in [(then, then), (now, at), (at, now), (u64::MAX, 0), (0, u64::MAX)] {
            let replicas = acknowledged.iter().map(|serving| LiveReplica {
                name: "gateway-0".parse().unwrap(),
                serving: *serving,
            });
            world.store.replicas = replicas.collect();
            world.store.at = Timestamp(at);
            let evidence = ServingTally { serving: state.serving, stable: counts.0, canary: counts.1 };
            world.store.evidence = vec![evidence, evidence];
            world.seen.store = Some(world.store.clone());
            state = decide(&state, &world.seen, Timestamp(now)).next;
        }
    }
}

/// The histories above are worth nothing if nothing happens in them.
#[test]
fn histories_reach_promotion_rollback_and_most_other_reasons() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reasons = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        let policy = policies().new_tree(&mut runner).unwrap().current();
        let events = events().new_tree(&mut runner).unwrap().current();
        reasons.extend(play(&policy, &events).iter().map(|it| it.decision.why.reason().as_str()));
    }
    for reason in [
        "RolloutStarted",
        "StepStarted",
        "StepAdvanced",
        "Completed",
        "RolledBack",
        "Reverted",
        "Superseded",
        "Aborted",
        "Retried",
        "PromotedInFull",
        "ManuallyPromoted",
        "Paused",
        "Resumed",
        "WeightSet",
        "ModeChanged",
        "EvidenceLost",
        "DeadlineExceeded",
        "PausedOnFailure",
        "WaitingForGateways",
        "WaitingForEvidence",
        "WaitingForTraffic",
        "Holding",
        "ErrorRateTooHigh",
        "SharedDegradation",
        "AwaitingPromotion",
    ] {
        assert!(reasons.contains(reason), "{reason} never happens");
    }
}

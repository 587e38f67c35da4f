//! What is remembered, answered and bounded, and that no numbers break it.

use kanarie_rollout::bounds::{MAX_HISTORY, MAX_LOOKS, MAX_REJECTED, MAX_SEGMENTS};
use kanarie_rollout::decide::{Decision, decide};
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, Observation};
use kanarie_rollout::order::Command;
use kanarie_rollout::policy::Policy;
use kanarie_rollout::state::State;
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::ServingTally;
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;
use proptest::prelude::{Strategy as _, any, prop_oneof};
use proptest::{collection, option, prop_assert, prop_assert_eq, proptest};

use crate::properties::history::{Look, World, events, play, policies, revision, tallies};

proptest! {
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
            if before.last_command.as_ref().is_some_and(|it| command.is_answered_by(it)) {
                prop_assert_eq!(before.last_command.as_ref().unwrap(), answer);
            }
        }
    }

    #[test]
    fn any_text_is_a_command_that_is_answered_within_its_bounds(
        text in prop_oneof!["\\PC*", "[a-z-]{0,12}( #?[a-z0-9-]{0,80}){0,4}", any::<String>()],
        actor in option::of(any::<String>()),
        rolls in any::<bool>(),
    ) {
        let mut world = World::new(one_step());
        world.seen.desired = Some(revision(if rolls { 2 } else { 1 }));
        world.seen.store = Some(world.store.clone());
        let started = decide(&State::first(revision(1), Timestamp(0)), &world.seen, Timestamp(0)).next;
        prop_assert_eq!(started.rolling().is_some(), rolls);
        let command = Command::read(&text, actor.as_deref());
        world.seen.command = Some(command.clone());
        let next = decide(&started, &world.seen, Timestamp(1)).next;
        if command.id.is_empty() {
            prop_assert_eq!(next.last_command, None);
        } else {
            let answer = next.last_command.clone().unwrap();
            prop_assert!(command.is_answered_by(&answer) && answer.message.contains(' '));
            let written = serde_json::to_string(&answer).unwrap();
            prop_assert!(written.len() <= 128 + 16 + 64 + 240 + 128, "{}", written);
            prop_assert_eq!(decide(&next, &world.seen, Timestamp(1)).next.last_command, Some(answer));
        }
    }

    /// Scenario 08: whatever is edited, a rollout keeps the policy that it started with.
    #[test]
    fn scenario_08_a_snapshot_of_the_policy_never_changes_while_its_rollout_runs(
        policy in policies(), events in events()
    ) {
        for Look { before, decision, .. } in play(&policy, &events) {
            if let (Some(old), Some(new)) = (before.rolling(), decision.next.rolling()) {
                prop_assert_eq!(&old.policy, &new.policy);
            }
        }
    }

    /// Scenario 25: what was recorded is decided the same way again, bit for bit.
    #[test]
    fn scenario_25_a_record_replays_to_the_same_decisions(policy in policies(), events in events()) {
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
            let rolling = next.rolling();
            let segments = rolling.map(|it| it.segments.as_slice());
            prop_assert!(segments.is_none_or(|all| all.len() <= MAX_SEGMENTS));
            prop_assert!(segments.is_none_or(|all| all.iter().any(|one| one.mass > 0)));
            let hold = rolling.and_then(|it| it.hold());
            prop_assert!(hold.is_none_or(|it| it.looks.len() <= MAX_LOOKS));
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
            certify_basis_points: Some(hold),
            min_messages: u64::from(hold),
            max_latency_ms: None,
            timeout_seconds: hold,
            interval_seconds: limit,
            on_failure: OnFailure::Rollback,
            retry_on_stable: false,
            progress_deadline_seconds: limit,
        };
        let mut world = World::new(policy);
        world.seen.desired = Some(revision(2));
        let mut state = State::first(revision(1), Timestamp(then));
        for (now, at) in [(then, then), (now, at), (at, now), (u64::MAX, 0), (0, u64::MAX)] {
            let replicas = acknowledged.iter().map(|serving| LiveReplica {
                name: "gateway-0".parse().unwrap(),
                serving: *serving,
            });
            world.store.replicas = replicas.collect();
            world.store.at = StoreTime(at);
            let evidence = ServingTally { serving: state.serving, stable: counts.0, canary: counts.1 };
            world.store.evidence = vec![evidence, evidence];
            world.seen.store = Some(world.store.clone());
            state = decide(&state, &world.seen, Timestamp(now)).next;
        }
    }
}

fn one_step() -> Policy {
    Policy {
        steps: Steps::new(vec![Step { weight: Weight::FULL, hold_seconds: 60 }]).unwrap(),
        max_error_basis_points: 100,
        certify_basis_points: None,
        min_messages: 50,
        max_latency_ms: None,
        timeout_seconds: 60,
        interval_seconds: 5,
        on_failure: OnFailure::Rollback,
        retry_on_stable: true,
        progress_deadline_seconds: 60,
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
    let expected = [
        "RolloutStarted",
        "StepStarted",
        "StepAdvanced",
        "Completed",
        "RolledBack",
        "SteppedBack",
        "Undone",
        "WaitingForAnswers",
        "RecentFailures",
        "SampleRatioMismatch",
        "StepRestarted",
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
    ];
    let missing: Vec<&str> = expected.into_iter().filter(|it| !reasons.contains(it)).collect();
    assert!(missing.is_empty(), "{missing:?} never happen");
}

//! What a step must show before it passes, and when its counts are old enough to say so.

use kanarie_rollout::steps::Steps;
use kanarie_rollout::tally::{CustomerTally, Tally};

use crate::stories::world::{World, step};

/// A rollout whose agents have so many seconds for an answer.
fn rolling_with(timeout_seconds: u32, hold_seconds: u32) -> World {
    let mut world = World::asking_for("r2");
    world.seen.policy.timeout_seconds = timeout_seconds;
    world.seen.policy.steps = Steps::new(vec![step(10, hold_seconds), step(100, 60)]).unwrap();
    world.decide();
    world.decide();
    world
}

#[test]
fn seventy_three_messages_without_a_failure_exclude_five_percent() {
    let mut world = World::rolling();
    world.canary(72, 0);
    world.pass(3600);
    let decision = world.decide();
    assert_eq!(decision.why.reason().as_str(), "WaitingForTraffic");
    let numbers = decision.verdict.unwrap().numbers;
    assert_eq!((numbers.missing, numbers.missing_seconds), (1, Some(50)));
    world.canary(1, 0);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn what_is_to_be_excluded_is_the_policys() {
    for (certify, messages) in [(1_000, 32), (2_000, 15)] {
        let mut world = World::asking_for("r2");
        world.seen.policy.certify_basis_points = Some(certify);
        world.seen.policy.min_messages = 1;
        world.decide();
        world.decide();
        world.canary(messages - 1, 0);
        world.pass(3600);
        assert_eq!(world.reason(), "WaitingForTraffic");
        world.canary(1, 0);
        assert_eq!(world.reason(), "StepAdvanced");
    }
}

/// Scenario 16: too few messages do not advance a step; how many are missing and when they will have come is told.
#[test]
fn scenario_16_what_is_missing_is_told_with_what_is_excluded_and_when_it_comes() {
    let mut world = World::rolling();
    world.canary(36, 0);
    world.pass(3600);
    let text = world.decide().why.to_string();
    assert!(text.contains("excludes 8.91 %"), "{text}");
    assert!(text.contains("37 messages missing to exclude 5 %, in about 3700 s"), "{text}");
}

#[test]
fn an_answer_counts_once_what_was_asked_with_it_has_ended() {
    let mut world = rolling_with(60, 3600);
    world.pass(3590);
    world.canary(500, 0);
    assert_eq!(world.reason(), "Holding");
    world.pass(10);
    assert_eq!(world.reason(), "WaitingForAnswers");
    world.pass(49);
    assert_eq!(world.reason(), "WaitingForAnswers");
    world.pass(1);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn failures_that_end_late_keep_a_step_from_passing() {
    let mut world = rolling_with(60, 0);
    world.canary(140, 0);
    assert_eq!(world.reason(), "WaitingForAnswers");
    world.pass(60);
    let timeout = Tally { timeout: 60, ..Tally::default() };
    world.count(Tally { success: 60 * 9, ..Tally::default() }, timeout);
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn a_hold_shorter_than_the_agents_deadline_passes_at_the_deadline() {
    let mut world = rolling_with(60, 5);
    world.canary(140, 0);
    assert_eq!(world.reason(), "Holding");
    world.pass(59);
    assert_eq!(world.reason(), "WaitingForAnswers");
    world.pass(1);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn nothing_passes_while_lately_the_rate_is_over_the_limit() {
    let mut world = rolling_with(5, 3600);
    world.canary(5_000, 0);
    world.pass(3540);
    world.decide();
    world.pass(58);
    world.canary(0, 2);
    world.decide();
    world.pass(2);
    assert_eq!(world.reason(), "RecentFailures");
    world.pass(60);
    world.canary(10, 0);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn a_noisy_channel_passes_by_comparison_with_its_stable_revision() {
    let mut world = World::rolling();
    let noisy = |messages: u64| Tally {
        success: messages - messages / 50,
        http: messages / 50,
        ..Tally::default()
    };
    world.count(noisy(9_000), noisy(1_000));
    world.pass(3600);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn a_repair_of_a_broken_stable_revision_lands() {
    let mut world = World::rolling();
    world.count(
        Tally { success: 630, http: 270, ..Tally::default() },
        Tally { success: 98, http: 2, ..Tally::default() },
    );
    world.pass(3600);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn a_step_starts_anew_when_an_outage_of_both_tracks_is_over() {
    let mut world = World::rolling();
    world.count(
        Tally { success: 630, http: 270, ..Tally::default() },
        Tally { success: 70, http: 30, ..Tally::default() },
    );
    assert_eq!(world.reason(), "SharedDegradation");
    let serving = world.state.serving;
    world.pass(150);
    world.canary(20, 0);
    world.decide();
    world.canary(20, 0);
    world.pass(60);
    assert_eq!(world.reason(), "StepRestarted");
    assert_eq!((world.weight(), world.state.serving), (10, serving + 1));
    assert_eq!(world.reason(), "StepStarted");
    world.canary(100, 0);
    world.pass(3600);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn shares_that_do_not_match_the_weight_are_a_stop() {
    let mut world = World::rolling();
    let good = |asked: u64| Tally {
        success: asked,
        customers: CustomerTally { asked, ..CustomerTally::default() },
        ..Tally::default()
    };
    world.count(good(1_600), good(400));
    world.pass(3600);
    let text = world.decide().why.to_string();
    assert!(text.contains("do not match the weight of 10 %"), "{text}");
    world.count(Tally::default(), Tally { http: 40, ..Tally::default() });
    assert_eq!(world.reason(), "RolledBack", "a dead canary is still found");
    let mut world = World::rolling();
    world.count(good(0), Tally { http: 40, ..Tally::default() });
    assert_eq!(world.reason(), "RolledBack", "also when it has everybody");
}

//! What the counts do to a rollout.

use kanarie_rollout::tally::Tally;
use kanarie_words::on_failure::OnFailure;

use crate::stories::world::{World, named};

/// Scenario 10: the look that shows a dead canary takes it back.
#[test]
fn scenario_10_a_dead_canary_is_taken_back_and_rejected_in_one_decision() {
    let mut world = World::rolling();
    world.canary(0, 4);
    let decision = world.decide();
    assert_eq!(decision.why.reason().as_str(), "RolledBack");
    assert_eq!((world.stable(), world.weight()), ("r1", 0));
    assert!(world.state.rejection(&named("r2")).is_some());
    assert!(decision.why.to_string().contains("4 messages of 4 customers, 4 failed (4 http)"));
}

#[test]
fn two_failures_are_never_proof() {
    let mut world = World::rolling();
    world.canary(0, 2);
    assert_ne!(world.reason(), "RolledBack");
}

/// Scenario 24: slow answers and timeouts go the same way as errors.
#[test]
fn scenario_24_every_class_of_failure_counts_alike() {
    for canary in [
        Tally { timeout: 4, ..Tally::default() },
        Tally { http: 4, ..Tally::default() },
        Tally { invalid: 4, ..Tally::default() },
        Tally { no_answer: 4, ..Tally::default() },
        Tally { slow: 4, ..Tally::default() },
        Tally { unavailable: 4, ..Tally::default() },
    ] {
        let mut world = World::rolling();
        world.count(Tally::default(), canary);
        assert_eq!(world.reason(), "RolledBack", "{canary:?}");
    }
}

/// Scenario 14: while both tracks fail alike a rollout holds, and says so.
#[test]
fn scenario_14_an_outage_of_both_tracks_holds_and_says_so() {
    let mut world = World::rolling();
    world.pass(3600);
    world.count(
        Tally { success: 630, http: 270, ..Tally::default() },
        Tally { success: 70, http: 30, ..Tally::default() },
    );
    assert_eq!(world.reason(), "SharedDegradation");
    assert_eq!(world.weight(), 10);
}

/// Scenario 22: a canary that is better than stable is not taken back.
#[test]
fn scenario_22_a_canary_that_is_better_than_stable_is_not_rolled_back() {
    let mut world = World::rolling();
    world.count(
        Tally { success: 500, http: 400, ..Tally::default() },
        Tally { success: 90, http: 10, ..Tally::default() },
    );
    assert_ne!(world.reason(), "RolledBack");
}

/// Scenario 23: from 0.05 to 0.1 % is within the limit: no rollback, and the numbers are kept.
#[test]
fn scenario_23_a_difference_below_one_percent_is_not_rolled_back_and_is_noted() {
    let mut world = World::rolling();
    world.count(
        Tally { success: 89_955, http: 45, ..Tally::default() },
        Tally { success: 9_990, http: 10, ..Tally::default() },
    );
    world.pass(3600);
    assert_eq!(world.reason(), "StepAdvanced");
    let noted = &world.state.history[0].message;
    assert!(noted.contains("canary 10000 messages of 10000 customers, 10 failed"), "{noted}");
    assert!(noted.contains("stable 90000 messages of 90000 customers, 45 failed"), "{noted}");
}

#[test]
fn an_error_rate_over_the_limit_without_proof_holds() {
    let mut world = World::rolling();
    world.pass(3600);
    world.canary(98, 2);
    assert_eq!(world.reason(), "ErrorRateTooHigh");
    world.canary(150, 0);
    world.decide();
    world.skip(60);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn too_few_messages_hold_and_tell_how_many_are_needed() {
    let mut world = World::rolling();
    world.pass(3600);
    world.canary(12, 0);
    let text = world.decide().why.to_string();
    assert!(text.contains("canary 12 messages of 12 customers, 0 failed"), "{text}");
}

/// Scenario 17: without traffic nothing is promoted and nothing rolled back.
#[test]
fn scenario_17_silence_neither_promotes_nor_rolls_back_even_when_no_message_is_asked_for() {
    let mut world = World::asking_for("r2");
    world.seen.policy.min_messages = 0;
    world.decide();
    world.decide();
    world.pass(3600);
    assert_eq!(world.reason(), "WaitingForTraffic");
    assert_eq!(world.weight(), 10);
}

/// Scenario 26: no answer is neither good nor bad evidence.
#[test]
fn scenario_26_no_answer_of_a_gateway_is_no_evidence_and_never_bad_evidence() {
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.pass(3600);
    let store = world.seen.store.take();
    assert_eq!(world.reason(), "WaitingForEvidence");
    world.seen.store = store;
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn failures_of_an_earlier_step_still_count_against_the_canary() {
    let mut world = World::rolling();
    world.canary(198, 2);
    world.pass(3600);
    assert_eq!(world.reason(), "StepAdvanced");
    world.decide();
    world.canary(0, 4);
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn a_canary_under_the_limit_is_not_taken_back_in_its_bake() {
    let mut world = World::baking();
    world.canary(9_940, 60);
    assert_ne!(world.reason(), "RolledBack");
}

#[test]
fn a_failed_canary_stays_at_its_weight_when_the_policy_says_pause() {
    let mut world = World::asking_for("r2");
    world.seen.policy.on_failure = OnFailure::Pause;
    world.decide();
    world.decide();
    world.canary(0, 4);
    assert_eq!(world.reason(), "PausedOnFailure");
    world.canary(10_000, 0);
    world.pass(7200);
    assert_eq!(world.reason(), "PausedOnFailure");
    assert_eq!((world.weight(), world.state.rejected.len()), (10, 0));
}

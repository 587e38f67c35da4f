//! What wins when two things happen in the same moment.

use kanarie_rollout::state::CommandResult;

use crate::stories::world::{World, named};

/// Scenario 52: a pause stops the steps, and no rollback.
#[test]
fn scenario_52_a_pause_stops_the_steps_and_not_the_rollback() {
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.seen.paused = true;
    world.pass(3600);
    assert_eq!(world.reason(), "Paused");
    assert_eq!(world.reason(), "Paused");
    assert_eq!(world.weight(), 10);
    world.canary(0, 40);
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn a_paused_rollout_goes_on_from_where_it_was() {
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.seen.paused = true;
    world.pass(3600);
    world.decide();
    world.seen.paused = false;
    assert_eq!(world.reason(), "Resumed");
    assert_eq!(world.reason(), "WaitingForAnswers", "what ended lately is not known after a pause");
    world.skip(60);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn a_pause_keeps_a_new_revision_from_starting() {
    let mut world = World::asking_for("r2");
    world.seen.paused = true;
    assert_eq!(world.reason(), "Paused");
    assert_eq!(world.state.split().canary, None);
}

#[test]
fn a_rollback_wins_over_promote_full_of_the_same_moment() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.command("promote-full r2 #c1");
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.answer().0, CommandResult::Refused);
}

#[test]
fn a_retry_that_meets_the_rollback_does_not_undo_it() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.command("retry #c1");
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.weight(), 0);
}

/// Scenario 37: an abort goes before the promotion of the same moment.
#[test]
fn scenario_37_an_abort_wins_over_a_promotion_of_the_same_moment() {
    let mut world = World::baking();
    world.canary(1_000, 0);
    world.pass(3600);
    world.command("abort #c1");
    assert_eq!(world.reason(), "Aborted");
    assert_eq!(world.stable(), "r1");
}

#[test]
fn a_failed_revision_is_rejected_even_when_a_newer_one_arrives_with_the_verdict() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.seen.desired = Some(named("r3"));
    assert_eq!(world.reason(), "RolledBack");
    assert!(world.state.rejection(&named("r2")).is_some());
}

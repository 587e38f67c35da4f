//! Going back after a promotion: one write, without analysis, while the former revision is warm.

use kanarie_rollout::observation::Mode;
use kanarie_rollout::state::CommandResult;
use kanarie_words::weight::Weight;

use crate::stories::world::{World, named};

/// r2 was promoted over r1 a moment ago.
fn promoted() -> World {
    let mut world = World::rolling();
    world.command("promote-full r2 #c1");
    assert_eq!(world.reason(), "PromotedInFull");
    assert_eq!(world.stable(), "r2");
    world
}

#[test]
fn the_former_spec_serves_at_once_and_rejects_nothing() {
    let mut world = promoted();
    world.pass(86_399);
    world.seen.store = None;
    world.seen.paused = true;
    world.seen.desired = Some(named("r1"));
    assert_eq!(world.reason(), "Reverted");
    assert_eq!((world.stable(), world.weight()), ("r1", 0));
    assert!(world.state.rejected.is_empty());
    assert_eq!(world.reason(), "Completed");
}

#[test]
fn after_the_window_the_former_spec_is_a_rollout_like_any_other() {
    let mut world = promoted();
    world.pass(86_400);
    world.seen.desired = Some(named("r1"));
    assert_eq!(world.reason(), "RolloutStarted");
    assert_eq!(world.weight(), 10);
}

#[test]
fn undo_puts_the_former_revision_back_and_rejects_the_one_it_leaves() {
    let mut world = promoted();
    world.command("undo r2 #c2");
    assert_eq!(world.reason(), "Undone");
    assert_eq!((world.stable(), world.weight()), ("r1", 0));
    assert_eq!(world.answer().0, CommandResult::Executed);
    assert!(world.state.rejection(&named("r2")).is_some());
    assert_eq!(world.state.history[0].revision, named("r2"), "it is what was taken back");
    assert_eq!(world.reason(), "Undone", "the spec that stands does not start it again");
    world.command("retry #c3");
    assert_eq!(world.reason(), "Retried");
    assert_eq!(world.reason(), "RolloutStarted");
}

#[test]
fn undo_without_a_promotion_or_after_its_window_is_refused() {
    let mut world = World::asking_for("r1");
    world.command("undo r2 #c1");
    world.decide();
    assert_eq!(world.answer().0, CommandResult::Refused);
    let mut world = promoted();
    world.pass(86_400);
    world.command("undo r2 #c2");
    world.decide();
    assert_eq!((world.answer().0, world.stable()), (CommandResult::Refused, "r2"));
}

#[test]
fn undo_while_a_rollout_runs_is_refused_with_the_way_out() {
    let mut world = World::rolling();
    world.command("undo r2 #c1");
    world.decide();
    let (result, message) = world.answer();
    assert_eq!(result, CommandResult::Refused);
    assert!(message.contains("abort"), "{message}");
}

#[test]
fn a_newer_rollout_ends_the_window() {
    let mut world = promoted();
    world.seen.desired = Some(named("r3"));
    assert_eq!(world.reason(), "RolloutStarted");
    world.seen.desired = Some(named("r2"));
    assert_eq!(world.reason(), "Reverted");
    world.command("undo r2 #c2");
    world.decide();
    assert_eq!((world.answer().0, world.stable()), (CommandResult::Refused, "r2"));
}

#[test]
fn what_was_undone_or_reverted_is_not_undone_again() {
    let mut world = promoted();
    world.seen.mode = Mode::Manual(Weight::new(50).unwrap());
    world.seen.desired = Some(named("r1"));
    assert_eq!(world.reason(), "Reverted");
    world.command("undo r2 #c2");
    world.decide();
    assert_eq!((world.answer().0, world.stable()), (CommandResult::Refused, "r1"));
}

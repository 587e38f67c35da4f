//! Commands: executed once, or refused with a sentence.

use kanarie_rollout::state::CommandResult;
use kanarie_words::on_failure::OnFailure;

use crate::stories::world::World;

#[test]
fn retry_tries_a_rejected_revision_again_from_step_one() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    world.command("c1", "retry");
    assert_eq!(world.reason(), "Retried");
    assert_eq!(world.answer().0, CommandResult::Executed);
    assert_eq!(world.reason(), "RolloutStarted");
    assert_eq!(world.weight(), 10);
    assert!(world.state.rejected.is_empty());
}

#[test]
fn a_command_is_executed_once() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    world.command("c1", "retry");
    for _ in 0..3 {
        world.decide();
    }
    world.canary(0, 4);
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn retry_of_a_failure_that_was_held_starts_from_step_one_with_new_counts() {
    let mut world = World::asking_for("r2");
    world.seen.policy.on_failure = OnFailure::Pause;
    world.decide();
    world.decide();
    world.canary(0, 4);
    world.decide();
    world.command("c1", "retry");
    assert_eq!(world.reason(), "Retried");
    assert_eq!(world.weight(), 0);
    assert_eq!(world.reason(), "RolloutStarted");
    assert_eq!(world.reason(), "StepStarted");
    assert_eq!(world.reason(), "Holding");
}

#[test]
fn abort_takes_the_canary_off_and_rejects_it() {
    let mut world = World::rolling();
    world.command("c1", "abort");
    assert_eq!(world.reason(), "Aborted");
    assert_eq!((world.stable(), world.weight()), ("r1", 0));
    assert_eq!(world.reason(), "Aborted");
    assert_eq!(world.answer().0, CommandResult::Executed);
}

#[test]
fn promote_full_makes_the_canary_stable_without_the_remaining_steps() {
    let mut world = World::rolling();
    world.command("c1", "promote-full");
    assert_eq!(world.reason(), "PromotedInFull");
    assert_eq!((world.stable(), world.weight()), ("r2", 0));
}

#[test]
fn promote_full_is_refused_while_paused() {
    let mut world = World::rolling();
    world.seen.paused = true;
    world.decide();
    world.command("c1", "promote-full");
    assert_eq!(world.reason(), "Paused");
    let (result, message) = world.answer();
    assert_eq!(result, CommandResult::Refused);
    assert!(message.contains("rollout.state to Running"));
}

#[test]
fn a_command_that_makes_no_sense_now_is_refused_with_a_sentence() {
    for verb in ["abort", "promote-full", "retry", "undo", "dance"] {
        let mut world = World::asking_for("r1");
        world.command("c1", verb);
        world.decide();
        let (result, message) = world.answer();
        assert_eq!(result, CommandResult::Refused, "{verb}");
        assert!(message.contains(' '), "{verb}");
    }
}

#[test]
fn a_refused_command_does_not_keep_the_rollout_from_going_on() {
    let mut world = World::rolling();
    world.canary(100, 0);
    world.pass(3600);
    world.command("c1", "retry");
    assert_eq!(world.reason(), "StepAdvanced");
    assert_eq!(world.answer().0, CommandResult::Refused);
}

#[test]
fn an_endless_command_id_is_cut_and_still_answered_once() {
    let mut world = World::rolling();
    world.command(&"i".repeat(10_000), "dance");
    world.decide();
    let before = world.state.clone();
    world.decide();
    assert_eq!(world.state, before);
    assert_eq!(before.last_command.unwrap().id.len(), 64);
}

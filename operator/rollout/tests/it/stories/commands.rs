//! Commands: executed once, or refused with a sentence.

use kanarie_rollout::observation::Mode;
use kanarie_rollout::order::Command;
use kanarie_rollout::state::CommandResult;
use kanarie_words::on_failure::OnFailure;
use kanarie_words::weight::Weight;

use crate::stories::world::{World, named};

#[test]
fn retry_tries_a_rejected_revision_again_from_step_one() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    world.command("retry #c1");
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
    world.command("retry #c1");
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
    world.command("retry #c1");
    assert_eq!(world.reason(), "Retried");
    assert_eq!(world.weight(), 0);
    assert_eq!(world.reason(), "RolloutStarted");
    assert_eq!(world.reason(), "StepStarted");
    assert_eq!(world.reason(), "Holding");
}

#[test]
fn abort_takes_the_canary_off_and_rejects_it() {
    let mut world = World::rolling();
    world.command("abort #c1");
    assert_eq!(world.reason(), "Aborted");
    assert_eq!((world.stable(), world.weight()), ("r1", 0));
    assert_eq!(world.reason(), "Aborted");
    assert_eq!(world.answer().0, CommandResult::Executed);
}

#[test]
fn promote_full_makes_the_canary_stable_without_the_remaining_steps() {
    let mut world = World::rolling();
    world.command("promote-full r2 #c1");
    assert_eq!(world.reason(), "PromotedInFull");
    assert_eq!((world.stable(), world.weight()), ("r2", 0));
}

#[test]
fn promote_full_is_refused_while_paused() {
    let mut world = World::rolling();
    world.seen.paused = true;
    world.decide();
    world.command("promote-full r2 #c1");
    assert_eq!(world.reason(), "Paused");
    let (result, message) = world.answer();
    assert_eq!(result, CommandResult::Refused);
    assert!(message.contains("rollout.state to Running"));
}

#[test]
fn a_command_that_makes_no_sense_now_is_refused_with_a_sentence() {
    for (text, sentence) in [
        ("abort", "no rollout is running"),
        ("promote r2", "no rollout is running"),
        ("promote-full r2", "no rollout is running"),
        ("retry", "not rejected"),
        ("retry r7", "not rejected"),
        ("undo r1", "no promotion to go back from"),
        ("undo", "needs the revision that it is about: `undo r1`"),
        ("undo r7", "names r7, and it would be about r1"),
    ] {
        let mut world = World::asking_for("r1");
        world.command(text);
        world.decide();
        let (result, message) = world.answer();
        assert_eq!(result, CommandResult::Refused, "{text}");
        assert!(message.contains(sentence), "{text}: {message}");
    }
}

#[test]
fn a_refused_command_does_not_keep_the_rollout_from_going_on() {
    let mut world = World::rolling();
    world.canary(100, 0);
    world.pass(3600);
    world.command("retry #c1");
    assert_eq!(world.reason(), "StepAdvanced");
    assert_eq!(world.answer().0, CommandResult::Refused);
}

#[test]
fn an_endless_command_is_cut_and_still_answered_once() {
    let mut world = World::rolling();
    world.command(&format!("retry #{}", "i".repeat(10_000)));
    world.decide();
    let before = world.state.clone();
    world.decide();
    assert_eq!(world.state, before);
    assert_eq!(before.last_command.unwrap().id.len(), 128);
}

#[test]
fn words_that_are_no_command_are_answered_with_a_sentence() {
    for (text, sentence) in [
        ("dance", "there is no such command"),
        ("Abort", "there is no such command"),
        ("abort=now", "there is no such command"),
        ("abort r2 now", "written as"),
        ("abort #1 r2", "written as"),
        ("abort #1 #2", "written as"),
        ("abort r\u{e9}", "written as"),
        (&format!("abort #{}", "1".repeat(200)), "longer than"),
    ] {
        let mut world = World::rolling();
        world.command(text);
        assert_eq!(world.reason(), "Holding", "{text}: it goes on");
        let (result, message) = world.answer();
        assert_eq!(result, CommandResult::Refused, "{text}");
        assert!(message.contains(sentence), "{text}: {message}");
    }
}

#[test]
fn the_former_pair_is_answered_with_a_sentence_and_not_executed() {
    let mut world = World::rolling();
    world.seen.command = Some(Command::of_former_pair("abort", "7", None));
    assert_eq!(world.reason(), "Holding");
    let (result, message) = world.answer();
    assert_eq!(result, CommandResult::Refused);
    assert!(message.contains("in one annotation"), "{message}");
    // A command whose former id still stands is another one.
    world.seen.command = Some(Command::of_former_pair("promote-full", "7", None));
    world.decide();
    assert_eq!(world.state.last_command.as_ref().unwrap().verb, "promote-full");
}

#[test]
fn a_command_about_another_revision_is_refused_with_both_names() {
    for text in ["promote r1", "promote-full r1", "abort r1", "retry r1"] {
        let mut world = World::rolling();
        world.command(text);
        assert_eq!(world.reason(), "Holding");
        let (result, message) = world.answer();
        assert_eq!(result, CommandResult::Refused, "{text}");
        assert!(message.contains("r1") && message.contains("r2"), "{text}: {message}");
    }
}

/// Scenario 38: an approval of r2 arrives when r3 rolls already.
#[test]
fn scenario_38_an_approval_of_one_revision_does_not_promote_the_next() {
    let mut world = World::rolling();
    world.seen.desired = Some(named("r3"));
    for reason in ["Superseded", "RolloutStarted", "StepStarted"] {
        assert_eq!(world.reason(), reason);
    }
    world.command("promote-full r2");
    assert_eq!(world.reason(), "Holding");
    assert_eq!((world.stable(), world.weight()), ("r1", 10));
    let (result, message) = world.answer();
    assert_eq!(result, CommandResult::Refused);
    assert!(message.contains("names r2, and it would be about r3"), "{message}");
}

#[test]
fn promote_and_promote_full_name_what_they_are_about() {
    for verb in ["promote", "promote-full"] {
        let mut world = World::rolling();
        world.command(verb);
        assert_eq!(world.reason(), "Holding");
        let (_, message) = world.answer();
        assert!(message.contains(&format!("`{verb} r2`")), "{message}");
    }
}

#[test]
fn promote_takes_the_next_step_without_hold_or_evidence_and_never_passes_the_bake() {
    let mut world = World::rolling();
    world.command("promote r2");
    assert_eq!(world.reason(), "StepAdvanced");
    assert_eq!((world.weight(), world.answer().0), (50, CommandResult::Executed));
    assert_eq!(world.reason(), "StepStarted", "the same text is the same command");
    world.command("promote r2 #2");
    assert_eq!(world.reason(), "StepAdvanced");
    assert_eq!(world.reason(), "StepStarted");
    world.command("promote r2 #3");
    assert_eq!(world.reason(), "Holding");
    let (result, message) = world.answer();
    assert_eq!(result, CommandResult::Refused);
    assert!(message.contains("use promote-full"), "{message}");
    assert_eq!((world.stable(), world.weight()), ("r1", 100));
}

#[test]
fn promote_is_refused_where_there_is_no_next_step_to_go_to() {
    let mut manual = World::rolling();
    manual.seen.mode = Mode::Manual(Weight::new(30).unwrap());
    let mut paused = World::rolling();
    paused.seen.paused = true;
    let mut unasked = World::rolling();
    unasked.seen.desired = None;
    let mut failed = World::asking_for("r2");
    failed.seen.policy.on_failure = OnFailure::Pause;
    failed.decide();
    failed.decide();
    failed.canary(0, 4);
    failed.decide();
    for (mut world, sentence) in [
        (manual, "set rollout.weight"),
        (paused, "rollout.state to Running"),
        (unasked, "cannot be carried out"),
        (failed, "has failed"),
    ] {
        world.command("promote r2");
        world.decide();
        let (result, message) = world.answer();
        assert_eq!(result, CommandResult::Refused);
        assert!(message.contains(sentence), "{message}");
        assert!(world.weight() < 50);
    }
}

#[test]
fn a_canary_that_fails_is_taken_back_whatever_was_promoted() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.command("promote r2");
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.answer().0, CommandResult::Refused);
}

#[test]
fn an_abort_of_another_revision_keeps_nothing_from_its_rollback() {
    let mut world = World::baking();
    world.canary(0, 40);
    world.command("abort r9");
    assert_eq!(world.reason(), "SteppedBack", "what is about another revision takes nothing off");
}

/// Scenario 60: history says by whose word it was done.
#[test]
fn scenario_60_who_said_it_is_remembered_with_the_answer_and_with_what_was_done() {
    let mut world = World::rolling();
    let long = format!("an\"na{}", "\u{1f426}".repeat(100));
    for (actor, kept) in [("anna", "anna"), (long.as_str(), "an na")] {
        world.seen.command = Some(Command::read("abort", Some(actor)));
        world.decide();
        let answer = world.state.last_command.clone().unwrap();
        assert!(answer.actor.as_deref().is_some_and(|it| it.starts_with(kept) && it.len() <= 64));
        assert!(world.state.history[0].message.contains(&format!("said by {kept}")));
        world = World::rolling();
    }
}

#[test]
fn retry_clears_the_rejection_that_it_names_and_no_other() {
    let mut world = World::rolling();
    world.command("abort");
    world.decide();
    world.seen.desired = Some(named("r1"));
    world.command("retry");
    world.decide();
    assert_eq!(world.answer().0, CommandResult::Refused);
    assert!(world.state.rejection(&named("r2")).is_some());
    world.command("retry r2");
    assert_eq!(world.reason(), "Retried");
    assert!(world.state.rejected.is_empty());
}

//! While the spec cannot be carried out, or is an older one: nothing advances, and a canary is judged on.

use kanarie_rollout::observation::Mode;
use kanarie_rollout::state::CommandResult;
use kanarie_words::weight::Weight;

use crate::stories::world::{World, named};

/// A rollout of r2 whose spec cannot be carried out any more.
fn unasked() -> World {
    let mut world = World::rolling();
    world.seen.desired = None;
    world
}

#[test]
fn a_canary_that_nobody_asks_for_any_more_is_judged_and_taken_back() {
    let mut world = unasked();
    world.canary(0, 4);
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.weight(), 0);
}

#[test]
fn a_step_that_passes_waits_for_the_spec_and_then_advances() {
    let mut world = unasked();
    world.canary(1_000, 0);
    world.pass(3600);
    assert_eq!(world.reason(), "Pending");
    assert_eq!(world.weight(), 10);
    world.seen.desired = Some(named("r2"));
    world.skip(60);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn nothing_starts() {
    let mut world = World::asking_for("r2");
    world.seen.desired = None;
    assert_eq!(world.reason(), "Pending");
    assert_eq!(world.state.split().canary, None);
}

#[test]
fn a_person_still_takes_the_canary_off_and_promotes_nothing() {
    let mut world = unasked();
    world.command("promote-full r2 #c1");
    world.decide();
    assert_eq!(world.answer().0, CommandResult::Refused);
    world.command("abort #c2");
    assert_eq!(world.reason(), "Aborted");
}

#[test]
fn a_weight_goes_down_and_not_up() {
    let mut world = unasked();
    world.seen.mode = Mode::Manual(Weight::new(50).unwrap());
    world.decide();
    assert_eq!(world.weight(), 10);
    world.seen.mode = Mode::Manual(Weight::new(3).unwrap());
    assert_eq!(world.reason(), "WeightSet");
    assert_eq!(world.weight(), 3);
    world.seen.mode = Mode::Manual(Weight::FULL);
    world.decide();
    assert_eq!(world.weight(), 3);
}

#[test]
fn an_older_spec_decides_nothing_and_executes_nothing() {
    let mut world = World::rolling();
    world.seen.generation = 4;
    world.decide();
    let rolling = world.state.clone();
    assert_eq!(rolling.generation, 4);
    world.seen.generation = 3;
    world.seen.desired = Some(named("r1"));
    world.seen.mode = Mode::Manual(Weight::FULL);
    world.seen.paused = true;
    world.command("promote-full r2 #c1");
    world.decide();
    assert_eq!(world.state, rolling);
    world.canary(0, 4);
    assert_eq!(world.reason(), "RolledBack", "it still sees that the canary fails");
}

#[test]
fn a_command_without_a_rollout_is_answered_by_what_is_wrong() {
    for (command, answer) in [
        ("retry", "the spec cannot be carried out"),
        ("undo r1", "the spec cannot be carried out"),
        ("retry r7", "not rejected"),
        ("abort", "no rollout"),
        ("promote r2", "no rollout"),
    ] {
        let mut world = World::asking_for("r2");
        world.seen.desired = None;
        world.command(command);
        assert_eq!(world.reason(), "Pending");
        let (result, told) = world.answer();
        assert_eq!(result, CommandResult::Refused);
        assert!(told.contains(answer), "{command}: {told}");
    }
}

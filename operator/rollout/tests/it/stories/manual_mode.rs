//! A weight that a person chooses.

use kanarie_rollout::observation::Mode;

use crate::stories::world::{World, manual};

#[test]
fn a_weight_is_obeyed_as_written() {
    let mut world = World::asking_for("r2");
    world.seen.mode = manual(35);
    assert_eq!(world.reason(), "RolloutStarted");
    assert_eq!(world.weight(), 35);
    for weight in [80, 0, 5] {
        world.seen.mode = manual(weight);
        assert_eq!(world.reason(), "WeightSet");
        assert_eq!(world.weight(), weight);
    }
    assert_eq!(world.reason(), "AwaitingPromotion");
}

/// Scenario 58: in mode Manual the verdict is told and no weight is moved.
#[test]
fn scenario_58_a_failed_verdict_is_reported_and_moves_nothing() {
    let mut world = World::asking_for("r2");
    world.seen.mode = manual(35);
    world.decide();
    world.canary(0, 30);
    let decision = world.decide();
    assert_eq!(decision.verdict.unwrap().finding.as_str(), "Fail");
    assert_eq!(decision.why.reason().as_str(), "AwaitingPromotion");
    assert_eq!(world.weight(), 35);
}

#[test]
fn a_weight_that_is_moved_while_the_gateways_are_silent_loses_nothing_that_was_counted() {
    let mut world = World::asking_for("r2");
    world.seen.mode = manual(35);
    world.decide();
    world.canary(0, 30);
    let store = world.seen.store.take();
    world.seen.mode = manual(60);
    assert_eq!(world.reason(), "WeightSet");
    world.seen.store = store;
    let verdict = world.decide().verdict.unwrap();
    assert_eq!((verdict.finding.as_str(), verdict.numbers.canary.failures()), ("Fail", 0));
}

#[test]
fn weight_100_promotes_without_a_bake() {
    let mut world = World::asking_for("r2");
    world.seen.mode = manual(10);
    world.decide();
    world.seen.mode = manual(100);
    assert_eq!(world.reason(), "ManuallyPromoted");
    assert_eq!((world.stable(), world.weight()), ("r2", 0));
}

#[test]
fn back_to_automatic_is_the_highest_step_not_over_the_weight_held_from_zero() {
    let mut world = World::rolling();
    world.seen.mode = manual(70);
    world.decide();
    world.seen.mode = Mode::Automatic;
    assert_eq!(world.reason(), "ModeChanged");
    assert_eq!(world.weight(), 50);
    assert_eq!(world.state.rolling().unwrap().step_started_at(), None);
}

#[test]
fn back_to_automatic_with_a_failed_canary_is_a_rollback() {
    let mut world = World::rolling();
    world.seen.mode = manual(20);
    world.decide();
    world.canary(0, 30);
    world.decide();
    world.seen.mode = Mode::Automatic;
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn a_change_of_mode_at_the_same_weight_changes_no_serving() {
    let mut world = World::rolling();
    let serving = world.state.serving;
    world.seen.mode = manual(10);
    assert_eq!(world.reason(), "ModeChanged");
    world.seen.mode = Mode::Automatic;
    assert_eq!(world.reason(), "ModeChanged");
    assert_eq!(world.state.serving, serving);
}

#[test]
fn a_pause_lets_a_manual_weight_sink_and_not_rise() {
    let mut world = World::rolling();
    world.seen.paused = true;
    world.seen.mode = manual(100);
    world.decide();
    assert_eq!(world.weight(), 10);
    assert_eq!(world.reason(), "Paused");
    world.seen.mode = manual(3);
    world.decide();
    assert_eq!(world.weight(), 3);
}

#[test]
fn a_rejected_revision_gets_no_manual_weight_either() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    world.seen.mode = manual(50);
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.weight(), 0);
}

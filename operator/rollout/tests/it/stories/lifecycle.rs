//! From the first revision through every step to the promotion.

use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::steps::Steps;

use crate::stories::world::{World, policy, step};

/// Scenario 01: without a stable revision the first one serves everybody at once, without analysis.
#[test]
fn scenario_01_the_first_revision_serves_everybody_at_once() {
    let mut world = World::asking_for("r1");
    assert_eq!((world.stable(), world.weight(), world.state.serving), ("r1", 0, 1));
    assert_eq!(world.state.history[0].reason, "FirstRevision");
    assert_eq!(world.reason(), "Completed");
}

/// Scenario 06: a spec that is equal to the stable revision starts nothing.
#[test]
fn scenario_06_the_stable_revision_starts_no_rollout() {
    let mut world = World::asking_for("r1");
    let before = world.state.clone();
    world.decide();
    assert_eq!(world.state, before);
}

/// Scenario 04: accepted at 50 % it goes to 100 %, and then it is the stable revision.
#[test]
fn scenario_04_a_good_canary_goes_through_every_step_and_then_becomes_stable() {
    let mut world = World::rolling();
    let mut weights = vec![world.weight()];
    for _ in 0..3 {
        world.canary(100, 0);
        world.pass(7200);
        world.decide();
        weights.push(world.weight());
        world.decide();
    }
    assert_eq!(weights, [10, 50, 100, 100]);
    world.pass(1);
    world.decide();
    assert_eq!(world.weight(), 0);
    assert_eq!(world.stable(), "r2");
    assert_eq!(world.state.history[0].reason, "Completed");
}

/// Scenario 03: with good evidence a step is left when its hold has run.
#[test]
fn scenario_03_a_good_step_is_not_left_before_its_hold_has_run() {
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.pass(3599);
    assert_eq!(world.reason(), "Holding");
    world.pass(1);
    assert_eq!(world.reason(), "StepAdvanced");
}

/// Scenario 29: a clock that jumps ahead, of the operator or of the store, changes nothing.
#[test]
fn scenario_29_a_clock_that_jumps_ahead_shortens_no_hold() {
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.now.0 += 80_000_000;
    assert_eq!(world.reason(), "Holding");
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.store().at.0 += 80_000_000;
    assert_eq!(world.reason(), "Holding");
}

/// Scenario 29: a clock that is set back changes nothing.
#[test]
fn scenario_29_a_stores_clock_that_is_set_back_counts_as_no_time() {
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.store().at = StoreTime(0);
    assert_eq!(world.reason(), "Holding");
}

#[test]
fn the_bake_must_hold_before_the_canary_becomes_stable() {
    let mut world = World::baking();
    world.canary(1_000, 0);
    world.pass(3599);
    assert_eq!(world.reason(), "Holding");
    assert_eq!(world.stable(), "r1");
    world.pass(1);
    assert_eq!(world.reason(), "Holding");
    world.pass(1);
    assert_eq!(world.reason(), "Completed");
}

/// Scenario 08: a policy that is edited while a rollout runs is the next one's.
#[test]
fn scenario_08_a_running_rollout_obeys_the_policy_that_it_started_with() {
    let mut world = World::rolling();
    world.seen.policy.steps = Steps::new(vec![step(100, 0)]).unwrap();
    world.seen.policy.min_messages = 1;
    world.canary(49, 0);
    world.pass(3600);
    assert_eq!(world.reason(), "WaitingForTraffic");
    assert_eq!(world.state.rolling().unwrap().policy, policy());
}

#[test]
fn every_step_starts_its_counts_from_zero() {
    let mut world = World::rolling();
    world.canary(1_000, 0);
    world.pass(3600);
    world.decide();
    world.decide();
    world.pass(7200);
    assert_eq!(world.reason(), "WaitingForTraffic");
}

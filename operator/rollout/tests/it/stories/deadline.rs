//! The deadline and what it does not do.

use crate::stories::world::World;

/// Scenario 17: what waits for ever is told at the deadline.
#[test]
fn scenario_17_a_deadline_without_progress_is_told_once_and_the_weight_stays() {
    let mut world = World::rolling();
    world.pass(86_399);
    assert_eq!(world.reason(), "WaitingForTraffic");
    world.pass(1);
    let before = world.state.transition;
    assert_eq!(world.reason(), "DeadlineExceeded");
    assert_eq!(world.reason(), "DeadlineExceeded");
    assert_eq!((world.weight(), world.state.transition), (10, before + 1));
}

#[test]
fn later_progress_clears_an_exceeded_deadline() {
    let mut world = World::rolling();
    world.pass(86_400);
    world.decide();
    world.canary(80, 0);
    world.decide();
    world.skip(60);
    assert_eq!(world.reason(), "StepAdvanced");
    assert_eq!(world.reason(), "StepStarted");
    assert_eq!(world.reason(), "Holding");
}

#[test]
fn an_overdue_canary_is_still_rolled_back() {
    let mut world = World::rolling();
    world.pass(86_400);
    world.decide();
    world.canary(0, 4);
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn the_deadline_does_not_run_while_paused() {
    let mut world = World::rolling();
    world.pass(40_000);
    world.seen.paused = true;
    world.decide();
    world.pass(1_000_000);
    assert_eq!(world.reason(), "Paused");
    world.seen.paused = false;
    world.decide();
    world.pass(46_399);
    assert_eq!(world.reason(), "WaitingForTraffic");
    world.pass(1);
    assert_eq!(world.reason(), "DeadlineExceeded");
}

#[test]
fn an_unreachable_gateway_runs_into_the_deadline_and_not_into_a_rollback() {
    let mut world = World::rolling();
    world.seen.store = None;
    world.pass(86_400);
    let text = world.decide().why.to_string();
    assert!(text.ends_with("waiting for a gateway to tell its counts"), "{text}");
    assert_eq!(world.weight(), 10);
}

//! The deadline and what it does not do.

use crate::stories::world::{World, named};

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

/// Scenario 30: counts that are away at 50 % for longer than the deadline lead nowhere: the weight stays,
/// that is told, and what is counted when they are back decides.
#[test]
fn scenario_30_an_outage_of_the_counts_at_50_percent_stays_there_and_goes_on_when_they_are_back() {
    for (good, bad, end) in [(100, 0, "StepAdvanced"), (0, 20, "RolledBack")] {
        let mut world = World::rolling();
        world.canary(100, 0);
        world.pass(7200);
        assert_eq!((world.reason(), world.weight()), ("StepAdvanced", 50));
        assert_eq!(world.reason(), "StepStarted");
        let mut store = world.seen.store.take();
        let mut told = Vec::new();
        for _ in 0..30 {
            world.skip(3600);
            told.push(world.reason());
            assert_eq!((world.stable(), world.weight()), ("r1", 50));
        }
        told.dedup();
        assert_eq!(told, ["WaitingForEvidence", "DeadlineExceeded"]);
        store.as_mut().unwrap().at.0 += 30 * 3_600_000;
        world.seen.store = store;
        world.canary(good, bad);
        world.decide();
        world.skip(60);
        let told = [world.reason(), world.state.history[0].reason.as_str()];
        assert!(told.contains(&end), "{told:?}");
    }
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

/// A replica that never acknowledges that stable serves everybody keeps the next revision waiting.
#[test]
fn what_waits_after_a_rollback_or_an_abort_is_overdue_at_its_own_deadline() {
    let ends: [fn(&mut World); 2] = [|world| world.canary(0, 4), |world| world.command("abort #1")];
    for end in ends {
        let mut world = World::rolling();
        world.obedient = false;
        end(&mut world);
        world.decide();
        assert_eq!(world.weight(), 0);
        world.pass(1_000_000);
        world.seen.desired = Some(named("r3"));
        assert_eq!(world.reason(), "WaitingForGateways", "its wait has just begun");
        world.pass(86_399);
        assert_eq!(world.reason(), "WaitingForGateways");
        world.pass(1);
        let text = world.decide().why.to_string();
        assert!(text.contains("gateway-0"), "{text}");
        assert_eq!(world.reason(), "DeadlineExceeded");
        world.acknowledge();
        assert_eq!(world.reason(), "RolloutStarted");
        assert_eq!(world.state.waits_since, None);
    }
}

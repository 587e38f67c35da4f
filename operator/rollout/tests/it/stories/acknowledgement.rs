//! What replicas acknowledge, and what happens when counts are lost.

use kanarie_rollout::observation::LiveReplica;

use crate::stories::world::World;

/// Scenario 48: the clock of a step waits for the last gateway, which is named.
#[test]
fn scenario_48_the_clock_of_a_step_starts_when_the_last_replica_has_acknowledged_it() {
    let mut world = World::asking_for("r2");
    world.obedient = false;
    world.decide();
    let serving = world.state.serving;
    world.store().replicas[0].serving = Some(serving);
    world.pass(60);
    assert_eq!(
        world.decide().why.to_string(),
        "waiting for gateways: 1 of 2 have the route in force; not gateway-1"
    );
    world.acknowledge();
    let at = world.store().at;
    assert_eq!(world.reason(), "StepStarted");
    assert_eq!(world.state.rolling().unwrap().step_started_at(), Some(at));
}

#[test]
fn without_a_live_replica_nothing_starts_to_hold() {
    let mut world = World::asking_for("r2");
    world.store().replicas.clear();
    world.decide();
    assert_eq!(world.reason(), "WaitingForGateways");
    assert_eq!(world.state.rolling().unwrap().step_started_at(), None);
}

#[test]
fn a_later_gap_blocks_the_step_and_resets_nothing() {
    let mut world = World::rolling();
    world.obedient = false;
    world.canary(1_000, 0);
    let started = world.state.rolling().unwrap().step_started_at();
    world.pass(3600);
    world.store().replicas.push(LiveReplica { name: "gateway-2".parse().unwrap(), serving: None });
    assert_eq!(world.reason(), "WaitingForGateways");
    assert_eq!(world.state.rolling().unwrap().step_started_at(), started);
    world.acknowledge();
    assert_eq!(world.reason(), "StepAdvanced");
}

/// Scenario 28: counts that are lost begin anew, under a number that no earlier count has.
#[test]
fn scenario_28_lost_counts_start_the_step_anew_under_a_new_serving() {
    let mut world = World::rolling();
    let serving = world.state.serving;
    world.canary(1_000, 0);
    world.pass(3600);
    world.store().epoch = "e2".parse().unwrap();
    assert_eq!(world.reason(), "EvidenceLost");
    assert_eq!((world.state.serving, world.weight()), (serving + 1, 10));
    assert_eq!(world.reason(), "StepStarted");
    assert_eq!(world.reason(), "Holding");
    world.pass(3600);
    assert_eq!(world.reason(), "WaitingForTraffic");
    world.canary(80, 0);
    world.decide();
    world.skip(60);
    assert_eq!(world.reason(), "StepAdvanced");
}

#[test]
fn failures_from_before_a_loss_that_are_still_known_still_count_against_the_canary() {
    let mut world = World::rolling();
    world.canary(0, 3);
    world.store().epoch = "e2".parse().unwrap();
    assert_eq!(world.reason(), "EvidenceLost");
    world.canary(0, 2);
    assert_eq!(world.reason(), "RolledBack");
}

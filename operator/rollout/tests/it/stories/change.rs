//! Other revisions: newer, reverted, rejected.

use kanarie_rollout::bounds::MAX_REJECTED;
use kanarie_rollout::state::RejectedRevision;
use kanarie_rollout::steps::Steps;
use kanarie_words::timestamp::Timestamp;

use crate::stories::world::{World, manual, named, step};

/// Scenario 31: a newer revision starts at its first step once the former one has weight 0.
#[test]
fn scenario_31_a_newer_revision_waits_until_every_replica_has_weight_0() {
    let mut world = World::rolling();
    world.obedient = false;
    world.seen.desired = Some(named("r3"));
    assert_eq!(world.reason(), "Superseded");
    assert_eq!((world.stable(), world.weight()), ("r1", 0));
    assert_eq!(world.reason(), "WaitingForGateways");
    world.acknowledge();
    assert_eq!(world.reason(), "RolloutStarted");
    let split = world.state.split();
    assert_eq!((split.canary.unwrap().as_str(), split.weight.percent()), ("r3", 10));
}

#[test]
fn a_newer_revision_behind_a_replica_that_never_obeys_is_overdue_like_any_other() {
    let mut world = World::rolling();
    world.obedient = false;
    world.seen.desired = Some(named("r3"));
    world.decide();
    let deadline = world.seen.policy.progress_deadline_seconds;
    world.pass(u64::from(deadline) - 1);
    assert_eq!(world.reason(), "WaitingForGateways");
    world.pass(1);
    let decision = world.decide();
    assert_eq!(decision.why.reason().as_str(), "DeadlineExceeded");
    let told = decision.why.to_string();
    assert!(told.contains("waiting for gateways: 0 of 2 have the route in force; not "), "{told}");
    world.acknowledge();
    assert_eq!(world.reason(), "RolloutStarted", "it goes on as soon as it can");
}

/// Scenario 31: what a superseded revision has counted is nobody else's.
#[test]
fn scenario_31_a_superseded_revision_is_not_rejected_and_leaves_no_counts_behind() {
    let mut world = World::rolling();
    world.canary(1, 2);
    world.seen.desired = Some(named("r3"));
    world.decide();
    world.decide();
    assert!(world.state.rejected.is_empty());
    world.canary(0, 2);
    assert_ne!(world.reason(), "RolledBack");
}

/// Scenario 32: a spec that goes back to stable has all of the traffic at once.
#[test]
fn scenario_32_a_revert_to_stable_is_immediate_and_rejects_nothing() {
    let mut world = World::rolling();
    world.seen.paused = true;
    world.seen.store = None;
    world.seen.desired = Some(named("r1"));
    assert_eq!(world.reason(), "Reverted");
    assert_eq!(world.weight(), 0);
    assert!(world.state.rejected.is_empty());
    assert_eq!(world.reason(), "Completed");
}

/// Scenario 33: a revision that was taken back stays away when it is applied again.
#[test]
fn scenario_33_a_rolled_back_revision_stays_rejected_however_often_it_is_applied() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    world.seen.desired = Some(named("r1"));
    world.decide();
    world.seen.desired = Some(named("r2"));
    let before = world.state.clone();
    let decision = world.decide();
    assert_eq!(decision.why.reason().as_str(), "RolledBack");
    assert_eq!(world.state, before);
    assert!(decision.why.to_string().contains("4 messages of 4 customers, 4 failed (4 http)"));
}

/// Scenario 34: no edit of the policy brings a rejected revision back.
#[test]
fn scenario_34_an_edited_policy_does_not_resurrect_a_rolled_back_revision() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    world.seen.policy.max_error_basis_points = 10_000;
    world.seen.policy.steps = Steps::new(vec![step(100, 0)]).unwrap();
    world.seen.mode = manual(100);
    assert_eq!(world.reason(), "RolledBack");
    assert_eq!(world.weight(), 0);
}

/// Scenario 35: another content starts clean after a rollback.
#[test]
fn scenario_35_another_revision_starts_clean_after_a_rollback() {
    let mut world = World::rolling();
    world.canary(0, 4);
    world.decide();
    world.seen.desired = Some(named("r3"));
    assert_eq!(world.reason(), "RolloutStarted");
    world.decide();
    world.canary(0, 2);
    assert_ne!(world.reason(), "RolledBack");
}

/// Scenario 36: of many edits only the last one gets traffic.
#[test]
fn scenario_36_of_many_edits_only_the_last_that_is_seen_gets_traffic() {
    let mut world = World::rolling();
    world.obedient = false;
    for edit in 3..12 {
        world.seen.desired = Some(named(&format!("r{edit}")));
        world.decide();
        assert_eq!(world.weight(), 0);
    }
    world.acknowledge();
    world.decide();
    assert_eq!(world.state.split().canary.unwrap().as_str(), "r11");
}

#[test]
fn nothing_starts_while_no_more_rejections_can_be_remembered() {
    let mut world = World::asking_for("r2");
    world.state.rejected = (0..MAX_REJECTED)
        .map(|number| RejectedRevision {
            revision: named(&format!("bad-{number}")),
            reason: "RolledBack".to_owned(),
            message: String::new(),
            at: Timestamp(number as u64),
        })
        .collect();
    assert_eq!(world.reason(), "RejectedFull");
    world.command("retry");
    assert_eq!(world.reason(), "RejectedFull", "nobody has said which one");
    world.command("retry bad-0");
    assert_eq!(world.reason(), "Retried");
    assert_eq!(world.state.rejected[0].revision.as_str(), "bad-1");
    assert_eq!(world.reason(), "RolloutStarted");
}

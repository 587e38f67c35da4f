//! The bake: everybody is on the canary, and a rescue by stable is the only control.

use kanarie_rollout::steps::Steps;
use kanarie_rollout::tally::{CustomerTally, Tally};
use kanarie_words::on_failure::OnFailure;

use crate::stories::world::{World, named, policy, step};

fn failed(http: u64, rescued: u64) -> Tally {
    let customers = CustomerTally { asked: http, failed: http, rescued };
    Tally { http, customers, ..Tally::default() }
}

/// From the first step, where a rollout was taken back to, to the bake again.
fn bake_again(world: &mut World) {
    assert_eq!(world.reason(), "StepStarted");
    for _ in 0..2 {
        world.canary(100, 0);
        world.pass(7200);
        assert_eq!(world.reason(), "StepAdvanced");
        assert_eq!(world.reason(), "StepStarted");
    }
}

/// Scenario 57: errors in the bake take everybody back but those of the first step.
#[test]
fn scenario_57_proof_in_the_bake_goes_back_to_the_first_step_in_one_decision_and_rejects_nothing() {
    let mut world = World::baking();
    let serving = world.state.serving;
    world.canary(40, 5);
    let decision = world.decide();
    assert_eq!(decision.why.reason().as_str(), "SteppedBack");
    assert!(decision.why.to_string().starts_with("back to 10 %"), "{}", decision.why);
    assert_eq!((world.weight(), world.state.serving), (10, serving + 1));
    assert!(world.state.rejected.is_empty());
    assert_eq!(world.state.rolling().unwrap().step_started_at(), None);
}

#[test]
fn after_a_step_back_only_new_counts_reject() {
    let mut world = World::baking();
    world.canary(40, 5);
    assert_eq!(world.reason(), "SteppedBack");
    assert_eq!(world.reason(), "StepStarted");
    let decision = world.decide();
    assert_eq!(decision.verdict.unwrap().numbers.evidence, 0);
    assert_eq!(decision.why.reason().as_str(), "Holding");
    world.canary(0, 4);
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn a_second_proof_in_a_bake_rejects() {
    let mut world = World::baking();
    world.canary(40, 5);
    assert_eq!(world.reason(), "SteppedBack");
    bake_again(&mut world);
    world.canary(40, 5);
    assert_eq!(world.reason(), "RolledBack");
    assert!(world.state.rejection(&named("r2")).is_some());
}

#[test]
fn a_rollout_without_a_step_under_100_rejects_at_once() {
    let mut world = World::asking_for("r2");
    world.seen.policy.steps = Steps::new(vec![step(100, 3600)]).unwrap();
    world.decide();
    world.decide();
    world.canary(40, 5);
    assert_eq!(world.reason(), "RolledBack");
}

#[test]
fn a_failed_bake_that_the_policy_holds_stays_at_its_weight() {
    let mut world = World::asking_for("r2");
    world.seen.policy.on_failure = OnFailure::Pause;
    world.seen.policy.steps = Steps::new(vec![step(10, 0), step(100, 3600)]).unwrap();
    world.decide();
    world.decide();
    world.canary(100, 0);
    world.decide();
    world.decide();
    world.canary(0, 8);
    assert_eq!(world.reason(), "PausedOnFailure");
    assert_eq!(world.weight(), 100);
}

#[test]
fn an_outage_that_stable_cannot_rescue_blames_nobody_and_holds() {
    let mut world = World::baking();
    world.count(Tally::default(), failed(200, 0));
    assert_eq!(world.reason(), "SharedDegradation");
    assert_eq!(world.weight(), 100);
    world.count(Tally::default(), failed(8, 8));
    assert_eq!(world.reason(), "SteppedBack", "those that stable could answer are the canary's");
}

#[test]
fn without_a_rescue_every_failure_in_the_bake_is_the_canarys() {
    let mut world = World::asking_for("r2");
    world.seen.policy.retry_on_stable = false;
    world.seen.policy.steps = Steps::new(vec![step(100, 3600)]).unwrap();
    world.decide();
    world.decide();
    world.count(Tally::default(), failed(5, 0));
    assert_eq!(world.reason(), "RolledBack");
}

/// Scenario 19: fifty errors of one customer are those of one customer.
#[test]
fn scenario_19_one_customer_with_a_broken_thread_never_rolls_back_alone() {
    let one = |http, rescued| {
        let customers = CustomerTally { asked: 1, failed: 1, rescued };
        Tally { http, customers, ..Tally::default() }
    };
    let mut world = World::baking();
    world.count(Tally::default(), one(50, 1));
    assert_ne!(world.reason(), "SteppedBack");
    let mut world = World::rolling();
    world.count(Tally::default(), one(50, 0));
    assert_ne!(world.reason(), "RolledBack");
}

#[test]
fn the_limit_of_the_bake_is_what_stable_has_shown_and_frozen() {
    let mut world = World::rolling();
    let noisy = |messages: u64| Tally {
        success: messages - messages / 50,
        http: messages / 50,
        ..Tally::default()
    };
    for _ in 0..2 {
        let weight = u64::from(world.weight());
        world.count(noisy(90_000 * (100 - weight) / 90), noisy(90_000 * weight / 90));
        world.pass(7200);
        assert_eq!(world.reason(), "StepAdvanced", "a canary that is as noisy as stable passes");
        assert_eq!(world.reason(), "StepStarted");
    }
    let limit = world.decide().verdict.unwrap().numbers.limit;
    assert!((200..220).contains(&limit), "{limit}");
    world.count(Tally::default(), noisy(10_000));
    world.pass(3600);
    world.decide();
    world.pass(1);
    let decision = world.decide();
    assert_eq!(decision.why.reason().as_str(), "Completed");
    assert_eq!(decision.verdict.unwrap().numbers.limit, limit);
}

#[test]
fn a_limit_over_what_stable_has_shown_stays_the_policys() {
    let mut world = World::baking();
    let numbers = world.decide().verdict.unwrap().numbers;
    let limit = policy().max_error_basis_points;
    assert_eq!((numbers.limit, numbers.certify), (limit, 5 * limit));
}

#[test]
fn a_canary_that_dies_late_in_its_bake_is_found_by_the_starts_within_it() {
    let mut world = World::baking();
    for _ in 0..20 {
        world.canary(150, 0);
        world.pass(150);
        world.decide();
    }
    world.canary(0, 5);
    assert_eq!(world.reason(), "SteppedBack");
}

#[test]
fn a_promotion_takes_two_looks_and_what_ends_between_them() {
    let mut world = World::baking();
    world.canary(30_000, 0);
    world.pass(3600);
    assert_eq!(world.reason(), "Holding");
    assert_eq!(world.reason(), "Holding", "the same moment is no second look");
    world.pass(1);
    world.canary(4, 2);
    assert_ne!(world.reason(), "Completed");
    world.pass(70);
    world.canary(700, 0);
    world.decide();
    world.pass(1);
    assert_eq!(world.reason(), "Completed");
}

#[test]
fn a_canary_that_dies_before_a_pause_ends_is_not_promoted() {
    let mut world = World::baking();
    world.seen.policy.timeout_seconds = 0;
    world.canary(1_200, 0);
    world.pass(3600);
    world.decide();
    world.seen.paused = true;
    assert_eq!(world.reason(), "Paused");
    world.pass(36_000);
    world.canary(12_000, 0);
    world.pass(20);
    world.canary(0, 6);
    world.seen.paused = false;
    assert_eq!(world.reason(), "Resumed");
    for _ in 0..5 {
        assert_ne!(world.reason(), "Completed");
        world.pass(1);
    }
}

#[test]
fn a_silence_at_the_end_of_the_bake_is_no_second_look() {
    let mut world = World::baking();
    world.canary(1_200, 0);
    world.pass(3600);
    world.decide();
    let mut store = world.seen.store.take();
    world.pass(36_000);
    assert_eq!(world.reason(), "WaitingForEvidence");
    store.as_mut().unwrap().at.0 += 36_000_000;
    world.seen.store = store;
    world.canary(12_000, 6);
    for _ in 0..5 {
        assert_ne!(world.reason(), "Completed");
        world.pass(1);
    }
}

#[test]
fn proof_just_below_the_bake_steps_back_as_well() {
    let mut world = World::asking_for("r2");
    world.seen.policy.steps = Steps::new(vec![step(10, 60), step(90, 60), step(100, 60)]).unwrap();
    world.decide();
    world.decide();
    world.canary(100, 0);
    world.pass(60);
    assert_eq!(world.reason(), "StepAdvanced");
    assert_eq!(world.reason(), "StepStarted");
    world.canary(40, 5);
    assert_eq!(world.reason(), "SteppedBack");
    assert_eq!(world.weight(), 10);
}

#[test]
fn an_abort_or_a_reverted_spec_goes_before_a_step_back() {
    let mut world = World::baking();
    world.canary(40, 5);
    world.command("abort #c1");
    assert_eq!(world.reason(), "Aborted");
    assert_eq!(world.weight(), 0);
    let mut world = World::baking();
    world.canary(40, 5);
    world.seen.desired = Some(named("r1"));
    assert_eq!(world.reason(), "Reverted");
    assert_eq!(world.weight(), 0);
}

#[test]
fn an_outage_after_which_a_step_began_anew_is_no_noise_of_stable() {
    let mut world = World::rolling();
    world.count(
        Tally { success: 630, http: 270, ..Tally::default() },
        Tally { success: 70, http: 30, ..Tally::default() },
    );
    assert_eq!(world.reason(), "SharedDegradation");
    world.pass(150);
    world.canary(20, 0);
    world.decide();
    world.pass(60);
    assert_eq!(world.reason(), "StepRestarted");
    assert_eq!(world.reason(), "StepStarted");
    for _ in 0..2 {
        world.canary(300, 0);
        world.pass(7200);
        assert_eq!(world.reason(), "StepAdvanced");
        assert_eq!(world.reason(), "StepStarted");
    }
    assert_eq!(world.decide().verdict.unwrap().numbers.limit, 100);
}

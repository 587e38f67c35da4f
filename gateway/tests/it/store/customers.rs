//! Customers decide: distinct conversations by serving and track, and those that were failed.

use std::sync::atomic::{AtomicU64, Ordering};

use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::outcome::Evidence;
use kanarie_words::class::Class;
use kanarie_words::track::Track;

use crate::store::stage::{LEASE_MS, Stage, canary, id};

const WEEK_MS: u64 = 7 * 86_400_000;

on_both_stores!(
    scenario_19_a_customer_who_writes_often_is_counted_once,
    a_customer_who_is_failed_often_is_one_failed_customer,
    a_success_after_a_failure_leaves_a_customer_failed,
    each_track_and_each_serving_meets_its_customers_anew,
    a_message_that_counted_before_is_no_customer_again,
    customers_are_told_apart_for_seven_days_after_the_last_count,
    customers_go_with_their_serving,
    what_ends_late_counts_for_its_own_serving_while_that_is_one_of_the_last_three,
    what_came_too_late_to_count_has_ended_all_the_same,
    a_message_whose_first_attempt_ended_without_a_canary_is_never_its_evidence,
    the_canary_that_failed_is_remembered_even_when_nothing_counts,
    an_attempt_of_somebody_who_owns_nothing_ends_nothing,
    counting_for_one_channel_leaves_another_alone,
);

/// A message of customer `number` that ends so.
async fn ends(stage: &Stage, number: u8, outcome: Evidence) {
    let lease = asks(stage, number).await;
    stage.complete_with(&lease, Some(outcome)).await;
}

/// A message of customer `number`, claimed.
async fn asks(stage: &Stage, number: u8) -> Lease {
    static SID: AtomicU64 = AtomicU64::new(0);
    let sid = format!("SM{}", SID.fetch_add(1, Ordering::Relaxed));
    stage.lease(number, &sid, &sid).await
}

/// Scenario 19: on both stores a customer is counted once, however often he writes.
async fn scenario_19_a_customer_who_writes_often_is_counted_once(stage: &Stage) {
    for number in [1, 1, 1, 2] {
        ends(stage, number, canary(3, Class::Success)).await;
    }
    assert_eq!(stage.counted("shop").await, ["3:canary:success=4"]);
    assert_eq!(stage.customers("shop").await, ["3:canary=2/0"]);
}

async fn a_customer_who_is_failed_often_is_one_failed_customer(stage: &Stage) {
    for class in Class::ALL {
        ends(stage, 1, canary(3, class)).await;
    }
    ends(stage, 2, canary(3, Class::Unavailable)).await;
    assert_eq!(stage.customers("shop").await, ["3:canary=2/2"]);
}

async fn a_success_after_a_failure_leaves_a_customer_failed(stage: &Stage) {
    let outcomes = [
        (Class::Success, "3:canary=1/0"),
        (Class::Http, "3:canary=1/1"),
        (Class::Success, "3:canary=1/1"),
        (Class::Slow, "3:canary=1/1"),
    ];
    for (class, customers) in outcomes {
        ends(stage, 1, canary(3, class)).await;
        assert_eq!(stage.customers("shop").await, [customers]);
    }
}

async fn each_track_and_each_serving_meets_its_customers_anew(stage: &Stage) {
    ends(stage, 1, canary(3, Class::Http)).await;
    ends(stage, 1, Evidence { track: Track::Stable, ..canary(3, Class::Success) }).await;
    ends(stage, 1, canary(4, Class::Success)).await;
    let customers = ["3:stable=1/0", "3:canary=1/1", "4:canary=1/0"];
    assert_eq!(stage.customers("shop").await, customers);
}

async fn a_message_that_counted_before_is_no_customer_again(stage: &Stage) {
    let lease = asks(stage, 1).await;
    stage.end(&lease, canary(3, Class::Timeout), None).await;
    let rescue = Evidence { track: Track::Stable, ..canary(3, Class::Success) };
    stage.complete_with(&lease, Some(rescue)).await;
    assert_eq!(stage.customers("shop").await, ["3:canary=1/1"]);
}

async fn customers_are_told_apart_for_seven_days_after_the_last_count(stage: &Stage) {
    ends(stage, 1, canary(3, Class::Http)).await;
    stage.at(WEEK_MS - 1);
    ends(stage, 2, canary(3, Class::Http)).await;
    ends(stage, 1, canary(3, Class::Http)).await;
    assert_eq!(stage.customers("shop").await, ["3:canary=2/2"]);
    stage.at(2 * WEEK_MS - 2);
    ends(stage, 1, canary(3, Class::Http)).await;
    assert_eq!(stage.customers("shop").await, ["3:canary=2/2"]);
    stage.at(3 * WEEK_MS - 2);
    ends(stage, 1, canary(3, Class::Http)).await;
    assert_eq!(stage.customers("shop").await, ["3:canary=3/3"]);
}

async fn customers_go_with_their_serving(stage: &Stage) {
    for serving in 1..=5 {
        ends(stage, 1, canary(serving, Class::Http)).await;
    }
    let kept = ["3:canary=1/1", "4:canary=1/1", "5:canary=1/1"];
    assert_eq!(stage.customers("shop").await, kept);
}

async fn what_ends_late_counts_for_its_own_serving_while_that_is_one_of_the_last_three(
    stage: &Stage,
) {
    let late = [asks(stage, 2).await, asks(stage, 3).await];
    for serving in [4, 5, 6] {
        ends(stage, 1, canary(serving, Class::Success)).await;
    }
    stage.end(&late[0], canary(4, Class::Http), None).await;
    let kept = ["4:canary=2/1", "5:canary=1/0", "6:canary=1/0"];
    assert_eq!(stage.customers("shop").await, kept);
    ends(stage, 1, canary(7, Class::Success)).await;
    stage.end(&late[1], canary(4, Class::Http), None).await;
    let kept = ["5:canary=1/0", "6:canary=1/0", "7:canary=1/0"];
    assert_eq!(stage.customers("shop").await, kept);
}

async fn what_came_too_late_to_count_has_ended_all_the_same(stage: &Stage) {
    let late = asks(stage, 2).await;
    for serving in [4, 5, 6] {
        ends(stage, 1, canary(serving, Class::Success)).await;
    }
    stage.end(&late, canary(3, Class::Http), None).await;
    stage.complete_with(&late, Some(canary(6, Class::Success))).await;
    assert_eq!(stage.customers("shop").await.last().map(String::as_str), Some("6:canary=1/0"));
}

async fn a_message_whose_first_attempt_ended_without_a_canary_is_never_its_evidence(stage: &Stage) {
    let lease = asks(stage, 1).await;
    assert_eq!(stage.end_without(&lease).await, Owned::Done);
    stage.retry(&lease, 0, true).await;
    let (head, lease) = stage.claim("b").await;
    assert!(head.counted);
    stage.end(&lease, canary(3, Class::Http), Some("r2")).await;
    stage.complete_with(&lease, Some(canary(3, Class::Success))).await;
    assert_eq!(stage.counted("shop").await, Vec::<String>::new());
    assert_eq!(stage.customers("shop").await, Vec::<String>::new());
}

async fn the_canary_that_failed_is_remembered_even_when_nothing_counts(stage: &Stage) {
    let lease = asks(stage, 1).await;
    stage.end_without(&lease).await;
    stage.end(&lease, canary(3, Class::Http), Some("r2")).await;
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("b").await.0.failed_on, Some(id("r2")));
}

async fn an_attempt_of_somebody_who_owns_nothing_ends_nothing(stage: &Stage) {
    let lease = asks(stage, 1).await;
    stage.release(&lease).await;
    assert_eq!(stage.end_without(&lease).await, Owned::Stale);
    assert!(!stage.claim("b").await.0.counted);
}

async fn counting_for_one_channel_leaves_another_alone(stage: &Stage) {
    ends(stage, 1, canary(9, Class::Success)).await;
    for serving in 1..=3 {
        let lease = asks(stage, 2).await;
        let other = Lease { channel: id("other"), ..lease };
        stage.complete_with(&other, Some(canary(serving, Class::Success))).await;
    }
    assert_eq!(stage.customers("shop").await, ["9:canary=1/0"]);
    assert_eq!(stage.customers("other").await.len(), 3);
}

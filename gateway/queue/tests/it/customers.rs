//! Evidence: which outcomes count, under which serving, and how many customers they were.

use std::sync::atomic::{AtomicU64, Ordering};

use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::outcome::{Count, Customers, Evidence};
use kanarie_queue::queue::Queue;
use kanarie_words::Millis;
use kanarie_words::class::Class;
use kanarie_words::track::Track::{self, Canary, Stable};

use crate::words::{
    DAY, LEASE_MS, Words as _, all_rows, claimed, evidence, intent, message, new_queue, read_back,
    revision,
};

const CUSTOMERS_MS: Millis = 7 * DAY;

/// A message of customer `number` that ends so at `now`.
fn ends(queue: &mut Queue, now: Millis, number: u8, outcome: &Evidence) {
    let lease = asks(queue, now, number);
    queue.complete(now, &lease, Some(outcome));
}

/// A message of customer `number`, claimed.
fn asks(queue: &mut Queue, now: Millis, number: u8) -> Lease {
    static NTH: AtomicU64 = AtomicU64::new(0);
    let nth = NTH.fetch_add(1, Ordering::Relaxed);
    queue.admit(now, message(number, &format!("SM-{number}-{now}-{nth}")));
    queue.take(now, number % 32, &format!("n-{number}-{now}-{nth}")).unwrap().1
}

fn success(serving: u64) -> Evidence {
    evidence(serving, Canary, Class::Success)
}

fn failure(serving: u64) -> Evidence {
    evidence(serving, Canary, Class::Http)
}

fn messages(queue: &mut Queue) -> Vec<Count> {
    queue.counts("channel").messages
}

/// `(serving, track, conversations, failed)` of each.
fn customers(queue: &mut Queue) -> Vec<(u64, Track, u64, u64)> {
    let of = |of: &Customers| (of.serving, of.track, of.conversations, of.failed);
    queue.counts("channel").customers.iter().map(of).collect()
}

/// A message of customer `number` that the canary of a serving fails, its lease kept.
fn fails(queue: &mut Queue, now: Millis, number: u8, serving: u64) -> Lease {
    let lease = asks(queue, now, number);
    queue.end_attempt(now, &lease, Some(&failure(serving)), Some("revision"));
    lease
}

/// `(serving, track, failed, rescued)` of each.
fn rescued(queue: &mut Queue) -> Vec<(u64, Track, u64, u64)> {
    let of = |of: &Customers| (of.serving, of.track, of.failed, of.rescued);
    queue.counts("channel").customers.iter().map(of).collect()
}

/// Scenario 18: a message that is tried again and again is counted once.
#[test]
fn scenario_18_a_message_counts_once_as_evidence_whatever_ends_it() {
    let (mut queue, lease) = claimed();
    queue.end_attempt(0, &lease, Some(&failure(4)), Some("revision"));
    queue.end_attempt(0, &lease, Some(&failure(4)), Some("revision"));
    let rescue = evidence(4, Stable, Class::Success);
    queue.commit_reply(0, &lease, intent("i", 1), Some(&rescue));
    queue.complete(0, &lease, Some(&rescue));
    assert_eq!(messages(&mut queue), [Count { evidence: failure(4), messages: 1 }]);
    assert_eq!(customers(&mut queue), [(4, Canary, 1, 1)]);
}

#[test]
fn a_takeover_knows_that_the_message_counted_and_which_canary_failed_on_it() {
    let (mut queue, lease) = claimed();
    queue.end_attempt(0, &lease, Some(&failure(4)), Some("revision"));
    let (head, _) = queue.take(LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.counted, head.failed_on), (true, Some(revision("revision"))));
}

#[test]
fn evidence_is_summed_over_shards_and_starts_anew_with_each_serving() {
    let mut queue = new_queue();
    for (number, serving) in [(1, 4), (2, 4), (3, 5), (1, 5)] {
        ends(&mut queue, 0, number, &success(serving));
    }
    let of = |serving, messages| Count { evidence: success(serving), messages };
    assert_eq!(messages(&mut queue), [of(4, 2), of(5, 2)]);
    assert_eq!(customers(&mut queue), [(4, Canary, 2, 0), (5, Canary, 2, 0)]);
}

#[test]
fn a_message_whose_first_attempt_ended_without_a_canary_is_never_its_evidence() {
    let (mut queue, lease) = claimed();
    assert_eq!(queue.end_attempt(0, &lease, None, None), Owned::Done);
    queue.retry(0, &lease, 0, true);
    let (head, lease) = queue.take(0, 1, "b").unwrap();
    assert!(head.counted);
    queue.end_attempt(0, &lease, Some(&failure(1)), Some("revision"));
    queue.commit_reply(0, &lease, intent("i", 1), Some(&success(1)));
    queue.complete(0, &lease, Some(&success(1)));
    assert_eq!((messages(&mut queue), customers(&mut queue)), (vec![], vec![]));
}

#[test]
fn the_canary_that_failed_is_remembered_even_when_nothing_counts() {
    let (mut queue, lease) = claimed();
    queue.end_attempt(0, &lease, None, None);
    queue.end_attempt(0, &lease, Some(&failure(1)), Some("revision"));
    let (head, _) = queue.take(LEASE_MS, 1, "b").unwrap();
    assert_eq!(head.failed_on, Some(revision("revision")));
}

#[test]
fn an_attempt_of_somebody_who_owns_nothing_ends_nothing() {
    let (mut queue, lease) = claimed();
    queue.release(0, &lease);
    assert_eq!(queue.end_attempt(0, &lease, Some(&failure(1)), Some("revision")), Owned::Stale);
    let (head, _) = queue.take(0, 1, "b").unwrap();
    assert_eq!((head.counted, head.failed_on), (false, None));
    assert_eq!(messages(&mut queue), []);
}

/// Scenario 19: a customer is counted once, however often he writes.
#[test]
fn scenario_19_a_customer_who_writes_often_is_one_customer() {
    let mut queue = new_queue();
    for number in [1, 1, 1, 33, 2] {
        ends(&mut queue, 0, number, &success(1));
    }
    assert_eq!(messages(&mut queue), [Count { evidence: success(1), messages: 5 }]);
    assert_eq!(customers(&mut queue), [(1, Canary, 3, 0)]);
}

#[test]
fn a_customer_who_is_failed_often_is_one_failed_customer() {
    let mut queue = new_queue();
    for class in [Class::Http, Class::Timeout, Class::Unavailable] {
        ends(&mut queue, 0, 1, &evidence(1, Canary, class));
    }
    ends(&mut queue, 0, 33, &failure(1));
    assert_eq!(customers(&mut queue), [(1, Canary, 2, 2)]);
}

#[test]
fn a_success_after_a_failure_leaves_a_customer_failed() {
    let mut queue = new_queue();
    let outcomes = [success(1), failure(1), success(1), failure(1)];
    let failed = outcomes.map(|outcome| {
        ends(&mut queue, 0, 1, &outcome);
        customers(&mut queue)[0].3
    });
    assert_eq!(failed, [0, 1, 1, 1]);
    assert_eq!(customers(&mut queue), [(1, Canary, 1, 1)]);
}

#[test]
fn each_track_and_each_serving_meets_its_customers_anew() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &failure(1));
    ends(&mut queue, 0, 1, &evidence(1, Stable, Class::Success));
    ends(&mut queue, 0, 1, &success(2));
    let expected = [(1, Stable, 1, 0), (1, Canary, 1, 1), (2, Canary, 1, 0)];
    assert_eq!(customers(&mut queue), expected);
}

#[test]
fn customers_are_told_apart_for_seven_days_after_the_last_count() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &failure(1));
    ends(&mut queue, CUSTOMERS_MS - 1, 1, &failure(1));
    assert_eq!(customers(&mut queue), [(1, Canary, 1, 1)]);
    let mut queue = read_back(&mut queue);
    let later = 2 * CUSTOMERS_MS - 1;
    ends(&mut queue, later, 1, &failure(1));
    assert_eq!(customers(&mut queue), [(1, Canary, 2, 2)]);
}

#[test]
fn a_count_of_one_customer_keeps_the_others_apart() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &success(1));
    ends(&mut queue, CUSTOMERS_MS - 1, 33, &success(1));
    let mut queue = read_back(&mut queue);
    ends(&mut queue, CUSTOMERS_MS + 1, 1, &success(1));
    assert_eq!(customers(&mut queue), [(1, Canary, 2, 0)]);
}

/// Rows of customers, as `<serving>`.
fn customer_rows(queue: &mut Queue) -> Vec<String> {
    let rows = all_rows(queue).into_keys();
    let rows = rows.filter_map(|row| Some(row.split_once(":cu:")?.1.to_owned()));
    rows.filter_map(|row| Some(row.split_once(':')?.0.to_owned())).collect()
}

#[test]
fn a_sweep_forgets_customers_after_seven_days_and_keeps_the_counts() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &failure(1));
    queue.sweep(CUSTOMERS_MS - 1, 1);
    assert_eq!(customer_rows(&mut queue), ["1"]);
    queue.sweep(CUSTOMERS_MS, 1);
    assert_eq!(customer_rows(&mut queue), [""; 0]);
    assert_eq!(customers(&mut queue), [(1, Canary, 1, 1)]);
}

#[test]
fn the_three_newest_servings_stay_readable_and_customers_go_with_their_serving() {
    let mut queue = new_queue();
    for serving in 1..=5 {
        ends(&mut queue, 0, 1, &failure(serving));
        ends(&mut queue, 0, 33, &success(serving));
    }
    let kept = [(3, Canary, 2, 1), (4, Canary, 2, 1), (5, Canary, 2, 1)];
    assert_eq!(customers(&mut queue), kept);
    assert_eq!(customer_rows(&mut queue), ["3", "3", "4", "4", "5", "5"]);
    let servings = messages(&mut queue).into_iter().map(|count| count.evidence.serving);
    assert_eq!(servings.collect::<Vec<_>>(), [3, 3, 4, 4, 5, 5]);
}

#[test]
fn what_ends_late_counts_for_its_own_serving_while_that_is_one_of_the_last_three() {
    let mut queue = new_queue();
    let leases = [asks(&mut queue, 0, 33), asks(&mut queue, 0, 65)];
    for serving in [4, 5, 6] {
        ends(&mut queue, 0, 1, &success(serving));
    }
    queue.end_attempt(0, &leases[0], Some(&failure(4)), None);
    ends(&mut queue, 0, 1, &success(7));
    queue.end_attempt(0, &leases[1], Some(&failure(4)), None);
    let kept = [(5, Canary, 1, 0), (6, Canary, 1, 0), (7, Canary, 1, 0)];
    assert_eq!(customers(&mut queue), kept);
}

#[test]
fn a_late_outcome_of_a_serving_that_was_never_counted_before_counts_while_there_is_room() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &success(6));
    ends(&mut queue, 0, 1, &failure(4));
    assert_eq!(customers(&mut queue), [(4, Canary, 1, 1), (6, Canary, 1, 0)]);
    ends(&mut queue, 0, 1, &failure(5));
    ends(&mut queue, 0, 1, &failure(3));
    let kept = [(4, Canary, 1, 1), (5, Canary, 1, 1), (6, Canary, 1, 0)];
    assert_eq!(customers(&mut queue), kept);
}

#[test]
fn what_came_too_late_to_count_has_ended_all_the_same() {
    let mut queue = new_queue();
    let lease = asks(&mut queue, 0, 33);
    for serving in [4, 5, 6] {
        ends(&mut queue, 0, 1, &success(serving));
    }
    queue.end_attempt(0, &lease, Some(&failure(3)), None);
    queue.complete(0, &lease, Some(&success(6)));
    let sixth = messages(&mut queue).pop();
    assert_eq!(sixth, Some(Count { evidence: success(6), messages: 1 }));
}

#[test]
fn counts_of_a_channel_are_forgotten_ninety_days_after_the_last() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &success(1));
    queue.sweep(90 * DAY - 1, 1);
    assert_eq!(customers(&mut queue), [(1, Canary, 1, 0)]);
    queue.sweep(90 * DAY, 1);
    assert_eq!((messages(&mut queue), customers(&mut queue)), (vec![], vec![]));
}

#[test]
fn a_customer_whose_every_message_is_rescued_is_one_rescued_customer() {
    let mut queue = new_queue();
    for nth in 0..3 {
        let lease = fails(&mut queue, nth, 1, 4);
        if nth == 1 {
            queue.rescue_silently(nth, &lease, 4);
        } else {
            queue.rescue(nth, &lease, intent("i", 1), 4);
            queue.rescue(nth, &lease, intent("i", 1), 4);
            queue.rescue_silently(nth, &lease, 4);
        }
        queue = read_back(&mut queue);
        assert_eq!(rescued(&mut queue), [(4, Canary, 1, 1)]);
    }
    assert_eq!(messages(&mut queue), [Count { evidence: failure(4), messages: 3 }]);
}

#[test]
fn a_rescue_that_failed_rescues_nobody_and_a_later_one_does_once() {
    let mut queue = new_queue();
    let lease = fails(&mut queue, 0, 1, 4);
    queue.bury(0, &lease, "http");
    assert_eq!(rescued(&mut queue), [(4, Canary, 1, 0)]);
    let lease = fails(&mut queue, 0, 1, 4);
    queue.rescue(0, &lease, intent("i", 1), 4);
    assert_eq!(rescued(&mut queue), [(4, Canary, 1, 1)]);
    queue.complete(0, &lease, None);
    let lease = fails(&mut queue, 0, 1, 4);
    queue.bury(0, &lease, "http");
    let lease = fails(&mut queue, 0, 1, 4);
    queue.rescue_silently(0, &lease, 4);
    assert_eq!(rescued(&mut queue), [(4, Canary, 1, 1)]);
}

#[test]
fn a_takeover_that_goes_straight_to_stable_rescues() {
    let mut queue = new_queue();
    fails(&mut queue, 0, 1, 4);
    let (head, lease) = queue.take(LEASE_MS, 1, "b").unwrap();
    assert!(head.counted);
    queue.rescue(LEASE_MS, &lease, intent("i", 1), 4);
    assert_eq!(rescued(&mut queue), [(4, Canary, 1, 1)]);
}

#[test]
fn only_whom_the_canary_of_this_serving_is_known_to_have_failed_is_rescued() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &success(4));
    ends(&mut queue, 0, 33, &evidence(4, Stable, Class::Http));
    for number in [1, 33, 65] {
        let lease = asks(&mut queue, 0, number);
        queue.rescue_silently(0, &lease, 4);
    }
    let lease = fails(&mut queue, 0, 97, 4);
    queue.rescue_silently(0, &lease, 5);
    assert_eq!(rescued(&mut queue), [(4, Stable, 1, 0), (4, Canary, 1, 0)]);
}

#[test]
fn a_rescue_without_a_first_attempt_before_it_ends_none() {
    let mut queue = new_queue();
    ends(&mut queue, 0, 1, &failure(4));
    let lease = asks(&mut queue, 0, 1);
    queue.rescue(0, &lease, intent("i", 1), 4);
    assert!(!queue.take(LEASE_MS, 1, "b").unwrap().0.counted);
    assert_eq!(rescued(&mut queue), [(4, Canary, 1, 1)]);
}

#[test]
fn the_rescued_of_all_shards_are_summed_and_go_with_their_serving() {
    let mut queue = new_queue();
    for number in [1, 2, 33, 3] {
        let lease = fails(&mut queue, 0, number, 4);
        queue.rescue_silently(0, &lease, 4);
    }
    assert_eq!(rescued(&mut queue), [(4, Canary, 4, 4)]);
    for serving in [5, 6, 7] {
        (1..=3).for_each(|number| ends(&mut queue, 0, number, &success(serving)));
    }
    assert_eq!(rescued(&mut queue), [5, 6, 7].map(|serving| (serving, Canary, 0, 0)));
}

#[test]
fn whom_a_canary_failed_is_known_for_seven_days() {
    let mut queue = new_queue();
    let lease = fails(&mut queue, 0, 1, 4);
    queue.rescue(CUSTOMERS_MS, &lease, intent("i", 1), 4);
    assert_eq!(rescued(&mut queue), [(4, Canary, 1, 0)]);
    let lease = fails(&mut queue, CUSTOMERS_MS, 33, 4);
    queue.rescue(2 * CUSTOMERS_MS - 1, &lease, intent("i", 1), 4);
    assert_eq!(rescued(&mut queue), [(4, Canary, 2, 1)]);
}

#[test]
fn who_is_erased_was_rescued_and_is_not_known_any_more() {
    let mut queue = new_queue();
    let lease = fails(&mut queue, 0, 1, 4);
    queue.rescue_silently(0, &lease, 4);
    queue.erase(0, &lease.conversation, &["channel"]);
    assert_eq!(customer_rows(&mut queue), [""; 0]);
    assert_eq!(rescued(&mut queue), [(4, Canary, 1, 1)]);
}

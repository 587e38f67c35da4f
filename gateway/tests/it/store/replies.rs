//! Replies: one durable intent a head, a mark before each POST, a SID after it.

use kanarie_queue::claim::Claimed;
use kanarie_queue::intent::{Intent, Sending};
use kanarie_queue::lease::Owned;
use kanarie_queue::send::{Committed, Marked};

use crate::store::stage::{LEASE_MS, START, Stage, id, intent};

on_both_stores!(
    a_committed_reply_is_told_to_the_next_owner,
    a_commit_starts_with_nothing_sent_whatever_it_was_given,
    the_same_commit_again_is_done,
    an_intent_that_exists_wins,
    a_commit_forgets_the_run,
    a_commit_renews_the_lease_by_its_length,
    an_intent_that_exists_renews_nothing,
    a_segment_is_marked_before_its_post,
    the_same_attempt_may_mark_again_and_its_time_is_the_last,
    another_attempts_mark_makes_a_segment_ambiguous,
    a_refuted_mark_is_replaced_and_the_segment_counts_as_resent,
    a_mark_that_was_not_refuted_stays,
    a_segment_with_its_sid_is_sent,
    a_segment_beyond_the_next_one_is_stale,
    a_segment_beyond_the_last_one_is_stale,
    a_mark_of_another_intent_is_stale,
    a_mark_without_an_intent_is_stale,
    an_attempt_takes_its_own_mark_back,
    an_attempt_does_not_take_anothers_mark_back,
    taking_back_a_mark_that_is_gone_is_done,
    a_sid_is_taken_once_and_in_order,
    a_sid_is_taken_without_a_lease,
    a_sid_makes_a_delayed_reply_with_a_mark_ready_at_once,
    a_sid_leaves_a_delayed_reply_without_a_mark_to_its_delay,
    a_sid_clears_mark_and_resent,
    a_sid_for_another_intent_is_refused,
    a_sid_beyond_the_last_segment_is_refused,
    an_ambiguous_segment_names_the_last_eight_sids,
    a_sid_is_forgotten_after_ten_minutes,
    sids_outlive_the_reply_they_belong_to,
    a_completed_reply_is_gone,
    a_repeated_complete_is_stale,
);

async fn a_committed_reply_is_told_to_the_next_owner(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.commit(&lease, "i", 2).await, Committed::Done);
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("b").await.0.intent, Some(intent("i", 2)));
}

async fn a_commit_starts_with_nothing_sent_whatever_it_was_given(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    let sending = Some(sending("p", 0));
    let given = Intent { sent: vec![id("SM")], sending, resent: true, ..intent("i", 2) };
    stage.commit_reply(&lease, given, None).await;
    assert_eq!(present(stage).await, intent("i", 2));
}

async fn the_same_commit_again_is_done(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    assert_eq!(stage.commit(&lease, "i", 1).await, Committed::Done);
}

async fn an_intent_that_exists_wins(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    let exists = Committed::Exists(Box::new(intent("i", 1)));
    assert_eq!(stage.commit(&lease, "j", 2).await, exists);
    assert_eq!(present(stage).await, intent("i", 1));
}

async fn a_commit_forgets_the_run(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.keep_run(&lease, Some("run")).await;
    stage.commit(&lease, "i", 1).await;
    assert_eq!(stage.claim("a").await.0.run, None);
}

async fn a_commit_renews_the_lease_by_its_length(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.extend(std::slice::from_ref(&lease), 20_000).await;
    stage.pass(10_000);
    stage.commit(&lease, "i", 1).await;
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(20_000) });
}

async fn an_intent_that_exists_renews_nothing(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.pass(10_000);
    stage.commit(&lease, "i", 1).await;
    stage.commit(&lease, "j", 1).await;
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(LEASE_MS - 10_000) });
}

async fn a_segment_is_marked_before_its_post(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.pass(700);
    assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Go);
    let sending = Some(sending("p", 700));
    assert_eq!(present(stage).await, Intent { sending, ..intent("i", 1) });
}

async fn the_same_attempt_may_mark_again_and_its_time_is_the_last(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    stage.pass(700);
    assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Go);
    let sending = Some(sending("p", 700));
    assert_eq!(present(stage).await.sending, sending);
}

async fn another_attempts_mark_makes_a_segment_ambiguous(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    stage.pass(700);
    assert_eq!(stage.mark(&lease, "i", 0, "q").await, ambiguous("p", 0, &[], 700));
}

async fn a_refuted_mark_is_replaced_and_the_segment_counts_as_resent(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    stage.pass(700);
    assert_eq!(stage.mark_again(&lease, "i", 0, "q", Some("p")).await, Marked::Go);
    let sending = Some(sending("q", 700));
    assert_eq!(present(stage).await, Intent { sending, resent: true, ..intent("i", 1) });
    // The answer may have been lost: the same again is the same.
    assert_eq!(stage.mark_again(&lease, "i", 0, "q", Some("p")).await, Marked::Go);
}

async fn a_mark_that_was_not_refuted_stays(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    let answer = stage.mark_again(&lease, "i", 0, "q", Some("other")).await;
    assert_eq!(answer, ambiguous("p", 0, &[], 0));
    assert!(!present(stage).await.resent);
}

async fn a_segment_with_its_sid_is_sent(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 2).await;
    stage.sent(&lease, "i", 0, "SMout").await;
    assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Sent);
    assert_eq!(stage.mark(&lease, "i", 1, "p").await, Marked::Go);
}

async fn a_segment_beyond_the_next_one_is_stale(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 3).await;
    assert_eq!(stage.mark(&lease, "i", 1, "p").await, Marked::Stale);
}

async fn a_segment_beyond_the_last_one_is_stale(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.sent(&lease, "i", 0, "SMout").await;
    assert_eq!(stage.mark(&lease, "i", 1, "p").await, Marked::Stale);
}

async fn a_mark_of_another_intent_is_stale(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    assert_eq!(stage.mark(&lease, "j", 0, "p").await, Marked::Stale);
    assert_eq!(stage.unmark(&lease, "j", 0, "p").await, Owned::Stale);
}

async fn a_mark_without_an_intent_is_stale(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Stale);
    assert_eq!(stage.unmark(&lease, "i", 0, "p").await, Owned::Stale);
}

async fn an_attempt_takes_its_own_mark_back(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    assert_eq!(stage.unmark(&lease, "i", 0, "p").await, Owned::Done);
    assert_eq!(present(stage).await, intent("i", 1));
    assert_eq!(stage.mark(&lease, "i", 0, "q").await, Marked::Go);
}

async fn an_attempt_does_not_take_anothers_mark_back(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    assert_eq!(stage.unmark(&lease, "i", 0, "q").await, Owned::Done);
    assert_eq!(stage.mark(&lease, "i", 0, "q").await, ambiguous("p", 0, &[], 0));
}

async fn taking_back_a_mark_that_is_gone_is_done(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    assert_eq!(stage.unmark(&lease, "i", 0, "p").await, Owned::Done);
}

async fn a_sid_is_taken_once_and_in_order(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 2).await;
    assert!(!stage.sent(&lease, "i", 1, "SMb").await);
    assert!(stage.sent(&lease, "i", 0, "SMa").await);
    assert!(!stage.sent(&lease, "i", 0, "SMa").await);
    assert!(!stage.sent(&lease, "i", 0, "SMc").await);
    assert!(stage.sent(&lease, "i", 1, "SMb").await);
    assert_eq!(present(stage).await.sent, ["SMa", "SMb"]);
}

async fn a_sid_is_taken_without_a_lease(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    stage.retry(&lease, 1_000, true).await;
    assert!(stage.sent(&lease, "i", 0, "SMout").await);
}

async fn a_sid_makes_a_delayed_reply_with_a_mark_ready_at_once(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.mark(&lease, "i", 0, "p").await;
    stage.retry(&lease, 1_000, true).await;
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(1_000) });
    stage.sent(&lease, "i", 0, "SMout").await;
    assert_eq!(stage.claim("b").await.0.intent.unwrap().sent, ["SMout"]);
}

async fn a_sid_leaves_a_delayed_reply_without_a_mark_to_its_delay(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.retry(&lease, 1_000, true).await;
    stage.sent(&lease, "i", 0, "SMout").await;
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: Some(1_000) });
}

async fn a_sid_clears_mark_and_resent(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 2).await;
    stage.mark(&lease, "i", 0, "p").await;
    stage.mark_again(&lease, "i", 0, "q", Some("p")).await;
    stage.sent(&lease, "i", 0, "SMout").await;
    assert_eq!(present(stage).await, Intent { sent: vec![id("SMout")], ..intent("i", 2) });
}

async fn a_sid_for_another_intent_is_refused(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert!(!stage.sent(&lease, "i", 0, "SMout").await);
    stage.commit(&lease, "i", 1).await;
    assert!(!stage.sent(&lease, "j", 0, "SMout").await);
}

async fn a_sid_beyond_the_last_segment_is_refused(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    assert!(stage.sent(&lease, "i", 0, "SMa").await);
    assert!(!stage.sent(&lease, "i", 1, "SMb").await);
}

async fn an_ambiguous_segment_names_the_last_eight_sids(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 11).await;
    for segment in 0..10 {
        stage.sent(&lease, "i", segment, &format!("out-{segment}")).await;
    }
    stage.mark(&lease, "i", 10, "p").await;
    let sids: Vec<String> = (2..10).map(|segment| format!("out-{segment}")).collect();
    let sids: Vec<&str> = sids.iter().map(String::as_str).collect();
    assert_eq!(stage.mark(&lease, "i", 10, "q").await, ambiguous("p", 0, &sids, 0));
}

async fn a_sid_is_forgotten_after_ten_minutes(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 3).await;
    stage.sent(&lease, "i", 0, "SMa").await;
    stage.at(1_000);
    stage.sent(&lease, "i", 1, "SMb").await;
    stage.mark(&lease, "i", 2, "p").await;
    stage.at(599_999);
    let both = ambiguous("p", 1_000, &["SMa", "SMb"], 599_999);
    assert_eq!(stage.mark(&lease, "i", 2, "q").await, both);
    stage.at(600_000);
    let second = ambiguous("p", 1_000, &["SMb"], 600_000);
    assert_eq!(stage.mark(&lease, "i", 2, "q").await, second);
    stage.at(601_000);
    let none = ambiguous("p", 1_000, &[], 601_000);
    assert_eq!(stage.mark(&lease, "i", 2, "q").await, none);
}

async fn sids_outlive_the_reply_they_belong_to(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.sent(&lease, "i", 0, "SMa").await;
    stage.complete(&lease).await;
    let lease = stage.lease(1, "SM2", "b").await;
    stage.commit(&lease, "j", 1).await;
    stage.mark(&lease, "j", 0, "p").await;
    assert_eq!(stage.mark(&lease, "j", 0, "q").await, ambiguous("p", 0, &["SMa"], 0));
}

async fn a_completed_reply_is_gone(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    assert_eq!(stage.complete(&lease).await, Owned::Done);
    assert!(!stage.sent(&lease, "i", 0, "SMout").await);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: None });
}

async fn a_repeated_complete_is_stale(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(1, "SM2").await;
    let (_, lease) = stage.claim("a").await;
    assert_eq!(stage.complete(&lease).await, Owned::Done);
    assert_eq!(stage.complete(&lease).await, Owned::Stale);
    assert_eq!(stage.claim("b").await.0.envelope, "SM2");
}

/// The intent of the lease with nonce `a`, as a repeated claim tells it.
async fn present(stage: &Stage) -> Intent {
    stage.claim("a").await.0.intent.unwrap()
}

fn ambiguous(attempt: &str, at: u64, attributed: &[&str], now: u64) -> Marked {
    Marked::Ambiguous {
        sending: sending(attempt, at),
        attributed: attributed.iter().map(|sid| id(sid)).collect(),
        now: START + now,
    }
}

/// A mark that no listing has missed.
fn sending(attempt: &str, at: u64) -> Sending {
    Sending { attempt: id(attempt), at: START + at, missed_at: None }
}

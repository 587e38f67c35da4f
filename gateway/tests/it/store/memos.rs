//! What is remembered of a reply: by the conversation for a day, and of a post that a listing missed.

use kanarie_queue::admit::Admit;
use kanarie_queue::intent::{Memo, Sending};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::send::{Committed, Marked};

use crate::store::stage::{LEASE_MS, START, Stage, id, message};

const DAY_MS: u64 = 86_400_000;

on_both_stores!(
    what_a_reply_leaves_behind_is_told_with_the_next_message,
    a_memo_comes_back_byte_for_byte,
    a_memo_is_forgotten_after_a_day,
    a_memo_is_of_its_conversation_only,
    the_head_itself_is_told_what_its_own_reply_left_behind,
    a_later_reply_without_a_memo_clears_it,
    a_later_memo_takes_its_place_and_a_day_of_its_own,
    a_silence_clears_a_memo,
    a_burial_keeps_a_memo,
    a_reply_that_was_refused_for_another_leaves_nothing_behind,
    a_memo_stays_when_the_channel_is_made_anew,
    the_first_listing_that_missed_a_post_is_the_one_remembered,
    a_claim_tells_when_a_listing_first_missed_the_post,
    only_the_post_whose_mark_stands_can_be_missed,
    a_new_mark_was_missed_by_no_listing_yet,
    a_post_that_was_sent_was_missed_by_nobody,
);

fn question() -> Memo {
    Memo { question: Some("which table?".to_owned()), apologised: false }
}

fn apology() -> Memo {
    Memo { question: None, apologised: true }
}

/// A message that was answered with something to remember.
async fn asked(stage: &Stage, memo: &Memo) {
    let lease = stage.lease(1, "SM1", "first").await;
    assert_eq!(stage.commit_memo(&lease, "i", memo).await, Committed::Done);
    stage.complete(&lease).await;
}

/// What is told with the next message.
async fn next_memo(stage: &Stage) -> Memo {
    stage.queue(1, "SMnext").await;
    stage.claim("next").await.0.memo
}

async fn what_a_reply_leaves_behind_is_told_with_the_next_message(stage: &Stage) {
    asked(stage, &question()).await;
    stage.at(DAY_MS - 1);
    assert_eq!(next_memo(stage).await, question());
}

async fn a_memo_comes_back_byte_for_byte(stage: &Stage) {
    let text = "{\"a\": \"Héllo 👋\\n\", \"b\": [], \"c\": null}\0\r\n 17 %d\u{7f}".to_owned();
    let memo = Memo { question: Some(text), apologised: true };
    asked(stage, &memo).await;
    assert_eq!(next_memo(stage).await, memo);
}

async fn a_memo_is_forgotten_after_a_day(stage: &Stage) {
    asked(stage, &question()).await;
    stage.at(DAY_MS);
    assert_eq!(next_memo(stage).await, Memo::default());
}

async fn a_memo_is_of_its_conversation_only(stage: &Stage) {
    asked(stage, &question()).await;
    stage.queue(2, "SM2").await;
    assert_eq!(stage.claim("a").await.0.memo, Memo::default());
}

async fn the_head_itself_is_told_what_its_own_reply_left_behind(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit_memo(&lease, "i", &apology()).await;
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("b").await.0.memo, apology());
}

async fn a_later_reply_without_a_memo_clears_it(stage: &Stage) {
    asked(stage, &question()).await;
    let lease = stage.lease(1, "SM2", "a").await;
    stage.commit(&lease, "j", 1).await;
    stage.complete(&lease).await;
    assert_eq!(next_memo(stage).await, Memo::default());
}

async fn a_later_memo_takes_its_place_and_a_day_of_its_own(stage: &Stage) {
    asked(stage, &question()).await;
    stage.at(DAY_MS - 1);
    let lease = stage.lease(1, "SM2", "a").await;
    stage.commit_memo(&lease, "j", &apology()).await;
    stage.complete(&lease).await;
    stage.at(DAY_MS);
    stage.sweep().await;
    stage.at(2 * DAY_MS - 2);
    assert_eq!(next_memo(stage).await, apology());
}

async fn a_silence_clears_a_memo(stage: &Stage) {
    asked(stage, &question()).await;
    let lease = stage.lease(1, "SM2", "a").await;
    stage.complete(&lease).await;
    assert_eq!(next_memo(stage).await, Memo::default());
}

async fn a_burial_keeps_a_memo(stage: &Stage) {
    asked(stage, &question()).await;
    let lease = stage.lease(1, "SM2", "a").await;
    stage.bury(&lease, "agent").await;
    assert_eq!(next_memo(stage).await, question());
}

async fn a_reply_that_was_refused_for_another_leaves_nothing_behind(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    assert!(matches!(stage.commit_memo(&lease, "j", &question()).await, Committed::Exists(_)));
    // The same one again is done, and was done as it was.
    assert_eq!(stage.commit_memo(&lease, "i", &question()).await, Committed::Done);
    stage.complete(&lease).await;
    assert_eq!(next_memo(stage).await, Memo::default());
}

async fn a_memo_stays_when_the_channel_is_made_anew(stage: &Stage) {
    asked(stage, &question()).await;
    stage.run(Admit { channel: id("anew"), ..message(1, "SM2") }).await;
    assert_eq!(stage.claim("a").await.0.memo, question());
}

/// A reply of two segments whose first is marked by `p` at 0.
async fn marked(stage: &Stage) -> Lease {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 2).await;
    assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Go);
    lease
}

fn sending(attempt: &str, at: u64, missed_at: Option<u64>) -> Sending {
    let missed_at = missed_at.map(|at| START + at);
    Sending { attempt: id(attempt), at: START + at, missed_at }
}

/// The mark that stands, as another attempt meets it.
async fn standing(stage: &Stage, lease: &Lease) -> Sending {
    match stage.mark(lease, "i", 0, "curious").await {
        Marked::Ambiguous { sending, .. } => sending,
        other => panic!("no mark stands: {other:?}"),
    }
}

async fn the_first_listing_that_missed_a_post_is_the_one_remembered(stage: &Stage) {
    let lease = marked(stage).await;
    stage.at(2_000);
    assert_eq!(stage.missed(&lease, "i", 0, "p").await, Owned::Done);
    stage.at(8_000);
    assert_eq!(stage.missed(&lease, "i", 0, "p").await, Owned::Done);
    assert_eq!(standing(stage, &lease).await, sending("p", 0, Some(2_000)));
}

async fn a_claim_tells_when_a_listing_first_missed_the_post(stage: &Stage) {
    let lease = marked(stage).await;
    stage.at(2_000);
    stage.missed(&lease, "i", 0, "p").await;
    stage.retry(&lease, 0, false).await;
    let intent = stage.claim("b").await.0.intent.unwrap();
    assert_eq!(intent.sending, Some(sending("p", 0, Some(2_000))));
}

async fn only_the_post_whose_mark_stands_can_be_missed(stage: &Stage) {
    let lease = marked(stage).await;
    assert_eq!(stage.missed(&lease, "i", 0, "q").await, Owned::Done);
    assert_eq!(stage.missed(&lease, "i", 1, "p").await, Owned::Done);
    assert_eq!(stage.missed(&lease, "j", 0, "p").await, Owned::Stale);
    assert_eq!(standing(stage, &lease).await, sending("p", 0, None));
    stage.release(&lease).await;
    assert_eq!(stage.missed(&lease, "i", 0, "p").await, Owned::Stale);
}

async fn a_new_mark_was_missed_by_no_listing_yet(stage: &Stage) {
    let lease = marked(stage).await;
    stage.missed(&lease, "i", 0, "p").await;
    assert_eq!(stage.mark_again(&lease, "i", 0, "q", Some("p")).await, Marked::Go);
    assert_eq!(standing(stage, &lease).await, sending("q", 0, None));
    stage.missed(&lease, "i", 0, "q").await;
    stage.unmark(&lease, "i", 0, "q").await;
    stage.mark(&lease, "i", 0, "p").await;
    assert_eq!(standing(stage, &lease).await, sending("p", 0, None));
}

async fn a_post_that_was_sent_was_missed_by_nobody(stage: &Stage) {
    let lease = marked(stage).await;
    stage.missed(&lease, "i", 0, "p").await;
    stage.sent(&lease, "i", 0, "SMout").await;
    assert_eq!(stage.missed(&lease, "i", 0, "p").await, Owned::Done);
    let intent = stage.claim("a").await.0.intent.unwrap();
    assert_eq!((intent.sending, intent.sent.len()), (None, 1));
}

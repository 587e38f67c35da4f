//! The reply: one intent a head, marks and what refutes them, callbacks, what a conversation remembers.

use kanarie_queue::intent::{Memo, Sending};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::queue::Queue;
use kanarie_queue::send::{CommitReply, Committed, Marked};
use kanarie_words::Millis;

use crate::words::{
    DAY, LEASE_MS, Words as _, all_rows, attempt_id, claimed, committed, intent, message, post,
    read_back, sid,
};

fn sending(attempt: &str, at: Millis, missed_at: Option<Millis>) -> Sending {
    Sending { attempt: attempt_id(attempt), at, missed_at }
}

#[test]
fn the_first_intent_of_a_head_wins() {
    let (mut queue, lease) = committed(2);
    let standing = Committed::Exists(Box::new(intent("i", 2)));
    assert_eq!(queue.commit_reply(0, &lease, intent("other", 1), None), standing);
    assert_eq!(queue.commit_reply(0, &lease, intent("i", 2), None), Committed::Done);
}

#[test]
fn a_segment_that_another_attempt_marked_is_ambiguous() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(5, &lease, &post("i", 0, "first"), None);
    let ambiguous =
        Marked::Ambiguous { sending: sending("first", 5, None), attributed: Vec::new(), now: 9 };
    assert_eq!(queue.mark_sending(9, &lease, &post("i", 0, "second"), None), ambiguous);
    let wrong = queue.mark_sending(9, &lease, &post("i", 0, "second"), Some("third"));
    assert_eq!(wrong, ambiguous);
}

#[test]
fn a_mark_that_listings_refuted_is_replaced_and_remembered() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(0, &lease, &post("i", 0, "first"), None);
    let replaced = queue.mark_sending(20_000, &lease, &post("i", 0, "second"), Some("first"));
    assert_eq!(replaced, Marked::Go);
    queue.release(20_000, &lease);
    let reply = queue.take(20_000, 1, "b").unwrap().0.intent.unwrap();
    assert!(reply.resent);
}

#[test]
fn segments_are_marked_in_order_and_never_past_the_last() {
    let (mut queue, lease) = committed(2);
    assert_eq!(queue.mark_sending(0, &lease, &post("i", 1, "a"), None), Marked::Stale);
    assert!(queue.mark_sent(0, &lease.conversation, "i", 0, "S0"));
    assert_eq!(queue.mark_sending(0, &lease, &post("i", 0, "a"), None), Marked::Sent);
    assert_eq!(queue.mark_sending(0, &lease, &post("i", 1, "a"), None), Marked::Go);
    assert!(queue.mark_sent(0, &lease.conversation, "i", 1, "S1"));
    assert_eq!(queue.mark_sending(0, &lease, &post("i", 2, "a"), None), Marked::Stale);
    assert!(!queue.mark_sent(0, &lease.conversation, "i", 2, "S2"));
}

#[test]
fn only_the_attempt_that_marked_takes_its_mark_back() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(0, &lease, &post("i", 0, "first"), None);
    queue.unmark(0, &lease, &post("i", 0, "second"));
    let second = queue.mark_sending(0, &lease, &post("i", 0, "second"), None);
    assert!(matches!(second, Marked::Ambiguous { .. }));
    queue.unmark(0, &lease, &post("i", 0, "first"));
    assert_eq!(queue.mark_sending(0, &lease, &post("i", 0, "second"), None), Marked::Go);
}

#[test]
fn a_callback_settles_a_segment_without_a_lease_and_only_once() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(0, &lease, &post("i", 0, "a"), None);
    queue.retry(0, &lease, 20_000, false);
    assert!(!queue.mark_sent(1, &lease.conversation, "another", 0, "S0"));
    assert!(queue.mark_sent(1, &lease.conversation, "i", 0, "S0"));
    assert!(!queue.mark_sent(1, &lease.conversation, "i", 0, "S0"));
}

#[test]
fn a_callback_wakes_a_conversation_that_waits_to_learn_of_its_post() {
    let (mut queue, lease) = committed(2);
    queue.mark_sending(0, &lease, &post("i", 0, "a"), None);
    queue.retry(0, &lease, 20_000, false);
    assert!(queue.take(1, 1, "b").is_none());
    queue.mark_sent(1, &lease.conversation, "i", 0, "S0");
    let (head, _) = queue.take(1, 1, "b").unwrap();
    assert_eq!(head.intent.unwrap().sent, [sid("S0")]);
}

#[test]
fn a_callback_that_answers_no_open_question_leaves_a_conversation_to_its_delay() {
    let (mut queue, lease) = committed(2);
    queue.retry(0, &lease, 20_000, false);
    assert!(queue.mark_sent(1, &lease.conversation, "i", 0, "S0"));
    assert!(queue.take(19_999, 1, "b").is_none());
    assert!(queue.take(20_000, 1, "b").is_some());
}

#[test]
fn a_callback_during_a_lease_moves_nothing() {
    let (mut queue, lease) = committed(2);
    queue.mark_sending(0, &lease, &post("i", 0, "a"), None);
    queue.mark_sent(1, &lease.conversation, "i", 0, "S0");
    assert!(queue.take(1, 1, "b").is_none());
    assert_eq!(queue.complete(1, &lease, None), Owned::Done);
}

#[test]
fn sids_of_earlier_replies_are_named_for_ten_minutes() {
    let (mut queue, lease) = committed(1);
    queue.mark_sent(0, &lease.conversation, "i", 0, "S0");
    queue.complete(0, &lease, None);
    queue.admit(0, message(1, "SM2"));
    let (_, lease) = queue.take(0, 1, "b").unwrap();
    queue.commit_reply(0, &lease, intent("j", 1), None);
    queue.mark_sending(0, &lease, &post("j", 0, "first"), None);
    let mut named = |now| match queue.mark_sending(now, &lease, &post("j", 0, "second"), None) {
        Marked::Ambiguous { attributed, .. } => Some(attributed),
        _ => None,
    };
    assert_eq!(named(599_999), Some(vec![sid("S0")]));
    assert_eq!(named(600_000), Some(Vec::new()));
}

/// The mark of segment 0 of `i`, as another attempt meets it.
fn standing(queue: &mut Queue, now: Millis, lease: &Lease) -> Sending {
    match queue.mark_sending(now, lease, &post("i", 0, "curious"), None) {
        Marked::Ambiguous { sending, .. } => sending,
        other => unreachable!("no mark stands: {other:?}"),
    }
}

#[test]
fn the_first_listing_that_missed_a_post_is_the_one_remembered() {
    let (mut queue, lease) = committed(1);
    let marked = post("i", 0, "first");
    queue.mark_sending(0, &lease, &marked, None);
    assert_eq!(queue.note_missed(20_000, &lease, &marked), Owned::Done);
    assert_eq!(queue.note_missed(80_000, &lease, &marked), Owned::Done);
    assert_eq!(standing(&mut queue, 80_000, &lease), sending("first", 0, Some(20_000)));
    let mut queue = read_back(&mut queue);
    assert_eq!(standing(&mut queue, 80_000, &lease), sending("first", 0, Some(20_000)));
}

#[test]
fn a_claim_tells_when_a_listing_first_missed_the_post() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(0, &lease, &post("i", 0, "first"), None);
    queue.note_missed(1_000, &lease, &post("i", 0, "first"));
    queue.retry(1_000, &lease, 60_000, false);
    let (head, _) = queue.take(61_000, 1, "b").unwrap();
    let first = sending("first", 0, Some(1_000));
    assert_eq!(head.intent.unwrap().sending, Some(first));
}

#[test]
fn only_the_post_whose_mark_stands_can_be_missed() {
    let (mut queue, lease) = committed(2);
    queue.mark_sending(0, &lease, &post("i", 0, "first"), None);
    assert_eq!(queue.note_missed(1, &lease, &post("i", 0, "second")), Owned::Done);
    assert_eq!(queue.note_missed(1, &lease, &post("i", 1, "first")), Owned::Done);
    assert_eq!(queue.note_missed(1, &lease, &post("j", 0, "first")), Owned::Stale);
    assert_eq!(standing(&mut queue, 2, &lease), sending("first", 0, None));
    queue.release(2, &lease);
    assert_eq!(queue.note_missed(2, &lease, &post("i", 0, "first")), Owned::Stale);
}

#[test]
fn a_new_mark_was_missed_by_no_listing_yet() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(0, &lease, &post("i", 0, "first"), None);
    queue.note_missed(20_000, &lease, &post("i", 0, "first"));
    queue.mark_sending(80_000, &lease, &post("i", 0, "second"), Some("first"));
    assert_eq!(standing(&mut queue, 80_000, &lease), sending("second", 80_000, None));

    queue.note_missed(90_000, &lease, &post("i", 0, "second"));
    queue.unmark(90_000, &lease, &post("i", 0, "second"));
    queue.mark_sending(90_000, &lease, &post("i", 0, "third"), None);
    assert_eq!(standing(&mut queue, 90_000, &lease), sending("third", 90_000, None));
}

/// The next message of the conversation, claimed with what is remembered of the one before.
fn next_memo(queue: &mut Queue, now: Millis) -> Memo {
    queue.admit(now, message(1, &format!("SM-{now}")));
    queue.take(now, 1, &format!("at-{now}")).unwrap().0.memo
}

fn question() -> Memo {
    Memo { question: Some("which table?".to_owned()), apologised: false }
}

/// A machine whose conversation has been asked a question at 0, and whose message is done.
fn asked() -> Queue {
    let (mut queue, lease) = claimed();
    queue.commit_memo(0, &lease, intent("i", 1), &question());
    queue.mark_sent(0, &lease.conversation, "i", 0, "S0");
    queue.complete(0, &lease, None);
    queue
}

#[test]
fn what_a_reply_leaves_behind_is_told_with_the_next_message_for_a_day() {
    for (now, expected) in [(DAY - 1, question()), (DAY, Memo::default())] {
        let mut queue = asked();
        assert_eq!(next_memo(&mut queue, now), expected);
        let mut queue = read_back(&mut asked());
        assert_eq!(next_memo(&mut queue, now), expected);
    }
}

#[test]
fn a_memo_is_of_its_conversation_only() {
    let mut queue = asked();
    queue.admit(1, message(33, "neighbour"));
    assert_eq!(queue.take(1, 1, "b").unwrap().0.memo, Memo::default());
}

#[test]
fn the_head_itself_is_told_what_its_own_reply_left_behind() {
    let (mut queue, lease) = claimed();
    let memo = Memo { question: None, apologised: true };
    queue.commit_memo(0, &lease, intent("i", 1), &memo);
    assert_eq!(queue.take(LEASE_MS, 1, "b").unwrap().0.memo, memo);
}

#[test]
fn a_later_reply_without_a_memo_clears_it() {
    let mut queue = asked();
    queue.admit(1, message(1, "SM2"));
    let (_, lease) = queue.take(1, 1, "b").unwrap();
    queue.commit_reply(1, &lease, intent("j", 1), None);
    queue.complete(1, &lease, None);
    assert_eq!(next_memo(&mut queue, 2), Memo::default());
}

#[test]
fn a_later_memo_takes_its_place_and_a_day_of_its_own() {
    let mut queue = asked();
    queue.admit(DAY - 1, message(1, "SM2"));
    let (_, lease) = queue.take(DAY - 1, 1, "b").unwrap();
    let apology = Memo { question: None, apologised: true };
    queue.commit_memo(DAY - 1, &lease, intent("j", 1), &apology);
    queue.complete(DAY - 1, &lease, None);
    queue.sweep(DAY, 1);
    assert_eq!(next_memo(&mut queue, 2 * DAY - 2), apology);
}

#[test]
fn a_silence_clears_a_memo() {
    let mut queue = asked();
    queue.admit(1, message(1, "SM2"));
    let (_, lease) = queue.take(1, 1, "b").unwrap();
    queue.complete(1, &lease, None);
    assert_eq!(next_memo(&mut queue, 2), Memo::default());
}

#[test]
fn a_burial_keeps_a_memo() {
    let mut queue = asked();
    queue.admit(1, message(1, "SM2"));
    let (_, lease) = queue.take(1, 1, "b").unwrap();
    queue.bury(1, &lease, "agent");
    assert_eq!(next_memo(&mut queue, 2), question());
}

#[test]
fn a_reply_that_was_refused_for_another_leaves_no_memo() {
    let (mut queue, lease) = committed(1);
    let (owner, memo) = (lease.clone(), question());
    let late =
        CommitReply { lease: owner, intent: intent("late", 1), outcome: None, memo, mark: None };
    assert!(matches!(queue.run(0, late), Committed::Exists(_)));
    queue.complete(0, &lease, None);
    assert_eq!(next_memo(&mut queue, 1), Memo::default());
}

#[test]
fn a_sweep_forgets_a_memo_after_its_day() {
    let has_memo = |queue: &mut Queue| all_rows(queue).keys().any(|row| row.contains(":me:"));
    let mut queue = asked();
    queue.sweep(DAY - 1, 1);
    assert!(has_memo(&mut queue));
    queue.sweep(DAY, 1);
    assert!(!has_memo(&mut queue));
}

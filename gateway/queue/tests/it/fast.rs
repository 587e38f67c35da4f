//! The verbs that take two steps at once: each leaves what the steps would have left one by one.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::queue::Queue;
use kanarie_queue::send::{Committed, Marked};
use kanarie_words::Millis;

use crate::words::{
    LEASE_MS, Words as _, all_rows, channel, claimed, committed, conversation, intent, lease_of,
    message, new_lease, new_queue, post,
};

/// A message whose lease is wanted.
fn wanted(number: u8, sid: &str, nonce: &str) -> Admit {
    Admit { lease: Some(new_lease(nonce)), ..message(number, sid) }
}

/// The lease that an admission gave.
fn leased(queue: &mut Queue, now: Millis, admit: Admit) -> Lease {
    match queue.admit(now, admit) {
        Admission::Leased(head) => lease_of(&head),
        other => unreachable!("{other:?} is no lease"),
    }
}

#[test]
fn an_admission_that_leases_leaves_what_an_admission_and_a_claim_leave() {
    let (mut one, mut other) = (new_queue(), new_queue());
    let Admission::Leased(head) = one.admit(5, wanted(1, "SM1", "a")) else {
        unreachable!("nothing else waits")
    };
    other.admit(5, message(1, "SM1"));
    assert_eq!(*head, other.take(5, 1, "a").unwrap().0);
    assert_eq!(all_rows(&mut one), all_rows(&mut other));
}

#[test]
fn a_message_behind_another_one_is_queued_although_its_lease_is_wanted() {
    let mut queue = new_queue();
    let first = leased(&mut queue, 0, wanted(1, "SM1", "a"));
    assert_eq!(queue.admit(0, wanted(1, "SM2", "b")), Admission::Queued);
    queue.retry(0, &first, 1_000, true);
    assert_eq!(queue.admit(0, wanted(1, "SM3", "c")), Admission::Queued);
}

#[test]
fn a_message_is_queued_while_anything_of_its_shard_is_ready() {
    let mut queue = new_queue();
    queue.admit(0, Admit { channel: channel("other"), ..message(33, "ready") });
    assert_eq!(queue.admit(0, wanted(1, "SM1", "a")), Admission::Queued);
    leased(&mut queue, 0, wanted(2, "SM2", "b"));
    queue.take(0, 1, "c").unwrap();
    queue.take(0, 1, "d").unwrap();
    leased(&mut queue, 0, wanted(65, "SM3", "e"));
}

#[test]
fn a_repeated_admission_is_a_duplicate_and_its_lease_ends_by_itself() {
    let mut queue = new_queue();
    leased(&mut queue, 0, wanted(1, "SM1", "a"));
    assert_eq!(queue.admit(1, wanted(1, "SM1", "a")), Admission::Duplicate);
    let (head, _) = queue.take(LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM1", 2, 1));
}

#[test]
fn a_lease_whose_answer_was_lost_can_be_given_back() {
    let mut queue = new_queue();
    let lease = leased(&mut queue, 0, wanted(1, "SM1", "a"));
    assert_eq!(queue.release(0, &lease), Owned::Done);
    let (head, _) = queue.take(0, 1, "b").unwrap();
    assert_eq!((head.tries, head.crashes), (1, 0));
}

#[test]
fn a_refused_message_leases_nothing() {
    let mut queue = new_queue();
    let refused = Admit { limit: 0, ..wanted(1, "SM1", "a") };
    assert!(matches!(queue.admit(0, refused), Admission::Limited { .. }));
    assert!(queue.take(0, 1, "a").is_none());
}

#[test]
fn a_commit_that_marks_leaves_what_a_commit_and_a_mark_leave() {
    let ((mut one, lease), (mut other, _)) = (claimed(), claimed());
    assert_eq!(one.commit_marked(7, &lease, intent("i", 2), "p"), Committed::Done);
    other.commit_reply(7, &lease, intent("i", 2), None);
    other.mark_sending(7, &lease, &post("i", 0, "p"), None);
    assert_eq!(all_rows(&mut one), all_rows(&mut other));
}

#[test]
fn a_mark_of_a_commit_is_ambiguous_to_everybody_else() {
    let (mut queue, lease) = claimed();
    queue.commit_marked(0, &lease, intent("i", 1), "p");
    let marked = queue.mark_sending(0, &lease, &post("i", 0, "other"), None);
    assert!(matches!(marked, Marked::Ambiguous { .. }), "I11");
    assert_eq!(queue.mark_sending(0, &lease, &post("i", 0, "p"), None), Marked::Go);
}

#[test]
fn a_commit_that_another_one_came_before_marks_nothing() {
    let (mut queue, lease) = committed(1);
    let answer = queue.commit_marked(0, &lease, intent("late", 1), "p");
    assert_eq!(answer, Committed::Exists(Box::new(intent("i", 1))));
    assert_eq!(queue.commit_marked(0, &lease, intent("i", 1), "p"), Committed::Done);
    let marked = queue.mark_sending(0, &lease, &post("i", 0, "other"), None);
    assert_eq!(marked, Marked::Go, "I9: what stands was not marked");
}

#[test]
fn a_finish_leaves_what_its_three_steps_leave() {
    let ((mut one, lease), (mut other, _)) = (committed(1), committed(1));
    for queue in [&mut one, &mut other] {
        queue.admit(0, message(33, "next"));
        queue.mark_sending(0, &lease, &post("i", 0, "p"), None);
    }
    let finished = one.finish(3, &lease, "i", 0, Some("b"));
    other.mark_sent(3, &lease.conversation, "i", 0, "S");
    assert_eq!(finished.completed, other.complete(3, &lease, None));
    let next = other.claim(3, 1, new_lease("b").nonce, LEASE_MS);
    assert_eq!(finished.next, Some(next));
    assert_eq!(all_rows(&mut one), all_rows(&mut other));
}

#[test]
fn a_finish_without_the_lease_records_the_sid_and_takes_nothing_off() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(0, &lease, &post("i", 0, "p"), None);
    let (_, present) = queue.take(LEASE_MS, 1, "b").unwrap();
    let finished = queue.finish(LEASE_MS, &lease, "i", 0, None);
    assert_eq!((finished.completed, finished.next), (Owned::Stale, None));
    let marked = queue.mark_sending(LEASE_MS, &present, &post("i", 0, "q"), None);
    assert_eq!(marked, Marked::Sent);
    assert_eq!(queue.complete(LEASE_MS, &present, None), Owned::Done);
}

#[test]
fn a_head_whose_reply_is_not_all_sent_is_not_finished() {
    let (mut queue, lease) = committed(2);
    assert_eq!(queue.finish(0, &lease, "i", 0, None).completed, Owned::Stale);
    assert_eq!(queue.finish(0, &lease, "other", 1, None).completed, Owned::Stale);
    assert_eq!(queue.finish(0, &lease, "i", 1, None).completed, Owned::Done);
}

#[test]
fn a_report_that_came_before_the_finish_changes_nothing_for_it() {
    let (mut queue, lease) = committed(1);
    queue.mark_sent(0, &conversation(1), "i", 0, "S");
    assert_eq!(queue.finish(0, &lease, "i", 0, None).completed, Owned::Done);
}

#[test]
fn a_repeated_finish_gives_the_same_head_and_renews_nothing() {
    let (mut queue, lease) = committed(1);
    queue.admit(0, message(1, "SM2"));
    let first = queue.finish(0, &lease, "i", 0, Some("b"));
    let rows = all_rows(&mut queue);
    let again = queue.finish(0, &lease, "i", 0, Some("b"));
    assert_eq!((again.completed, &again.next), (Owned::Stale, &first.next));
    assert!(matches!(first.next, Some(Claimed::Head(_))));
    assert_eq!(all_rows(&mut queue), rows, "I20");
}

//! The memory that a machine may take: what counts, and what is refused when it is used up.

use kanarie_queue::admit::Admission::{Duplicate, Full, Queued};
use kanarie_queue::admit::Admit;
use kanarie_queue::dead::Buried;
use kanarie_queue::lease::Owned;
use kanarie_queue::load::Loading;
use kanarie_queue::queue::Queue;
use kanarie_queue::send::Committed;

use crate::words::{Words as _, intent, message};

/// A machine that may take so much.
fn within(bytes: u64) -> Queue {
    Loading::at(0, Some(bytes)).finish().unwrap()
}

/// A message of a kilobyte, of which any number is within the limit.
fn long(sid: u64) -> Admit {
    Admit { limit: u32::MAX, envelope: "x".repeat(1_024), ..message(1, &format!("SM{sid}")) }
}

/// Admits until there is no room; gives how many.
fn fill(queue: &mut Queue) -> u64 {
    for sid in 0.. {
        if queue.admit(0, long(sid)) == Full {
            return sid;
        }
        queue.take_changes();
    }
    unreachable!("there is an end of every budget")
}

#[test]
fn over_the_budget_nothing_is_admitted_and_completions_make_room() {
    let mut queue = within(200_000);
    let admitted = fill(&mut queue);
    assert!((80..150).contains(&admitted), "{admitted}");
    assert!(queue.is_full(), "of a kilobyte");
    assert_eq!(queue.admit(0, long(0)), Duplicate, "a repetition costs nothing");
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    assert_eq!(queue.commit_reply(0, &lease, intent("i", 1), None), Committed::Done);
    queue.mark_sent(0, &lease.conversation, "i", 0, "S0");
    assert_eq!(queue.complete(0, &lease, None), Owned::Done);
    for nonce in ["b", "c"] {
        let (_, lease) = queue.take(0, 1, nonce).unwrap();
        assert_eq!(queue.complete(0, &lease, None), Owned::Done);
    }
    queue.take_changes();
    assert_eq!(queue.admit(0, long(admitted)), Queued);
}

#[test]
fn a_refused_message_is_no_duplicate_later() {
    let mut queue = within(0);
    assert_eq!(queue.admit(0, long(0)), Full);
    assert_eq!(queue.admit(0, long(0)), Full);
}

#[test]
fn dead_letters_with_their_texts_count() {
    let mut queue = within(200_000);
    let admitted = fill(&mut queue);
    for sid in 0..admitted {
        let (_, lease) = queue.take(0, 1, &format!("n{sid}")).unwrap();
        assert_eq!(queue.bury(0, &lease, "agent"), Buried::Done);
    }
    queue.take_changes();
    assert_eq!(queue.admit(0, long(admitted)), Full);
    for _ in 0..2 {
        queue.sweep(86_400_000, 1);
    }
    queue.take_changes();
    assert_eq!(queue.admit(86_400_000, long(admitted)), Queued, "their texts are gone");
}

#[test]
fn what_was_counted_is_counted_again_when_it_is_read() {
    let mut queue = within(1 << 30);
    for sid in 0..100 {
        queue.admit(0, long(sid));
    }
    let rows = queue.take_changes().into_iter();
    let mut loading = Loading::at(0, Some(1 << 30));
    for row in rows {
        loading.read(&row.key, row.value.unwrap()).unwrap();
    }
    assert_eq!(loading.finish().unwrap().taken(), queue.taken());
}

#[test]
fn sids_take_half_of_the_budget_at_most_and_then_the_oldest_go() {
    // Half of it is a thousand SIDs.
    let mut queue = within(2 * 1_000 * 32);
    for sid in 0..4_000 {
        let now = sid * 10_000;
        let sid = format!("SM{sid}");
        assert_eq!(queue.admit(now, message(1, &sid)), Queued);
        let (_, lease) = queue.take(now, 1, &sid).unwrap();
        queue.complete(now, &lease, None);
        queue.take_changes();
    }
    assert!(queue.taken().1 <= 1_010, "{:?}", queue.taken());
    assert_eq!(queue.take_forgotten(), 4_000 - queue.taken().1);
    assert_eq!(queue.admit(40_000_000, message(1, "SM3500")), Duplicate);
}

#[test]
fn a_closed_machine_admits_nothing_and_finishes_what_it_has() {
    let mut queue = within(1 << 30);
    assert_eq!(queue.admit(0, long(0)), Queued);
    queue.close(true);
    assert_eq!(queue.admit(0, long(1)), Full);
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    assert_eq!(queue.complete(0, &lease, None), Owned::Done);
    queue.close(false);
    assert_eq!(queue.admit(0, long(1)), Queued);
}

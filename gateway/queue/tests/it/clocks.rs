//! A clock that is set wrong and put back: how long a shard stands still, and what it believes then.

use kanarie_queue::claim::Claimed;
use kanarie_queue::clock::STANDS_MS;
use kanarie_queue::lease::Owned;
use kanarie_queue::send::Marked;

use crate::words::{
    DAY, LEASE_MS, Words as _, conversation, intent, message, new_queue, nonce, post, read_back,
};

/// The time that a clock is put back to.
const NOW: u64 = 1_000_000;

#[test]
fn a_shard_stands_still_for_a_minute_at_most() {
    for behind in [1, 30_000, STANDS_MS, STANDS_MS + 1, DAY] {
        let mut queue = new_queue();
        queue.admit(NOW + behind, message(1, "SM1"));
        let (head, _) = queue.take(NOW, 1, "a").unwrap();
        assert!(head.now <= NOW + STANDS_MS, "{behind} ms behind it is {}", head.now);
        assert_eq!(head.now == NOW, behind > STANDS_MS, "{behind} ms behind it is {}", head.now);
    }
}

#[test]
fn a_clock_that_was_put_back_is_believed_by_a_shard_in_which_only_something_waits() {
    let mut queue = new_queue();
    queue.admit(NOW + DAY, message(1, "SM1"));
    let (_, lease) = queue.take(NOW + DAY, 1, "a").unwrap();
    queue.retry(NOW + DAY, &lease, 5_000, true);
    let waits = Claimed::Nothing { next_in_ms: Some(5_000) };
    assert_eq!(queue.claim(NOW, 1, nonce("b"), LEASE_MS), waits);
    assert_eq!(queue.take(NOW + 5_000, 1, "b").unwrap().0.tries, 2);
}

#[test]
fn what_was_put_back_is_so_in_the_rows_as_well() {
    let mut queue = new_queue();
    queue.admit(NOW + DAY, message(1, "SM1"));
    let (_, lease) = queue.take(NOW + DAY, 1, "a").unwrap();
    queue.commit_marked(NOW + DAY + 3_000, &lease, intent("i", 1), "p");
    queue.admit(NOW, message(33, "SM2"));
    let mut queue = read_back(&mut queue);
    let ambiguous = queue.mark_sending(NOW, &lease, &post("i", 0, "q"), None);
    let Marked::Ambiguous { sending, now, .. } = ambiguous else { unreachable!("a mark stands") };
    assert_eq!((sending.at, now), (0, NOW), "nobody knows how old it is");
    assert_eq!(queue.take(NOW, 1, "b").unwrap().0.envelope, "SM2");
    assert_eq!(queue.take(NOW + LEASE_MS, 1, "c").unwrap().0.crashes, 1);
}

#[test]
fn an_owner_keeps_its_lease_over_a_clock_that_is_put_back() {
    let mut queue = new_queue();
    queue.admit(NOW + DAY, message(1, "SM1"));
    let (_, lease) = queue.take(NOW + DAY, 1, "a").unwrap();
    assert!(queue.extend(NOW, &[(conversation(1), nonce("a"))], LEASE_MS).is_empty());
    assert!(queue.take(NOW + LEASE_MS - 1, 1, "b").is_none());
    assert_eq!(queue.complete(NOW + LEASE_MS - 1, &lease, None), Owned::Done);
}

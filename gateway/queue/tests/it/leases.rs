//! Whose turn it is, and who holds it: claims, takeovers, turns of channels, suspects.

use std::collections::BTreeMap;

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::queue::Queue;
use kanarie_queue::send::Marked;

use crate::words::{
    LEASE_MS, Words as _, channel, claimed, conversation, intent, message, neighbour, new_queue,
    nonce, post, read_back,
};

#[test]
fn a_message_is_claimed_answered_and_gone() {
    let mut queue = new_queue();
    assert_eq!(queue.admit(1_000, message(1, "SM1")), Admission::Queued);
    let (head, lease) = queue.take(1_000, 1, "a").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("SM1", 1));
    queue.commit_reply(1_000, &lease, intent("i", 1), None);
    assert_eq!(queue.mark_sending(1_000, &lease, &post("i", 0, "p"), None), Marked::Go);
    assert!(queue.mark_sent(1_000, &conversation(1), "i", 0, "SMout"));
    assert_eq!(queue.complete(1_000, &lease, None), Owned::Done);
    let nothing = Claimed::Nothing { next_in_ms: None };
    assert_eq!(queue.claim(1_000, 1, nonce("b"), LEASE_MS), nothing);
}

#[test]
fn a_machine_read_back_from_its_rows_goes_on_where_it_was() {
    let mut queue = new_queue();
    let mut rows = BTreeMap::new();
    queue.admit(1_000, message(1, "SM1"));
    let (_, lease) = queue.take(1_000, 1, "a").unwrap();
    for row in queue.take_changes() {
        rows.insert(row.key, row.value.unwrap());
    }
    let mut queue = Queue::load(rows).unwrap();
    assert_eq!(queue.complete(1_000, &lease, None), Owned::Done);
}

#[test]
fn messages_of_a_conversation_are_claimed_one_after_the_other() {
    let (mut queue, lease) = claimed();
    queue.admit(1, message(1, "SM2"));
    assert!(queue.take(2, 1, "b").is_none());
    queue.complete(3, &lease, None);
    assert_eq!(queue.take(4, 1, "b").unwrap().0.envelope, "SM2");
}

#[test]
fn a_claim_says_when_the_next_lease_or_delay_ends() {
    let (mut queue, _) = claimed();
    let next = Claimed::Nothing { next_in_ms: Some(LEASE_MS - 100) };
    assert_eq!(queue.claim(100, 1, nonce("b"), LEASE_MS), next);
}

#[test]
fn a_claim_whose_answer_was_lost_gives_the_same_head_again() {
    let (mut queue, _) = claimed();
    queue.admit(1, message(33, "other"));
    let (head, _) = queue.take(2, 1, "a").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("SM1", 1));
}

#[test]
fn a_dead_workers_head_is_taken_over_when_its_lease_ends() {
    let (mut queue, stale) = claimed();
    assert!(queue.take(LEASE_MS - 1, 1, "b").is_none());
    let (head, _) = queue.take(LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.tries, head.crashes), (2, 1));
    assert_eq!(queue.complete(LEASE_MS, &stale, None), Owned::Stale);
}

#[test]
fn each_expired_lease_is_one_crash_and_a_completed_head_forgets_them() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    queue.admit(0, message(1, "SM2"));
    for life in 0..3 {
        let (head, _) = queue.take(life * LEASE_MS, 1, &format!("life-{life}")).unwrap();
        assert_eq!(u64::from(head.crashes), life);
    }
    let (head, lease) = queue.take(3 * LEASE_MS, 1, "last").unwrap();
    assert_eq!((head.tries, head.crashes), (4, 3));
    queue.complete(3 * LEASE_MS, &lease, None);
    let (head, _) = queue.take(3 * LEASE_MS, 1, "next").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries, head.crashes), ("SM2", 1, 0));
}

#[test]
fn an_expired_lease_that_nobody_took_over_is_still_its_owners() {
    let (mut queue, lease) = claimed();
    let late = LEASE_MS + 5_000;
    assert_eq!(queue.complete(late, &lease, None), Owned::Done);
}

#[test]
fn an_extended_lease_is_not_taken_over() {
    let (mut queue, lease) = claimed();
    let leases = [(lease.conversation.clone(), lease.nonce.clone())];
    assert_eq!(queue.extend(10_000, &leases, LEASE_MS), []);
    assert!(queue.take(LEASE_MS, 1, "b").is_none());
    assert!(queue.take(10_000 + LEASE_MS, 1, "b").is_some());
    assert_eq!(queue.extend(26_000, &leases, LEASE_MS), [lease.conversation]);
}

#[test]
fn a_commit_renews_the_lease_and_forgets_the_run() {
    let (mut queue, lease) = claimed();
    queue.keep_run(0, &lease, "run");
    queue.commit_reply(10_000, &lease, intent("i", 1), None);
    assert!(queue.take(LEASE_MS, 1, "b").is_none());
    let (head, _) = queue.take(10_000 + LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.run, head.intent), (None, Some(intent("i", 1))));
}

#[test]
fn a_run_is_kept_for_whoever_takes_over() {
    let (mut queue, lease) = claimed();
    queue.keep_run(0, &lease, "run");
    let (head, _) = queue.take(LEASE_MS, 1, "b").unwrap();
    assert_eq!(head.run.as_deref(), Some("run"));
}

#[test]
fn a_released_head_keeps_its_turn_and_its_try() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "first"));
    queue.admit(0, message(33, "second"));
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    queue.release(0, &lease);
    let (head, _) = queue.take(0, 1, "b").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("first", 1));
}

#[test]
fn a_retried_head_stays_the_head_and_comes_back_when_it_is_due() {
    let (mut queue, lease) = claimed();
    queue.admit(0, message(1, "SM2"));
    queue.retry(0, &lease, 5_000, true);
    assert_eq!(queue.retry(0, &lease, 5_000, true), Owned::Stale);
    assert!(queue.take(4_999, 1, "b").is_none());
    let (head, _) = queue.take(5_000, 1, "b").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("SM1", 2));
}

#[test]
fn an_uncounted_retry_takes_its_try_back() {
    let (mut queue, lease) = claimed();
    queue.retry(0, &lease, 0, false);
    assert_eq!(queue.take(0, 1, "b").unwrap().0.tries, 1);
}

#[test]
fn a_quiet_channel_waits_for_one_turn_of_a_busy_one() {
    let mut queue = new_queue();
    for number in 0..7 {
        let busy =
            Admit { channel: channel("busy"), ..message(number * 32, &format!("b{number}")) };
        queue.admit(0, busy);
    }
    queue.admit(0, Admit { channel: channel("quiet"), ..message(7 * 32, "quiet") });
    let order = (0..8).map(|nth| queue.take(0, 0, &format!("n{nth}")).unwrap().0.envelope);
    assert!(order.take(2).any(|envelope| envelope == "quiet"));
}

#[test]
fn two_channels_with_a_backlog_take_turns() {
    let mut queue = new_queue();
    for nth in 0..40_u16 {
        let channel = channel(if nth < 30 { "many" } else { "few" });
        let admit = message(0, &format!("SM{nth}"));
        queue.admit(0, Admit { channel, conversation: neighbour(nth), ..admit });
    }
    let (mut many, mut few) = (0_i32, 0_i32);
    for nth in 0..20 {
        let (head, lease) = queue.take(0, 1, &format!("n{nth}")).unwrap();
        if head.channel == channel("many") {
            many += 1;
        } else {
            few += 1;
        }
        assert!((many - few).abs() <= 1, "{many} to {few} after {nth}");
        queue.complete(0, &lease, None);
    }
}

#[test]
fn a_message_for_a_channel_made_anew_is_claimed_for_that_one() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    queue.admit(0, Admit { channel: channel("anew"), ..message(1, "SM2") });
    assert_eq!(queue.take(0, 1, "a").unwrap().0.channel, channel("anew"));
}

#[test]
fn only_a_lease_that_expires_while_its_owner_runs_no_other_suspect_was_a_crash_alone() {
    let (mut queue, lease) = claimed();
    let (head, _) = queue.take(LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.crashes, head.crashed_alone), (1, false));
    assert_eq!(queue.isolate(LEASE_MS, &lease), Owned::Stale);

    let (_, lease) = queue.take(2 * LEASE_MS, 1, "c").unwrap();
    assert_eq!(queue.isolate(2 * LEASE_MS, &lease), Owned::Done);
    assert_eq!(queue.isolate(2 * LEASE_MS, &lease), Owned::Done);
    let (head, _) = queue.take(3 * LEASE_MS, 1, "d").unwrap();
    assert_eq!((head.crashes, head.crashed_alone), (3, true));
}

#[test]
fn the_crash_alone_of_one_owner_says_nothing_of_the_next() {
    let (mut queue, lease) = claimed();
    queue.isolate(0, &lease);
    assert!(queue.take(LEASE_MS, 1, "b").unwrap().0.crashed_alone);
    let (head, _) = queue.take(2 * LEASE_MS, 1, "c").unwrap();
    assert_eq!((head.crashes, head.crashed_alone), (2, false));
}

#[test]
fn whoever_gives_a_suspect_back_has_not_crashed_alone() {
    type GiveBack = fn(&mut Queue, &Lease) -> Owned;
    let ways: [GiveBack; 3] = [
        |queue, lease| queue.release(0, lease),
        |queue, lease| queue.retry(0, lease, 0, true),
        |queue, lease| queue.park(0, lease, 0, 0),
    ];
    for give_back in ways {
        let (mut queue, lease) = claimed();
        queue.isolate(0, &lease);
        assert_eq!(give_back(&mut queue, &lease), Owned::Done);
        queue.take(0, 1, "b").unwrap();
        let (head, _) = queue.take(LEASE_MS, 1, "c").unwrap();
        assert_eq!((head.crashes, head.crashed_alone), (1, false));
    }
}

#[test]
fn the_next_message_of_a_suspect_is_none() {
    let (mut queue, lease) = claimed();
    queue.admit(0, message(1, "SM2"));
    queue.isolate(0, &lease);
    let (_, lease) = queue.take(LEASE_MS, 1, "b").unwrap();
    queue.isolate(LEASE_MS, &lease);
    queue.bury(LEASE_MS, &lease, "crashed");
    queue.take(LEASE_MS, 1, "c").unwrap();
    let (head, _) = queue.take(2 * LEASE_MS, 1, "d").unwrap();
    assert_eq!((head.envelope.as_str(), head.crashes, head.crashed_alone), ("SM2", 1, false));
}

#[test]
fn a_suspect_is_one_still_after_its_rows_were_read_back() {
    let (mut queue, lease) = claimed();
    queue.isolate(0, &lease);
    let mut queue = read_back(&mut queue);
    assert!(queue.take(LEASE_MS, 1, "b").unwrap().0.crashed_alone);
    let mut queue = read_back(&mut queue);
    assert!(queue.take(LEASE_MS, 1, "b").unwrap().0.crashed_alone);
}

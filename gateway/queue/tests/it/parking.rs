//! Waiting for an agent: one probe at a time, success wakes all, and no wait is without an end.

use kanarie_queue::admit::Admit;
use kanarie_queue::claim::Claimed;
use kanarie_queue::lease::{Lease, Owned, Park};
use kanarie_queue::park::{ParkHead, WOKEN, WakeParked};
use kanarie_queue::queue::Queue;
use kanarie_queue::send::Marked;
use kanarie_words::Millis;

use crate::words::{
    LEASE_MS, Words as _, all_rows, channel, claimed, committed, conversation, intent, message,
    neighbour, new_queue, nonce, post, read_back, revision, sid,
};

const PROBE_MS: u64 = 60_000;
const PATIENCE_MS: u64 = 900_000;

/// Conversations of shard 1, parked at 0 for the revision `r`, each until a millisecond later than
/// the one before it; the probe is due at 5,000.
fn parked(count: u16) -> Queue {
    let mut queue = new_queue();
    for nth in 0..count {
        let admit = message(0, &format!("SM{nth}"));
        queue.admit(0, Admit { conversation: neighbour(nth), ..admit });
    }
    for nth in 0..count {
        let (_, lease) = queue.take(0, 1, &format!("first-{nth}")).unwrap();
        assert_eq!(queue.park(0, &lease, PATIENCE_MS + u64::from(nth), 5_000), Owned::Done);
    }
    queue
}

/// The envelopes of everything that is ready at `now`, in order; it stays leased.
fn ready(queue: &mut Queue, now: Millis) -> Vec<String> {
    let claims = (0..).map(|nth| queue.take(now, 1, &format!("at-{now}-{nth}")));
    claims.map_while(|claim| Some(claim?.0.envelope)).collect()
}

#[test]
fn a_parked_head_is_nobodys_keeps_its_work_and_gets_its_try_back() {
    let (mut queue, lease) = claimed();
    queue.keep_run(0, &lease, "run");
    assert_eq!(queue.park(0, &lease, PATIENCE_MS, 5_000), Owned::Done);
    assert_eq!(queue.park(0, &lease, PATIENCE_MS, 5_000), Owned::Stale);
    assert_eq!(queue.complete(0, &lease, None), Owned::Stale);
    let (head, _) = queue.take(5_000, 1, "b").unwrap();
    assert_eq!((head.tries, head.crashes, head.run.as_deref()), (1, 0, Some("run")));
}

#[test]
fn a_claim_says_when_the_next_probe_is_due() {
    let mut queue = parked(2);
    let next = Claimed::Nothing { next_in_ms: Some(4_000) };
    assert_eq!(queue.claim(1_000, 1, nonce("b"), LEASE_MS), next);
}

#[test]
fn of_all_that_wait_for_one_agent_a_single_conversation_is_let_try() {
    let mut queue = parked(3);
    assert_eq!(ready(&mut queue, 4_999), [""; 0]);
    assert_eq!(ready(&mut queue, 5_000), ["SM0"]);
    assert_eq!(ready(&mut queue, 5_001), [""; 0]);
}

#[test]
fn a_probe_that_finds_the_agent_unwell_is_followed_by_the_one_that_it_asks_for() {
    let mut queue = parked(2);
    let (_, lease) = queue.take(5_000, 1, "b").unwrap();
    queue.park(6_000, &lease, PATIENCE_MS - 6_000, 10_000);
    assert_eq!(ready(&mut queue, 15_999), [""; 0]);
    assert_eq!(ready(&mut queue, 16_000), ["SM0"]);
}

#[test]
fn a_probe_that_nobody_brings_back_is_followed_by_another_after_a_minute() {
    let mut queue = parked(2);
    let (_, lease) = queue.take(5_000, 1, "b").unwrap();
    let leases = [(lease.conversation, lease.nonce)];
    assert_eq!(queue.extend(5_000, &leases, 2 * PROBE_MS), []);
    assert_eq!(ready(&mut queue, 5_000 + PROBE_MS - 1), [""; 0]);
    assert_eq!(ready(&mut queue, 5_000 + PROBE_MS), ["SM1"]);
}

#[test]
fn a_probe_whose_worker_died_is_taken_over_as_any_head_is() {
    let mut queue = parked(1);
    queue.take(5_000, 1, "b").unwrap();
    let (head, _) = queue.take(5_000 + LEASE_MS, 1, "c").unwrap();
    assert_eq!((head.envelope.as_str(), head.crashes), ("SM0", 1));
}

#[test]
fn whoever_finds_the_agent_well_wakes_them_all() {
    let mut queue = parked(3);
    let (_, lease) = queue.take(5_000, 1, "b").unwrap();
    assert_eq!(queue.wake(5_000, "channel"), 2);
    queue.complete(5_000, &lease, None);
    assert_eq!(ready(&mut queue, 5_000), ["SM1", "SM2"]);
    assert_eq!(queue.wake(5_000, "channel"), 0);
}

#[test]
fn an_agent_that_nobody_waits_for_needs_no_probe() {
    let (mut queue, lease) = claimed();
    queue.park(0, &lease, PATIENCE_MS, 5_000);
    queue.wake(1, "channel");
    let (_, lease) = queue.take(1, 1, "b").unwrap();
    queue.complete(1, &lease, None);
    assert_eq!(queue.claim(1, 1, nonce("c"), LEASE_MS), Claimed::Nothing { next_in_ms: None });
    assert!(!all_rows(&mut queue).keys().any(|row| row.contains(":pr:")));
}

#[test]
fn a_probe_without_anybody_who_waits_ends_by_itself() {
    let (mut queue, lease) = claimed();
    queue.park(0, &lease, 1_000, 5_000);
    let (_, lease) = queue.take(1_000, 1, "b").unwrap();
    queue.complete(1_000, &lease, None);
    assert_eq!(queue.claim(5_000, 1, nonce("c"), LEASE_MS), Claimed::Nothing { next_in_ms: None });
}

#[test]
fn a_wake_is_for_one_channel_and_one_revision() {
    let mut queue = new_queue();
    let waits = [("one", "r"), ("one", "other"), ("two", "r")];
    for (nth, (of, waits_for)) in (0..).zip(waits) {
        let admit = message(1 + 32 * nth, &format!("{of}-{waits_for}"));
        queue.admit(0, Admit { channel: channel(of), ..admit });
        let (_, lease) = queue.take(0, 1, &format!("n-{nth}")).unwrap();
        let revision = revision(waits_for);
        queue.run(0, ParkHead { lease, revision, until_ms: PATIENCE_MS, probe_ms: PATIENCE_MS });
    }
    assert_eq!(queue.wake(0, "one"), 1);
    assert_eq!(ready(&mut queue, 0), ["one-r"]);
    let park = Park { channel: channel("one"), revision: revision("other") };
    assert_eq!(queue.run(0, WakeParked { park }), 1);
    assert_eq!(ready(&mut queue, 1), ["one-other"]);
}

#[test]
fn a_call_wakes_two_hundred_of_a_shard_and_the_next_call_the_others() {
    let woken = u64::try_from(WOKEN).unwrap();
    for more in [0, 1] {
        let mut queue = parked(u16::try_from(WOKEN).unwrap() + more);
        assert_eq!(queue.wake(0, "channel"), woken);
        assert_eq!(queue.wake(0, "channel"), u64::from(more));
        assert_eq!(queue.wake(0, "channel"), 0);
        assert_eq!(ready(&mut queue, 0).len(), WOKEN + usize::from(more));
    }
}

#[test]
fn a_wake_is_for_every_shard() {
    let mut queue = new_queue();
    for number in 0..40 {
        queue.admit(0, message(number, &format!("SM{number}")));
        let (_, lease) = queue.take(0, number % 32, &format!("n-{number}")).unwrap();
        queue.park(0, &lease, PATIENCE_MS, 5_000);
    }
    assert_eq!(queue.wake(0, "channel"), 40);
}

#[test]
fn what_waits_for_an_agent_comes_back_at_the_end_of_its_own_patience() {
    let mut queue = parked(2);
    let (_, lease) = queue.take(5_000, 1, "b").unwrap();
    queue.park(5_000, &lease, 1_000, 100_000);
    assert_eq!(ready(&mut queue, 5_999), [""; 0]);
    assert_eq!(ready(&mut queue, 6_000), ["SM0"]);
}

#[test]
fn no_agent_is_waited_for_longer_than_patience_lasts_even_without_a_probe() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    let (_, lease) = queue.take(0, 1, "a").unwrap();
    queue.park(0, &lease, PATIENCE_MS, u64::MAX);
    assert_eq!(ready(&mut queue, PATIENCE_MS), ["SM1"]);
}

#[test]
fn more_messages_of_a_customer_who_waits_for_an_agent_wait_too() {
    let mut queue = parked(1);
    queue.admit(1, Admit { conversation: neighbour(0), ..message(0, "later") });
    assert_eq!(ready(&mut queue, 4_999), [""; 0]);
    assert_eq!(ready(&mut queue, 5_000), ["SM0"]);
}

#[test]
fn a_channel_made_anew_wakes_what_waited_for_an_agent_of_the_former_one() {
    let mut queue = parked(2);
    let admit = Admit { conversation: neighbour(0), ..message(0, "anew") };
    queue.admit(1, Admit { channel: channel("anew"), ..admit });
    let (head, _) = queue.take(1, 1, "b").unwrap();
    assert_eq!((head.envelope.as_str(), head.channel), ("SM0", channel("anew")));
    assert_eq!(queue.wake(1, "anew"), 0);
    assert_eq!(queue.wake(1, "channel"), 1);
}

#[test]
fn a_channel_made_anew_leaves_a_head_that_waits_for_no_agent_to_its_delay() {
    let (mut queue, lease) = claimed();
    queue.retry(0, &lease, 5_000, true);
    queue.admit(1, Admit { channel: channel("anew"), ..message(1, "anew") });
    assert!(queue.take(4_999, 1, "b").is_none());
    assert!(queue.take(5_000, 1, "b").is_some());
}

#[test]
fn a_callback_wakes_what_waits_for_an_agent_only_when_a_post_was_open() {
    for marked in [true, false] {
        let (mut queue, lease) = committed(2);
        if marked {
            let go = queue.mark_sending(0, &lease, &post("i", 0, "a"), None);
            assert_eq!(go, Marked::Go);
        }
        queue.park(0, &lease, PATIENCE_MS, PATIENCE_MS);
        queue.mark_sent(1, &conversation(1), "i", 0, "S0");
        let found = queue.take(1, 1, "b");
        assert_eq!(found.is_some(), marked);
        let left = queue.wake(1, "channel");
        assert_eq!(left, u64::from(!marked));
    }
}

/// Where the rows say that each conversation waits.
fn places(queue: &mut Queue) -> Vec<String> {
    let rows = all_rows(queue).into_iter().filter(|(row, _)| row.contains(":conv:"));
    let place = |(_, row): (String, Vec<u8>)| {
        let row: serde_json::Value = serde_json::from_slice(&row).unwrap();
        match &row["place"] {
            serde_json::Value::String(word) => word.clone(),
            place => place.as_object().unwrap().keys().next().unwrap().clone(),
        }
    };
    rows.map(place).collect()
}

#[test]
fn i2_a_parked_conversation_is_delayed_and_nowhere_else() {
    let mut queue = parked(2);
    assert_eq!(places(&mut queue), ["dly", "dly"]);
    queue.take(5_000, 1, "b").unwrap();
    assert_eq!(places(&mut queue), ["lse", "dly"]);
    queue.wake(5_000, "channel");
    assert_eq!(places(&mut queue), ["lse", "rdy"]);
    assert_eq!(ready(&mut queue, 5_000), ["SM1"]);
    assert_eq!(places(&mut queue), ["lse", "lse"]);
}

#[test]
fn those_that_wait_and_their_probe_survive_a_restart() {
    let mut queue = read_back(&mut parked(3));
    assert_eq!(ready(&mut queue, 4_999), [""; 0]);
    assert_eq!(ready(&mut queue, 5_000), ["SM0"]);
    let mut queue = read_back(&mut queue);
    assert_eq!(ready(&mut queue, 5_001), [""; 0]);
    assert_eq!(queue.wake(5_001, "channel"), 2);
}

#[test]
fn woken_conversations_take_turns_with_those_of_other_channels() {
    let mut queue = parked(6);
    for nth in 100..103 {
        let admit = Admit { conversation: neighbour(nth), ..message(0, &format!("SM{nth}")) };
        queue.admit(0, Admit { channel: channel("quiet"), ..admit });
    }
    queue.wake(0, "channel");
    let order = ready(&mut queue, 0);
    let quiet = order.iter().position(|envelope| envelope == "SM102").unwrap();
    assert!(quiet < 6, "{order:?}");
}

#[test]
fn what_a_parked_head_had_committed_is_still_there() {
    let (mut queue, lease): (Queue, Lease) = committed(1);
    queue.park(0, &lease, 0, 5_000);
    let (head, lease) = queue.take(0, 1, "b").unwrap();
    assert_eq!(head.intent, Some(intent("i", 1)));
    assert!(queue.mark_sent(0, &lease.conversation, "i", 0, "S0"));
    queue.release(0, &lease);
    let (head, _) = queue.take(0, 1, "c").unwrap();
    assert_eq!(head.intent.unwrap().sent, [sid("S0")]);
}

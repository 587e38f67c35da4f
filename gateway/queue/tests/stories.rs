//! The machine's rules as short stories, one fact each.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeMap;

use kanarie_queue::dead::MAX_DEAD;
use kanarie_queue::queue::Queue;
use kanarie_queue::send::Attempt;
use kanarie_queue::types::{
    Admission, Admit, Buried, Claim, Claimed, Class, Committed, ConversationId, Count, DeadLetters,
    Evidence, Intent, Lease, Marked, Millis, Nonce, Owned, Sending, Track,
};

const LEASE_MS: u64 = 15_000;

fn new_queue() -> Queue {
    let mut queue = Queue::load([]).unwrap();
    queue.start([7; 32], (0..32).map(|shard| format!("epoch-{shard}")));
    queue
}

/// Conversation `number` lives in shard `number % 32`.
fn conversation(number: u8) -> ConversationId {
    ConversationId::from_bytes([number; 16])
}

/// A message whose envelope is its SID.
fn message(number: u8, sid: &str) -> Admit {
    Admit {
        channel: "channel".to_owned(),
        dedup_key: format!("AC:{sid}"),
        conversation: conversation(number),
        envelope: sid.to_owned(),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
    }
}

fn claim(queue: &mut Queue, now: Millis, shard: u8, nonce: &str) -> Option<(Claim, Lease)> {
    match queue.claim(now, shard, Nonce(nonce.to_owned()), LEASE_MS) {
        Claimed::Head(head) => {
            let lease = Lease {
                channel: head.channel.clone(),
                conversation: head.conversation.clone(),
                nonce: head.nonce.clone(),
            };
            Some((*head, lease))
        }
        Claimed::Nothing { .. } => None,
    }
}

fn intent(id: &str, segments: u32) -> Intent {
    Intent {
        id: id.to_owned(),
        segments,
        body: "body".to_owned(),
        sent: Vec::new(),
        sending: None,
        resent: false,
    }
}

fn post(intent: &str, segment: u32, attempt: &str) -> Attempt {
    Attempt { intent: intent.to_owned(), segment, attempt: attempt.to_owned() }
}

#[test]
fn a_message_is_claimed_answered_and_gone() {
    let mut queue = new_queue();
    assert_eq!(queue.admit(1_000, message(1, "SM1")), Admission::Queued);
    let (head, lease) = claim(&mut queue, 1_000, 1, "a").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("SM1", 1));
    queue.commit_reply(1_000, &lease, intent("i", 1), None);
    assert_eq!(queue.mark_sending(1_000, &lease, &post("i", 0, "p"), None), Marked::Go);
    assert!(queue.mark_sent(1_000, &conversation(1), "i", 0, "SMout"));
    assert_eq!(queue.complete(1_000, &lease, None), Owned::Done);
    let nothing = Claimed::Nothing { next_in_ms: None };
    assert_eq!(queue.claim(1_000, 1, Nonce("b".to_owned()), LEASE_MS), nothing);
}

#[test]
fn a_machine_read_back_from_its_rows_goes_on_where_it_was() {
    let mut queue = new_queue();
    let mut rows = BTreeMap::new();
    queue.admit(1_000, message(1, "SM1"));
    let (_, lease) = claim(&mut queue, 1_000, 1, "a").unwrap();
    for row in queue.take_changes() {
        rows.insert(row.key, row.value.unwrap());
    }
    let mut queue = Queue::load(rows).unwrap();
    assert_eq!(queue.complete(1_000, &lease, None), Owned::Done);
}

/// A machine with one message, claimed at 0.
fn claimed() -> (Queue, Lease) {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    let (_, lease) = claim(&mut queue, 0, 1, "a").unwrap();
    (queue, lease)
}

/// The same with a committed reply.
fn committed(segments: u32) -> (Queue, Lease) {
    let (mut queue, lease) = claimed();
    assert_eq!(queue.commit_reply(0, &lease, intent("i", segments), None), Committed::Done);
    (queue, lease)
}

fn evidence(serving: u64, track: Track, class: Class) -> Evidence {
    Evidence { serving, track, class }
}

fn counts(queue: &Queue) -> Vec<Count> {
    queue.counts(&["channel".to_owned()]).remove(0).1
}

#[test]
fn messages_of_a_conversation_are_claimed_one_after_the_other() {
    let (mut queue, lease) = claimed();
    queue.admit(1, message(1, "SM2"));
    assert!(claim(&mut queue, 2, 1, "b").is_none());
    queue.complete(3, &lease, None);
    assert_eq!(claim(&mut queue, 4, 1, "b").unwrap().0.envelope, "SM2");
}

#[test]
fn a_claim_says_when_the_next_lease_or_delay_ends() {
    let (mut queue, _) = claimed();
    let next = Claimed::Nothing { next_in_ms: Some(LEASE_MS - 100) };
    assert_eq!(queue.claim(100, 1, Nonce("b".to_owned()), LEASE_MS), next);
}

#[test]
fn a_claim_whose_answer_was_lost_gives_the_same_head_again() {
    let (mut queue, _) = claimed();
    queue.admit(1, message(33, "other"));
    let (head, _) = claim(&mut queue, 2, 1, "a").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("SM1", 1));
}

#[test]
fn a_dead_workers_head_is_taken_over_when_its_lease_ends() {
    let (mut queue, stale) = claimed();
    assert!(claim(&mut queue, LEASE_MS - 1, 1, "b").is_none());
    let (head, _) = claim(&mut queue, LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.tries, head.crashes), (2, 1));
    assert_eq!(queue.complete(LEASE_MS, &stale, None), Owned::Stale);
}

#[test]
fn each_expired_lease_is_one_crash_and_a_completed_head_forgets_them() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    queue.admit(0, message(1, "SM2"));
    for life in 0..3 {
        let (head, _) = claim(&mut queue, life * LEASE_MS, 1, &format!("life {life}")).unwrap();
        assert_eq!(u64::from(head.crashes), life);
    }
    let (head, lease) = claim(&mut queue, 3 * LEASE_MS, 1, "last").unwrap();
    assert_eq!((head.tries, head.crashes), (4, 3));
    queue.complete(3 * LEASE_MS, &lease, None);
    let (head, _) = claim(&mut queue, 3 * LEASE_MS, 1, "next").unwrap();
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
    assert!(claim(&mut queue, LEASE_MS, 1, "b").is_none());
    assert!(claim(&mut queue, 10_000 + LEASE_MS, 1, "b").is_some());
    assert_eq!(queue.extend(26_000, &leases, LEASE_MS), [lease.conversation]);
}

#[test]
fn a_commit_renews_the_lease_and_forgets_the_run() {
    let (mut queue, lease) = claimed();
    queue.keep_run(0, &lease, Some("run".to_owned()));
    queue.commit_reply(10_000, &lease, intent("i", 1), None);
    assert!(claim(&mut queue, LEASE_MS, 1, "b").is_none());
    let (head, _) = claim(&mut queue, 10_000 + LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.run, head.intent), (None, Some(intent("i", 1))));
}

#[test]
fn a_run_is_kept_for_whoever_takes_over() {
    let (mut queue, lease) = claimed();
    queue.keep_run(0, &lease, Some("run".to_owned()));
    let (head, _) = claim(&mut queue, LEASE_MS, 1, "b").unwrap();
    assert_eq!(head.run.as_deref(), Some("run"));
}

#[test]
fn a_released_head_keeps_its_turn_and_its_try() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "first"));
    queue.admit(0, message(33, "second"));
    let (_, lease) = claim(&mut queue, 0, 1, "a").unwrap();
    queue.release(0, &lease);
    let (head, _) = claim(&mut queue, 0, 1, "b").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("first", 1));
}

#[test]
fn a_retried_head_stays_the_head_and_comes_back_when_it_is_due() {
    let (mut queue, lease) = claimed();
    queue.admit(0, message(1, "SM2"));
    queue.retry(0, &lease, 5_000, true);
    assert_eq!(queue.retry(0, &lease, 5_000, true), Owned::Stale);
    assert!(claim(&mut queue, 4_999, 1, "b").is_none());
    let (head, _) = claim(&mut queue, 5_000, 1, "b").unwrap();
    assert_eq!((head.envelope.as_str(), head.tries), ("SM1", 2));
}

#[test]
fn an_uncounted_retry_takes_its_try_back() {
    let (mut queue, lease) = claimed();
    queue.retry(0, &lease, 0, false);
    assert_eq!(claim(&mut queue, 0, 1, "b").unwrap().0.tries, 1);
}

#[test]
fn a_quiet_channel_waits_for_one_turn_of_a_busy_one() {
    let mut queue = new_queue();
    for number in 0..7 {
        let busy =
            Admit { channel: "busy".to_owned(), ..message(number * 32, &format!("b{number}")) };
        queue.admit(0, busy);
    }
    queue.admit(0, Admit { channel: "quiet".to_owned(), ..message(7 * 32, "quiet") });
    let order = (0..8).map(|nth| claim(&mut queue, 0, 0, &format!("n{nth}")).unwrap().0.envelope);
    assert!(order.take(2).any(|envelope| envelope == "quiet"));
}

#[test]
fn two_channels_with_a_backlog_take_turns() {
    let mut queue = new_queue();
    for nth in 0..40_u8 {
        let channel = if nth < 30 { "many" } else { "few" };
        let conversation =
            ConversationId::from_bytes([0, nth, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let admit = message(0, &format!("SM{nth}"));
        queue.admit(0, Admit { channel: channel.to_owned(), conversation, ..admit });
    }
    let (mut many, mut few) = (0_i32, 0_i32);
    for nth in 0..20 {
        let (head, lease) = claim(&mut queue, 0, 0, &format!("n{nth}")).unwrap();
        if head.channel == "many" {
            many += 1
        } else {
            few += 1
        }
        assert!((many - few).abs() <= 1, "{many} to {few} after {nth}");
        queue.complete(0, &lease, None);
    }
}

#[test]
fn a_message_for_a_channel_made_anew_is_claimed_for_that_one() {
    let mut queue = new_queue();
    queue.admit(0, message(1, "SM1"));
    queue.admit(0, Admit { channel: "anew".to_owned(), ..message(1, "SM2") });
    assert_eq!(claim(&mut queue, 0, 1, "a").unwrap().0.channel, "anew");
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
    let ambiguous = Marked::Ambiguous {
        sending: Sending { attempt: "first".to_owned(), at: 5 },
        attributed: Vec::new(),
        now: 9,
    };
    assert_eq!(queue.mark_sending(9, &lease, &post("i", 0, "second"), None), ambiguous);
    let wrong = queue.mark_sending(9, &lease, &post("i", 0, "second"), Some("third"));
    assert_eq!(wrong, ambiguous);
}

#[test]
fn a_mark_that_a_listing_refuted_is_replaced_and_remembered() {
    let (mut queue, lease) = committed(1);
    queue.mark_sending(0, &lease, &post("i", 0, "first"), None);
    let replaced = queue.mark_sending(20_000, &lease, &post("i", 0, "second"), Some("first"));
    assert_eq!(replaced, Marked::Go);
    queue.release(20_000, &lease);
    let reply = claim(&mut queue, 20_000, 1, "b").unwrap().0.intent.unwrap();
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
fn sids_of_earlier_replies_are_named_for_ten_minutes() {
    let (mut queue, lease) = committed(1);
    queue.mark_sent(0, &lease.conversation, "i", 0, "S0");
    queue.complete(0, &lease, None);
    queue.admit(0, message(1, "SM2"));
    let (_, lease) = claim(&mut queue, 0, 1, "b").unwrap();
    queue.commit_reply(0, &lease, intent("j", 1), None);
    queue.mark_sending(0, &lease, &post("j", 0, "first"), None);
    let mut named = |now| match queue.mark_sending(now, &lease, &post("j", 0, "second"), None) {
        Marked::Ambiguous { attributed, .. } => attributed,
        _ => vec!["not ambiguous".to_owned()],
    };
    assert_eq!(named(599_999), ["S0"]);
    assert_eq!(named(600_000), [""; 0]);
}

#[test]
fn a_message_counts_once_as_evidence_whatever_ends_it() {
    let (mut queue, lease) = claimed();
    let failure = evidence(4, Track::Canary, Class::Http);
    queue.end_attempt(0, &lease, &failure, Some("revision".to_owned()));
    queue.end_attempt(0, &lease, &failure, Some("revision".to_owned()));
    let success = evidence(4, Track::Stable, Class::Success);
    queue.commit_reply(0, &lease, intent("i", 1), Some(&success));
    queue.complete(0, &lease, Some(&success));
    assert_eq!(counts(&queue), [Count { evidence: failure, messages: 1 }]);
}

#[test]
fn a_takeover_knows_that_the_message_counted_and_which_canary_failed_on_it() {
    let (mut queue, lease) = claimed();
    let failure = evidence(4, Track::Canary, Class::Timeout);
    queue.end_attempt(0, &lease, &failure, Some("revision".to_owned()));
    let (head, _) = claim(&mut queue, LEASE_MS, 1, "b").unwrap();
    assert_eq!((head.counted, head.failed_on.as_deref()), (true, Some("revision")));
}

#[test]
fn evidence_is_summed_over_shards_and_starts_anew_with_each_serving() {
    let mut queue = new_queue();
    for (number, serving) in [(1, 4), (2, 4), (3, 5), (1, 5)] {
        queue.admit(0, message(number, &format!("SM{number}-{serving}")));
        let (_, lease) = claim(&mut queue, 0, number, &format!("n{number}")).unwrap();
        queue.complete(0, &lease, Some(&evidence(serving, Track::Canary, Class::Success)));
    }
    let of = |serving, messages| Count {
        evidence: evidence(serving, Track::Canary, Class::Success),
        messages,
    };
    assert_eq!(counts(&queue), [of(4, 1), of(5, 2)]);
}

#[test]
fn a_buried_head_is_counted_by_channel_and_makes_room_for_the_next() {
    let (mut queue, lease) = claimed();
    queue.admit(0, message(1, "SM2"));
    assert_eq!(queue.bury(7, &lease, "agent"), Buried::Done);
    assert_eq!(queue.bury(7, &lease, "agent"), Buried::Stale);
    let letters = DeadLetters {
        channel: "channel".to_owned(),
        count: 1,
        oldest_at: 7,
        class: "agent".to_owned(),
    };
    assert_eq!(queue.dead_letters(), [letters]);
    assert_eq!(claim(&mut queue, 7, 1, "b").unwrap().0.envelope, "SM2");
}

#[test]
fn without_room_for_dead_letters_a_head_stays_where_it_is() {
    let mut queue = new_queue();
    for nth in 0..=MAX_DEAD {
        let admit = Admit { limit: u32::MAX, ..message(1, &format!("SM{nth}")) };
        assert_eq!(queue.admit(0, admit), Admission::Queued);
        let (_, lease) = claim(&mut queue, 0, 1, "a").unwrap();
        let expected = if nth < MAX_DEAD { Buried::Done } else { Buried::Full };
        assert_eq!(queue.bury(0, &lease, "agent"), expected);
    }
    assert!(claim(&mut queue, 0, 1, "a").is_some());
    assert_eq!(queue.dead_letters()[0].count, MAX_DEAD as u64);
}

#[test]
fn a_dead_letter_loses_its_text_after_a_day_and_goes_after_fourteen() {
    const DAY: Millis = 86_400_000;
    let (mut queue, lease) = claimed();
    queue.bury(0, &lease, "agent");
    queue.take_changes();
    queue.sweep(DAY - 1, 1);
    assert!(!queue.take_changes().iter().any(|row| row.key == "01:dl:1"));
    queue.sweep(DAY, 1);
    let rows = queue.take_changes();
    let letter = rows.iter().find(|row| row.key == "01:dl:1").unwrap();
    let text = String::from_utf8(letter.value.clone().unwrap()).unwrap();
    assert!(text.contains("\"envelope\":null") && !text.contains("text"), "{text}");
    queue.sweep(14 * DAY, 1);
    assert_eq!(queue.dead_letters(), []);
    assert!(queue.take_changes().iter().any(|row| row.key == "01:dl:1" && row.value.is_none()));
}

#[test]
fn a_sweep_leaves_no_row_of_what_has_outlived_its_time() {
    let (mut queue, lease) = committed(1);
    queue.mark_sent(0, &lease.conversation, "i", 0, "S0");
    queue.complete(0, &lease, Some(&evidence(1, Track::Stable, Class::Success)));
    queue.sweep(200 * 86_400_000, 1);
    let mut left = queue.take_changes();
    left.retain(|row| row.key.starts_with("01:") && row.value.is_some());
    let left = left.iter().map(|row| row.key.as_str()).collect::<Vec<_>>();
    assert_eq!(left, ["01:meta", "01:vt:channel"]);
}

#[test]
fn a_row_that_makes_no_sense_is_refused_without_its_content() {
    let rows = [("05:dd:AC:SMsecret".to_owned(), b"never".to_vec())];
    let error = Queue::load(rows).err().unwrap().to_string();
    assert!(!error.contains("secret") && !error.contains("never"), "{error}");
}

#[test]
fn a_conversation_without_its_messages_is_refused() {
    let (mut queue, _) = claimed();
    let rows = queue.take_changes().into_iter().filter(|row| !row.key.contains(":msg:"));
    let rows = rows.filter_map(|row| Some((row.key, row.value?))).collect::<Vec<_>>();
    assert!(Queue::load(rows).is_err());
}

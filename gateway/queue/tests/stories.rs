//! The machine's rules as short stories, one fact each.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeMap;

use kanarie_queue::queue::Queue;
use kanarie_queue::send::Attempt;
use kanarie_queue::types::{
    Admission, Admit, Claim, Claimed, ConversationId, Intent, Lease, Marked, Millis, Nonce, Owned,
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

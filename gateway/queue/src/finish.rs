//! The end of a reply that went well, and the next head: three verbs in one step.
//!
//! Takes the evidence that the last segment was sent; gives whether the head is done, and what a claim
//! found. Does what `MarkSent`, `Complete` and `Claim` do one after the other, and nothing else, so
//! it needs no rule of its own (I1, I4, I12, I14). Never takes off a head whose reply is not all sent.

use kanarie_words::Millis;
use kanarie_words::ids::{IntentId, MessageSid};

use crate::claim::{Claim, Claimed};
use crate::lease::{Lease, NewLease, Owned};
use crate::queue::Queue;
use crate::send::{Complete, MarkSent};
use crate::verb::Verb;

/// Records that a segment was sent, also without the lease; takes the head off when its owner asks
/// and all of the reply is sent; claims the next head of the shard, if that is asked for. Repeated,
/// it is stale and gives the same head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The owner's.
    pub lease: Lease,
    /// The reply.
    pub intent: IntentId,
    /// The segment, from 0.
    pub segment: u32,
    /// The SID that Twilio gave it.
    pub sid: MessageSid,
    /// The lease of the next head.
    pub next: Option<NewLease>,
}

/// What a finish did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Whether the head was taken off.
    pub completed: Owned,
    /// What the claim found, if one was asked for.
    pub next: Option<Claimed>,
}

impl Verb for Finish {
    type Answer = Finished;

    fn apply(self, queue: &mut Queue, now: Millis) -> Finished {
        let Self { lease, intent, segment, sid, next } = self;
        let conversation = lease.conversation.clone();
        let shard = conversation.shard();
        let sent = MarkSent { conversation, intent: intent.clone(), segment, sid };
        sent.apply(queue, now);
        let completed = if is_all_sent(queue, &lease, &intent) {
            Complete { lease, outcome: None }.apply(queue, now)
        } else {
            Owned::Stale
        };
        let claim = next.map(|NewLease { nonce, lease_ms }| Claim { shard, nonce, lease_ms });
        Finished { completed, next: claim.map(|claim| claim.apply(queue, now)) }
    }
}

fn is_all_sent(queue: &mut Queue, lease: &Lease, id: &IntentId) -> bool {
    let conversation = queue.shard(&lease.conversation).owned(lease);
    let intent = conversation.and_then(|conversation| conversation.progress.intent.as_ref());
    intent.is_some_and(|of| of.id == *id && of.sent.len() >= of.segments as usize)
}

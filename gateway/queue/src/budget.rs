//! How much memory the machine takes, and how much it may: what it was given fits its pod.
//!
//! Takes the shards and the SIDs, gives bytes: so much for each thing that is kept, estimated from what it
//! allocates (`make bench-memory` says what the process really takes), and its text. Over the budget nothing is admitted, and everything else goes on: what is owed is finished from
//! the rest of the pod's memory. SIDs get half of it at most.

use crate::delivered::Deliveries;
use crate::shard::Shard;
use crate::sids::Sids;

/// What the machine may take, and takes.
#[derive(Default)]
pub(crate) struct Budget {
    /// Bytes; none for as much as there is.
    most: Option<u64>,
    /// As it was when the rows that changed were last taken.
    taken: u64,
    /// Admitted since.
    added: u64,
}

/// A conversation with its first message, in all indexes.
const CONVERSATION: u64 = 900;
/// A message, beside its envelope.
pub(crate) const MESSAGE: u64 = 250;
/// A dead letter, beside its text.
const LETTER: u64 = 450;
/// Stamps, attributed SIDs, the memo or the deliveries of one conversation, with their end.
const MEMORY: u64 = 300;
/// A customer of a serving.
const CUSTOMER: u64 = 150;
/// Virtual time, waiting sums, evidence and dead letters of one channel.
const CHANNEL: u64 = 600;

impl Budget {
    /// Bounds it.
    pub(crate) fn allow(&mut self, bytes: Option<u64>) {
        self.most = bytes;
    }

    /// Bytes that SIDs may take.
    pub(crate) fn of_sids(&self) -> Option<u64> {
        self.most.map(|bytes| bytes / 2)
    }

    /// Counts everything anew.
    pub(crate) fn count(&mut self, shards: &[Shard], sids: &Sids, deliveries: &Deliveries) {
        if self.most.is_some() {
            (self.taken, self.added) = (shards.iter().map(bytes_of).sum(), 0);
            self.taken += sids.bytes() + deliveries.remembered() * MEMORY;
        }
    }

    /// A message of so many bytes was admitted.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.added += cost(bytes);
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken + self.added
    }

    /// Whether a message of so many bytes has no room.
    pub(crate) fn is_full(&self, bytes: u64) -> bool {
        self.most.is_some_and(|most| self.taken() + cost(bytes) > most)
    }
}

/// What a message adds at most: it may begin a conversation.
fn cost(envelope: u64) -> u64 {
    CONVERSATION + MESSAGE + MEMORY + text(envelope)
}

/// Blocks of memory come in steps.
fn text(bytes: u64) -> u64 {
    bytes + bytes / 8
}

fn bytes_of(shard: &Shard) -> u64 {
    let count = |length: usize| length as u64;
    let memories = shard.stamps.len() + shard.attributed.len() + shard.memos.len();
    count(shard.conversations.len()) * CONVERSATION
        + shard.messages * MESSAGE
        + text(shard.bytes)
        + text(shard.bodies)
        + count(shard.dead.len()) * LETTER
        + text(shard.dead_bytes)
        + count(memories) * MEMORY
        + shard.customers_known * CUSTOMER
        + count(shard.finish.len() + shard.evidence.len() + shard.dead_of.len()) * CHANNEL
}

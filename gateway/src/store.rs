//! The store: the one trait of this crate, a method per verb, two implementations.
//!
//! Takes owned values, gives the verb's answer or the reason there is none. Every verb may be
//! repeated with the same arguments: a lost answer is not a lost verb. Never decides anything;
//! the contract of each verb stands in `kanarie_queue`.

pub mod embedded;
pub mod redis;

use std::sync::Arc;

use futures::future::BoxFuture;
use kanarie_queue::types::{
    Admission, Admit, Buried, Claimed, Committed, ConversationId, Count, DeadLetters, Evidence,
    Intent, Lease, Marked, Millis, Nonce, Owned, Reserved,
};

/// The store as the rest of the gateway holds it.
pub type SharedStore = Arc<dyn Store>;

/// What a verb gives.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Counted outcomes by UID of the channel.
pub type ChannelCounts = Vec<(String, Vec<Count>)>;

/// Why there is no answer. The verb may have taken effect all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or did not answer in time.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The store has no room.
    #[error("the store is out of memory or disk: {0}")]
    OutOfSpace(String),
    /// The store answered with something that this version does not know.
    #[error("the store's answer makes no sense: {0}")]
    Corrupt(String),
}

/// A replica's own account of the routes it obeys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Name of the replica.
    pub replica: String,
    /// Digest over all its routes: equal digests mean equal routes.
    pub digest: String,
    /// Routes that changed since the last heartbeat that was answered: UID, `serving`, hash.
    pub acknowledged: Vec<(String, u64, String)>,
    /// UIDs whose route is gone since then.
    pub forgotten: Vec<String>,
}

/// What the store knows of a live replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// Name of the replica.
    pub replica: String,
    /// When its last heartbeat came.
    pub seen_at: Millis,
    /// Digest over all its routes.
    pub digest: String,
}

/// One verb a method. See `kanarie_queue` for what each one promises.
pub trait Store: Send + Sync + 'static {
    /// Admits a message: duplicate, then limit, then capacity, then append.
    fn admit(&self, admit: Admit) -> Answer<'_, Admission>;
    /// Leases the next head of a shard for `lease_ms`.
    fn claim(&self, shard: u8, nonce: Nonce, lease_ms: u64) -> Answer<'_, Claimed>;
    /// Extends leases; gives the conversations whose lease is lost.
    fn extend(
        &self,
        leases: Vec<(ConversationId, Nonce)>,
        lease_ms: u64,
    ) -> Answer<'_, Vec<ConversationId>>;
    /// Keeps, or with none forgets, the agent's run with the head.
    fn keep_run(&self, lease: Lease, run: Option<String>) -> Answer<'_, Owned>;
    /// Records how the first attempt ended and, for a failed canary, its revision.
    fn end_attempt(
        &self,
        lease: Lease,
        evidence: Evidence,
        failed_on: Option<String>,
    ) -> Answer<'_, Owned>;
    /// Makes the reply durable, and counts the attempt that gave it.
    fn commit_reply(
        &self,
        lease: Lease,
        intent: Intent,
        evidence: Option<Evidence>,
    ) -> Answer<'_, Committed>;
    /// Marks a segment as being sent by `attempt`; `expected` names the mark that a listing
    /// refuted.
    fn mark_sending(
        &self,
        lease: Lease,
        intent: String,
        segment: u32,
        attempt: String,
        expected: Option<String>,
    ) -> Answer<'_, Marked>;
    /// Takes `attempt`'s mark back: its POST provably never happened.
    fn unmark(
        &self,
        lease: Lease,
        intent: String,
        segment: u32,
        attempt: String,
    ) -> Answer<'_, Owned>;
    /// Records that a segment was sent: evidence from an answer, a callback or a listing; needs no
    /// lease. False when the intent is gone or the segment has its SID.
    fn mark_sent(
        &self,
        conversation: ConversationId,
        intent: String,
        segment: u32,
        sid: String,
    ) -> Answer<'_, bool>;
    /// Takes the head off, its work done; counts a deliberate silence.
    fn complete(&self, lease: Lease, evidence: Option<Evidence>) -> Answer<'_, Owned>;
    /// Puts the head back for `delay_ms`; `counted` says whether the try counts.
    fn retry(&self, lease: Lease, delay_ms: u64, counted: bool) -> Answer<'_, Owned>;
    /// Gives the lease back at once, its try uncounted.
    fn release(&self, lease: Lease) -> Answer<'_, Owned>;
    /// Moves the head to the dead letters with a class.
    fn bury(&self, lease: Lease, class: String) -> Answer<'_, Buried>;
    /// Books one send of `sender` at `per_second`.
    fn reserve(&self, sender: String, per_second: u32) -> Answer<'_, Reserved>;
    /// Drops what has outlived its time in a shard: texts of dead letters after 24 hours, dead
    /// letters after 14 days, memory of SIDs and limits.
    fn sweep(&self, shard: u8) -> Answer<'_, ()>;

    /// Announces a replica.
    fn heartbeat(&self, heartbeat: Heartbeat) -> Answer<'_, ()>;
    /// Replicas with a heartbeat younger than ten seconds, and the store's clock.
    fn replicas(&self) -> Answer<'_, (Millis, Vec<ReplicaState>)>;
    /// The routes that a replica acknowledged, of the named channels or of all: UID, `serving`,
    /// hash.
    fn acknowledged(
        &self,
        replica: String,
        channels: Option<Vec<String>>,
    ) -> Answer<'_, Vec<(String, u64, String)>>;
    /// Counted outcomes of the named channels, over all shards, and the digest of the epochs.
    fn counts(&self, channels: Vec<String>) -> Answer<'_, (String, ChannelCounts)>;
    /// Dead letters over all shards, by channel.
    fn dead_letters(&self) -> Answer<'_, Vec<DeadLetters>>;
    /// The 32 random bytes that the first replica created.
    fn key(&self) -> Answer<'_, [u8; 32]>;
    /// Whether the store answers.
    fn ping(&self) -> Answer<'_, ()>;
}

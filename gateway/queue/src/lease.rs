//! What an owner of a head asks for, shows, is told, and may wait for.
//!
//! Takes channel, conversation and nonce from a claim; gives the proof that every verb of an owner
//! carries, and its two answers. Never says whether a lease still stands: only the shard knows.

use kanarie_words::ids::{ChannelUid, ConversationId, Nonce, RevisionName};

/// What an owner shows with each verb: the conversation and the proof that it is leased to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// UID of the channel whose agents are asked: evidence is counted for it.
    pub channel: ChannelUid,
    /// The conversation.
    pub conversation: ConversationId,
    /// The proof.
    pub nonce: Nonce,
}

/// A lease that is asked for: of a head that is claimed, or of a message that is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLease {
    /// Random, new for each lease.
    pub nonce: Nonce,
    /// How long it lasts.
    pub lease_ms: u64,
}

/// Whether a verb of an owner took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// It did.
    Done,
    /// The lease is somebody else's: nothing changed.
    Stale,
}

/// What waits for one agent: the channel and the revision to be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Park {
    /// UID of the channel.
    pub channel: ChannelUid,
    /// The revision whose agent is waited for.
    pub revision: RevisionName,
}

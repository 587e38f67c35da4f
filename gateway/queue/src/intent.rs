//! A reply, durable before its first byte leaves, and what is remembered of the one before.
//!
//! Takes an id, the number of segments and a body; gives the values that the verbs of `send.rs`
//! keep. Never reads a body, and never decides whether a segment may be posted.

use kanarie_words::Millis;
use kanarie_words::ids::{AttemptId, IntentId, MessageSid};
use serde::{Deserialize, Serialize};

/// A mark so old has no age that anybody knows: a day.
pub const AGELESS_MS: u64 = 86_400_000;

/// A reply, durable before its first byte leaves.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its id, carried by the status callback's URL.
    pub id: IntentId,
    /// How many segments it has.
    pub segments: u32,
    /// The segments and how to send them, opaque here.
    pub body: String,
    /// SIDs of the segments that were sent, in order.
    pub sent: Vec<MessageSid>,
    /// The segment after those, if a POST of it may be under way.
    pub sending: Option<Sending>,
    /// Whether the present segment was posted again after listings without it.
    pub resent: bool,
}

/// A POST that may have happened.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The attempt, random.
    pub attempt: AttemptId,
    /// When it was marked.
    pub at: Millis,
    /// When a listing first missed it.
    #[serde(default)]
    pub missed_at: Option<Millis>,
}

impl Intent {
    /// A reply of which nothing was sent.
    pub fn fresh(id: IntentId, segments: u32, body: String) -> Self {
        Self { id, segments, body, sent: Vec::new(), sending: None, resent: false }
    }
}

impl Sending {
    /// Whether its POST may have left at any time, also just now: the clock was put back since.
    pub fn is_ageless(&self, now: Millis) -> bool {
        self.at <= now.saturating_sub(AGELESS_MS)
    }
}

/// One attempt at one segment, as its owner names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// Id of the intent.
    pub intent: IntentId,
    /// The segment, from 0.
    pub segment: u32,
    /// The attempt, random.
    pub attempt: AttemptId,
}

/// What a conversation remembers of its last reply, for a day.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Memo {
    /// What the agent waits for an answer to, opaque here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// Whether the last reply was the text that tells of a failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apologised: bool,
}

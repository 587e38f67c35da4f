//! The values that the verbs take and give. Pure data; every time is a store time in Unix
//! milliseconds, every random value comes from the caller.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Unix milliseconds on the store's clock.
pub type Millis = u64;

/// Number of shards, fixed for ever: a conversation's shard decides where its rows live.
pub const SHARDS: u8 = 32;

/// A conversation: 32 lower-case hexadecimal digits, a keyed hash of account, sender and customer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(transparent)]
pub struct ConversationId(String);

impl ConversationId {
    /// From 16 bytes of a keyed hash.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(32);
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// Parses the 32 digits; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 32
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        digits.then(|| Self(text.to_owned()))
    }

    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shard that holds the conversation, below [`SHARDS`].
    pub fn shard(&self) -> u8 {
        u8::from_str_radix(&self.0[..2], 16).unwrap_or(0) % SHARDS
    }
}

/// Proof of a lease: random, compared for equality only (its order serves maps, no rule).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(transparent)]
pub struct Nonce(pub String);

/// A message to admit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    /// UID of the channel.
    pub channel: String,
    /// What a repetition is recognised by: account and MessageSid.
    pub dedup_key: String,
    /// The conversation it belongs to; also what the limiter counts by.
    pub conversation: ConversationId,
    /// The message, opaque here.
    pub envelope: String,
    /// Messages per window.
    pub limit: u32,
    /// The limiter's window.
    pub window_ms: u64,
    /// How long a repetition is recognised.
    pub dedup_ms: u64,
}

/// The answer to an admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Durable, and answered in its turn.
    Queued,
    /// Admitted before; nothing changed.
    Duplicate,
    /// Over the limit; nothing changed.
    Limited {
        /// When the next message would be admitted.
        retry_after_ms: u64,
    },
    /// No room in the conversation or in the shard; nothing changed.
    Full,
}

/// The head of a conversation, leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The conversation.
    pub conversation: ConversationId,
    /// Proof of the lease.
    pub nonce: Nonce,
    /// UID of the channel the message was admitted for.
    pub channel: String,
    /// The message, as admitted.
    pub envelope: String,
    /// When it was admitted.
    pub admitted_at: Millis,
    /// The store's clock now.
    pub now: Millis,
    /// Counted claims of this head, this one included.
    pub tries: u32,
    /// Leases on this head that expired.
    pub crashes: u32,
    /// Whether this message already counted as evidence.
    pub counted: bool,
    /// Canary revision whose agent failed on this message.
    pub failed_on: Option<String>,
    /// The agent's run that may still be going on, opaque here.
    pub run: Option<String>,
    /// The reply, once it is committed.
    pub intent: Option<Intent>,
}

/// What an owner shows with each verb: the conversation and the proof that it is leased to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// UID of the channel, as claimed: evidence is counted for it.
    pub channel: String,
    /// The conversation.
    pub conversation: ConversationId,
    /// The proof.
    pub nonce: Nonce,
}

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// A head to work on.
    Head(Box<Claim>),
    /// Nothing now; the next lease or delay of the shard ends in so many milliseconds.
    Nothing {
        /// None when the shard is empty.
        next_in_ms: Option<u64>,
    },
}

/// A reply, durable before its first byte leaves.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its id, carried by the status callback's URL.
    pub id: String,
    /// How many segments it has.
    pub segments: u32,
    /// The segments and how to send them, opaque here.
    pub body: String,
    /// SIDs of the segments that were sent, in order.
    pub sent: Vec<String>,
    /// The segment after those, if a POST of it may be under way.
    pub sending: Option<Sending>,
    /// Whether the present segment was posted again after a listing without it.
    pub resent: bool,
}

/// A POST that may have happened.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The attempt, random.
    pub attempt: String,
    /// When it was marked.
    pub at: Millis,
}

/// The answer to a sending mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    /// Post it now.
    Go,
    /// It is sent already.
    Sent,
    /// Another attempt's mark stands: settle that one first.
    Ambiguous {
        /// That mark.
        sending: Sending,
        /// SIDs that earlier segments and replies of this conversation got, newest last.
        attributed: Vec<String>,
        /// The store's clock now.
        now: Millis,
    },
    /// The lease is somebody else's, or the intent is gone.
    Stale,
}

/// Whether a verb of an owner took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// It did.
    Done,
    /// The lease is somebody else's: nothing changed.
    Stale,
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The intent is durable.
    Done,
    /// The head has an intent already; that one counts.
    Exists(Box<Intent>),
    /// The lease is somebody else's.
    Stale,
}

/// The answer to a burial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buried {
    /// The head is a dead letter now.
    Done,
    /// No room for dead letters: the head stays where it is.
    Full,
    /// The lease is somebody else's.
    Stale,
}

/// Which revision was asked.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// The revision that serves everybody else.
    Stable,
    /// The revision that is rolled out.
    Canary,
}

/// How the first agent attempt of a message ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// With an answer, or with a deliberate silence.
    Success,
    /// Not before its deadline.
    Timeout,
    /// With a refused connection or an HTTP error.
    Http,
    /// With something that is no answer.
    Invalid,
    /// Without an answer.
    NoAnswer,
    /// With an answer over the latency limit.
    Slow,
}

/// One outcome to count, once per message.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Evidence {
    /// The route's `serving` when the message was claimed.
    pub serving: u64,
    /// The track that was asked.
    pub track: Track,
    /// How the attempt ended.
    pub class: Class,
}

/// Counted outcomes of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What was counted.
    pub evidence: Evidence,
    /// How many messages.
    pub messages: u64,
}

/// Dead letters of one channel in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// UID of the channel.
    pub channel: String,
    /// How many are kept.
    pub count: u64,
    /// When the oldest one ended.
    pub oldest_at: Millis,
    /// Class of the newest one.
    pub class: String,
}

/// The answer to a reservation of the outbound pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Booked: send after so many milliseconds.
    After(u64),
    /// Too far ahead, nothing is booked: try again after so many milliseconds.
    Busy(u64),
}

impl Track {
    /// The word in keys, labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }

    /// Parses that word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stable, Self::Canary].into_iter().find(|track| track.as_str() == text)
    }
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Timeout, Self::Http, Self::Invalid, Self::NoAnswer, Self::Slow];

    /// The word in keys, labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Timeout => "timeout",
            Self::Http => "http",
            Self::Invalid => "invalid",
            Self::NoAnswer => "no-answer",
            Self::Slow => "slow",
        }
    }

    /// Parses that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

impl Evidence {
    /// The field that counts it: `<serving>:<track>:<class>`.
    pub fn field(&self) -> String {
        format!("{}:{}:{}", self.serving, self.track.as_str(), self.class.as_str())
    }

    /// Parses that field.
    pub fn parse(field: &str) -> Option<Self> {
        let mut parts = field.splitn(3, ':');
        Some(Self {
            serving: parts.next()?.parse().ok()?,
            track: Track::parse(parts.next()?)?,
            class: Class::parse(parts.next()?)?,
        })
    }
}

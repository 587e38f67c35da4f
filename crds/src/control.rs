//! `GET /control/v1/state`: what the gateways tell the operator.
//!
//! Any replica answers for all of them, from the store. Without a query the answer is the summary
//! with exceptions only; `?channels=UID,UID` adds the details of those channels. Pure types.

use serde::{Deserialize, Serialize};

/// Most channels that one request may name.
pub const MAX_CHANNELS_PER_REQUEST: usize = 200;

/// The answer.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ControlState {
    /// The store's clock, Unix milliseconds.
    pub observed_at_ms: u64,
    /// Digest of the epochs of all shards: another one means that counts were lost.
    pub epoch: String,
    /// Replicas with a heartbeat younger than ten seconds.
    pub replicas: Vec<Replica>,
    /// Routes that not every live replica holds alike, `uid` only.
    pub unsynced: Vec<String>,
    /// Channels with dead letters.
    pub dead_letters: Vec<DeadLetters>,
    /// The channels that the query named and that some replica knows.
    pub channels: Vec<ChannelState>,
}

/// A live replica.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its name.
    pub id: String,
    /// Age of its heartbeat, in milliseconds.
    pub age_ms: u64,
}

/// Dead letters of one channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetters {
    /// UID of the channel.
    pub uid: String,
    /// How many are kept.
    pub count: u64,
    /// When the oldest one ended, Unix milliseconds.
    pub oldest_at_ms: u64,
    /// Class of the newest one.
    pub class: String,
}

/// What the replicas hold and have counted for one channel.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ChannelState {
    /// UID of the channel.
    pub uid: String,
    /// One entry per live replica that holds a route of the channel.
    pub acknowledged: Vec<Acknowledged>,
    /// Evidence of every step that is still remembered.
    pub counts: Vec<Count>,
}

/// The route that one replica obeys.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// Name of the replica.
    pub replica: String,
    /// `serving` of its route.
    pub serving: u64,
    /// Hash of its route.
    pub hash: String,
}

/// Messages whose first agent attempt ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// The step they were counted for.
    pub serving: u64,
    /// The track that was asked.
    pub track: Track,
    /// How the attempt ended.
    pub class: Class,
    /// How many.
    pub messages: u64,
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

impl Class {
    /// Whether the judge counts it as a failure.
    pub fn is_failure(self) -> bool {
        self != Self::Success
    }
}

//! What replicas tell the store of themselves, and what it knows of them.
//!
//! Takes a heartbeat, gives what became of it; what live replicas obey and when the counts were
//! last asked for are values as well. Never keeps one: that is the work of each store. Never holds
//! a secret, only hashes of routes.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ReplicaName, RouteHash, StoreKey};

/// A replica is live while its last heartbeat is younger.
pub const LIVE_MS: u64 = 10_000;

/// A replica's own account: all that it obeys. What of it is news, the store finds out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Name of the replica.
    pub replica: ReplicaName,
    /// The store's key as the replica knows it: a store that lost its key takes it from here.
    pub key: StoreKey,
    /// Digest over all its routes: equal digests mean equal routes.
    pub digest: RouteHash,
    /// Every route that it obeys: `serving` and hash by channel.
    pub obeyed: Obeyed,
    /// Channels whose canary it has cut off by itself.
    pub cut: BTreeSet<ChannelUid>,
}

/// `serving` and hash by channel. Cheap to clone, and cheap to compare with a clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Obeyed(Arc<BTreeMap<ChannelUid, (u64, RouteHash)>>);

impl Obeyed {
    /// No route.
    pub fn new() -> Self {
        Self::default()
    }

    /// The routes, by channel.
    pub fn iter(&self) -> btree_map::Iter<'_, ChannelUid, (u64, RouteHash)> {
        self.0.iter()
    }
}

impl FromIterator<(ChannelUid, (u64, RouteHash))> for Obeyed {
    fn from_iter<I: IntoIterator<Item = (ChannelUid, (u64, RouteHash))>>(routes: I) -> Self {
        Self(Arc::new(routes.into_iter().collect()))
    }
}

impl<const N: usize> From<[(ChannelUid, (u64, RouteHash)); N]> for Obeyed {
    fn from(routes: [(ChannelUid, (u64, RouteHash)); N]) -> Self {
        routes.into_iter().collect()
    }
}

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The store knows the replica and its routes.
    Done {
        /// When the counts were last asked for.
        asked: Option<Asked>,
        /// How many replicas live, this one included.
        live: u64,
    },
    /// The store has another key: it was emptied, and somebody made a new one. Whoever goes on with
    /// the old key would take one customer for two.
    OtherKey,
}

/// The last control request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How long ago it came.
    pub age_ms: u64,
    /// How long after the one before.
    pub gap_ms: u64,
}

/// What the store knows of a replica that it heard in the last minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaState {
    /// Name of the replica.
    pub replica: ReplicaName,
    /// When its last heartbeat came.
    pub seen_at: Millis,
    /// Digest over all its routes.
    pub digest: RouteHash,
}

impl ReplicaState {
    /// Whether it lives, as far as anybody knows.
    pub fn is_live(&self, now: Millis) -> bool {
        now.saturating_sub(self.seen_at) < LIVE_MS
    }
}

/// A route that a replica obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// UID of the channel.
    pub channel: ChannelUid,
    /// `serving` of the route.
    pub serving: u64,
    /// Hash of the route.
    pub hash: RouteHash,
    /// Whether the replica has cut its canary off by itself.
    pub cut: bool,
}

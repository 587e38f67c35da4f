//! Heartbeats and acknowledgements of a store that lives in one process: memory only.
//!
//! Takes heartbeats and a time; gives replicas and what they acknowledged. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ReplicaName, RouteHash};

use crate::store::fleet::{Acknowledgement, Asked, Heartbeat, Obeyed, ReplicaState};

/// A replica and its acknowledgements are forgotten once its last heartbeat is so old.
const KEPT_MS: u64 = 60_000;

/// What is further ahead than this is of a clock that was put back since.
const AHEAD_MS: u64 = 60_000;

/// A gap between two control requests that counts for no more.
const LONGEST_GAP_MS: u64 = 3_600_000;

/// What each replica said of itself.
#[derive(Default)]
pub(super) struct Replicas {
    by_name: BTreeMap<ReplicaName, Account>,
    /// When the counts were last asked for, and how long after the time before.
    asked: Option<(Millis, u64)>,
}

struct Account {
    seen_at: Millis,
    digest: RouteHash,
    obeyed: Obeyed,
    cut: BTreeSet<ChannelUid>,
}

impl Replicas {
    /// Takes a heartbeat, and forgets those that were silent for long.
    pub(super) fn beat(&mut self, now: Millis, heartbeat: Heartbeat) {
        let Heartbeat { replica, digest, obeyed, cut, .. } = heartbeat;
        self.by_name.insert(replica, Account { seen_at: now, digest, obeyed, cut });
        // For good: a clock that steps back afterwards brings none of them back.
        self.by_name.retain(|_, replica| is_within(replica, now, KEPT_MS));
    }

    /// Notes that the counts are asked for.
    pub(super) fn note_asked(&mut self, now: Millis) {
        let gap = self.asked.map_or(0, |(before, _)| now.saturating_sub(before));
        self.asked = Some((now, gap.min(LONGEST_GAP_MS)));
    }

    /// When they were last asked for.
    pub(super) fn asked(&self, now: Millis) -> Option<Asked> {
        let (at, gap_ms) = self.asked.filter(|(at, _)| at.saturating_sub(now) <= AHEAD_MS)?;
        Some(Asked { age_ms: now.saturating_sub(at), gap_ms })
    }

    /// Forgets a replica that works no more.
    pub(super) fn forget(&mut self, replica: &ReplicaName) {
        self.by_name.remove(replica);
    }

    /// Replicas with a heartbeat younger than a minute.
    pub(super) fn heard(&self, now: Millis) -> Vec<ReplicaState> {
        let heard = self.by_name.iter().filter(|(_, replica)| is_within(replica, now, KEPT_MS));
        heard
            .map(|(name, replica)| ReplicaState {
                replica: name.clone(),
                seen_at: replica.seen_at,
                digest: replica.digest.clone(),
            })
            .collect()
    }

    /// What a replica acknowledged, of the named channels or of all.
    pub(super) fn acknowledged(
        &self,
        now: Millis,
        name: &ReplicaName,
        channels: Option<&[ChannelUid]>,
    ) -> Vec<Acknowledgement> {
        let replica = self.by_name.get(name).filter(|replica| is_within(replica, now, KEPT_MS));
        let Some(replica) = replica else { return Vec::new() };
        let named = |uid: &&ChannelUid| channels.is_none_or(|named| named.contains(uid));
        let acknowledged = replica.obeyed.iter().filter(|(channel, _)| named(channel));
        acknowledged
            .map(|(channel, (serving, hash))| Acknowledgement {
                channel: channel.clone(),
                serving: *serving,
                hash: hash.clone(),
                cut: replica.cut.contains(channel),
            })
            .collect()
    }
}

fn is_within(replica: &Account, now: Millis, age_ms: u64) -> bool {
    now.saturating_sub(replica.seen_at) < age_ms && replica.seen_at.saturating_sub(now) <= AHEAD_MS
}

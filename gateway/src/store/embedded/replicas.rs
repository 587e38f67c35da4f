//! Heartbeats and acknowledgements of a store that lives in one process: memory only.
//!
//! Takes heartbeats and a time; gives live replicas and what they acknowledged. No I/O, no clock.

use std::collections::BTreeMap;

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ReplicaName, RouteHash};

use crate::store::fleet::{Acknowledgement, Heartbeat, Obeyed, ReplicaState};

/// A replica is live while its last heartbeat is younger.
const LIVE_MS: u64 = 10_000;

/// Its acknowledgements are forgotten once its last heartbeat is so old.
const KEPT_MS: u64 = 60_000;

/// What each replica said of itself.
#[derive(Default)]
pub(super) struct Replicas {
    by_name: BTreeMap<ReplicaName, Account>,
}

struct Account {
    seen_at: Millis,
    digest: RouteHash,
    obeyed: Obeyed,
}

impl Replicas {
    /// Takes a heartbeat.
    pub(super) fn beat(&mut self, now: Millis, heartbeat: Heartbeat) {
        let Heartbeat { replica, digest, obeyed, .. } = heartbeat;
        self.by_name.insert(replica, Account { seen_at: now, digest, obeyed });
    }

    /// Forgets a replica that works no more.
    pub(super) fn forget(&mut self, replica: &ReplicaName) {
        self.by_name.remove(replica);
    }

    /// Replicas with a heartbeat younger than ten seconds.
    pub(super) fn live(&self, now: Millis) -> Vec<ReplicaState> {
        let live = self.by_name.iter().filter(|(_, replica)| is_within(replica, now, LIVE_MS));
        live.map(|(name, replica)| ReplicaState {
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
        let all = replica.into_iter().flat_map(|replica| &replica.obeyed);
        all.filter(|(channel, _)| channels.is_none_or(|named| named.contains(channel)))
            .map(|(channel, (serving, hash))| Acknowledgement {
                channel: channel.clone(),
                serving: *serving,
                hash: hash.clone(),
            })
            .collect()
    }
}

fn is_within(replica: &Account, now: Millis, age_ms: u64) -> bool {
    now.saturating_sub(replica.seen_at) < age_ms
}

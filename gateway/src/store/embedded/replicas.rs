//! Heartbeats and acknowledgements of a store that lives in one process: memory only.
//!
//! Takes heartbeats and a time; gives live replicas and what they acknowledged. No I/O, no clock.

use std::collections::BTreeMap;

use kanarie_queue::types::Millis;

use crate::store::{Heartbeat, ReplicaState};

/// A replica is live while its last heartbeat is younger.
const LIVE_MS: u64 = 10_000;

/// Its acknowledgements are forgotten once its last heartbeat is so old.
const KEPT_MS: u64 = 60_000;

/// What each replica said of itself.
#[derive(Default)]
pub(super) struct Replicas {
    by_name: BTreeMap<String, Replica>,
}

#[derive(Default)]
struct Replica {
    seen_at: Millis,
    digest: String,
    acknowledged: BTreeMap<String, (u64, String)>,
}

impl Replicas {
    /// Takes a heartbeat. Nothing is dropped: a replica says only what changed, also after it slept
    /// for a minute.
    pub(super) fn beat(&mut self, now: Millis, heartbeat: Heartbeat) {
        let replica = self.by_name.entry(heartbeat.replica).or_default();
        replica.seen_at = now;
        replica.digest = heartbeat.digest;
        for channel in &heartbeat.forgotten {
            replica.acknowledged.remove(channel);
        }
        for (channel, serving, hash) in heartbeat.acknowledged {
            replica.acknowledged.insert(channel, (serving, hash));
        }
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
        name: &str,
        channels: Option<&[String]>,
    ) -> Vec<(String, u64, String)> {
        let replica = self.by_name.get(name).filter(|replica| is_within(replica, now, KEPT_MS));
        let all = replica.into_iter().flat_map(|replica| &replica.acknowledged);
        all.filter(|(channel, _)| channels.is_none_or(|named| named.contains(channel)))
            .map(|(channel, (serving, hash))| (channel.clone(), *serving, hash.clone()))
            .collect()
    }
}

fn is_within(replica: &Replica, now: Millis, age_ms: u64) -> bool {
    now.saturating_sub(replica.seen_at) < age_ms
}

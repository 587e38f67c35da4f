//! Waiting for an agent: by channel and revision, not by conversation.
//!
//! Takes the head that could not be asked and the revision it waits for; gives its place among the
//! delayed ones until its patience ends. Of all that wait for one agent a single conversation is let
//! try when a probe is due; whoever finds the agent well wakes them all. No wait is without an end.

use kanarie_words::Millis;
use kanarie_words::ids::{ConversationId, RevisionName};

use crate::claim::give_back;
use crate::lease::{Lease, Owned, Park};
use crate::queue::Queue;
use crate::shard::{Key, Place, Shard};
use crate::verb::Verb;

/// Conversations that one call wakes at most in a shard.
pub const WOKEN: usize = 200;

/// Puts the head back until `until_ms` from now or until its agent is well again, its try
/// uncounted, and lets one of those that wait for it try in `probe_ms`. Repeated, it is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkHead {
    /// The owner's.
    pub lease: Lease,
    /// The revision of its channel whose agent it waits for.
    pub revision: RevisionName,
    /// Until it is ready in any case.
    pub until_ms: u64,
    /// Until one of those that wait is let try.
    pub probe_ms: u64,
}

/// Makes what waits for an agent ready, at most 200 conversations in each shard; gives how many
/// there were: at 200 or more there may be others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeParked {
    /// What is waited for.
    pub park: Park,
}

impl Verb for ParkHead {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(conversation) = shard.owned(&self.lease) else { return Owned::Stale };
        give_back(conversation, false);
        let park = Park { channel: conversation.channel.clone(), revision: self.revision };
        shard.touch(now);
        shard.probes.insert(park.clone(), now.saturating_add(self.probe_ms));
        shard.dirty.insert(Key::Probe(park.clone()));
        let until = now.saturating_add(self.until_ms);
        let place = Place::Delayed { until, park: Some(park) };
        shard.put(&self.lease.conversation, place);
        Owned::Done
    }
}

impl Verb for WakeParked {
    type Answer = u64;

    fn apply(self, queue: &mut Queue, now: Millis) -> u64 {
        queue.shards.iter_mut().map(|shard| wake_all(shard, now, &self.park)).sum()
    }
}

fn wake_all(shard: &mut Shard, now: Millis, park: &Park) -> u64 {
    let now = shard.time(now);
    if !shard.probes.contains_key(park) {
        return 0;
    }
    let first = (park.clone(), 0, ConversationId::from_bytes([0; 16]));
    let waiting: Vec<_> = shard
        .parked
        .range(first..)
        .take_while(|(of, _, _)| of == park)
        .take(WOKEN)
        .map(|(_, _, id)| id.clone())
        .collect();
    shard.touch(now);
    if waiting.len() < WOKEN {
        shard.probes.remove(park);
        shard.dirty.insert(Key::Probe(park.clone()));
    }
    waiting.iter().for_each(|id| shard.wake(id));
    waiting.len() as u64
}

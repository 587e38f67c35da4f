//! Dead letters: heads that were given up, kept for a time and never dropped silently.
//!
//! Takes a lease and a class; gives counts by channel. Full means that the head stays where it is
//! (I1, I13).

use std::collections::BTreeMap;

use crate::queue::Queue;
use crate::rows::Key;
use crate::shard::{DeadLetter, Shard};
use crate::types::{Buried, DeadLetters, Lease, Millis};

/// Dead letters that one shard holds at most.
pub const MAX_DEAD: usize = 10_000;

impl Queue {
    /// Moves the head to the dead letters. Without room nothing changes. Repeated, it is stale.
    pub fn bury(&mut self, now: Millis, lease: &Lease, class: &str) -> Buried {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        if shard.owned(lease).is_none() {
            return Buried::Stale;
        }
        if shard.dead.len() >= MAX_DEAD {
            return Buried::Full;
        }
        shard.touch(now);
        let Some((channel, message, head)) = shard.pop(&lease.conversation) else {
            return Buried::Stale;
        };
        let letter = DeadLetter {
            channel,
            dedup_key: message.dedup_key,
            class: class.to_owned(),
            at: now,
            envelope: Some(message.envelope),
            counted: head.counted,
        };
        shard.last_dead = shard.last_dead.saturating_add(1);
        let id = shard.last_dead;
        shard.dead_with_text.insert(id);
        shard.dead_of.entry(letter.channel.clone()).or_default().insert(id);
        shard.dead.insert(id, letter);
        shard.dirty.insert(Key::Meta);
        shard.dirty.insert(Key::Dead(id));
        Buried::Done
    }

    /// Dead letters over all shards, by channel.
    pub fn dead_letters(&self) -> Vec<DeadLetters> {
        let mut by_channel: BTreeMap<&str, (u64, Millis, Millis, &str)> = BTreeMap::new();
        for shard in &self.shards {
            for (channel, ids) in &shard.dead_of {
                let Some((oldest, newest)) = ends(shard, ids) else { continue };
                let of = by_channel.entry(channel).or_insert((0, Millis::MAX, 0, ""));
                of.0 += ids.len() as u64;
                of.1 = of.1.min(oldest.at);
                if newest.at >= of.2 {
                    (of.2, of.3) = (newest.at, &newest.class);
                }
            }
        }
        let letters = by_channel.into_iter();
        letters
            .map(|(channel, (count, oldest_at, _, class))| DeadLetters {
                channel: channel.to_owned(),
                count,
                oldest_at,
                class: class.to_owned(),
            })
            .collect()
    }
}

/// The oldest and the newest of these letters: ids grow with time.
fn ends<'a>(
    shard: &'a Shard,
    ids: &std::collections::BTreeSet<u64>,
) -> Option<(&'a DeadLetter, &'a DeadLetter)> {
    Some((shard.dead.get(ids.first()?)?, shard.dead.get(ids.last()?)?))
}

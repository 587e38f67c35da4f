//! Dead letters: heads that were given up, kept for a time and never dropped silently; and how much
//! each channel has waiting.
//!
//! Takes a lease and a class; gives sums by channel. Full means that the head stays where it is
//! (I1, I13).

use std::collections::{BTreeMap, BTreeSet};

use kanarie_words::Millis;
use kanarie_words::ids::ChannelUid;

use crate::lease::Lease;
use crate::queue::Queue;
use crate::shard::{DeadLetter, Key, Shard};
use crate::verb::Verb;

/// Dead letters that one shard holds at most.
pub const MAX_DEAD: usize = 10_000;

/// Moves the head to the dead letters. Without room nothing changes. Repeated, it is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bury {
    /// The owner's.
    pub lease: Lease,
    /// Why, in the word of the metric: no space in it.
    pub class: String,
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

/// Dead letters over all shards, by channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumDead;

/// Dead letters of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadSum {
    /// UID of the channel.
    pub channel: ChannelUid,
    /// How many are kept.
    pub count: u64,
    /// When the oldest one ended.
    pub oldest_at: Millis,
    /// Class of the newest one.
    pub class: String,
}

/// What every channel has waiting, over all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumLoads;

/// What one channel has waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// UID of the channel.
    pub channel: ChannelUid,
    /// Messages.
    pub messages: u64,
    /// Bytes of their envelopes.
    pub bytes: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

impl Verb for Bury {
    type Answer = Buried;

    fn apply(self, queue: &mut Queue, now: Millis) -> Buried {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        if shard.owned(&self.lease).is_none() {
            return Buried::Stale;
        }
        if shard.dead.len() >= MAX_DEAD {
            return Buried::Full;
        }
        shard.touch(now);
        shard.bring_back_letters(now);
        // No letter ends before one with a smaller id, also while some are ahead of the time.
        let at = shard.dead.last_key_value().map_or(now, |(_, last)| last.at.max(now));
        let conversation = self.lease.conversation;
        let Some((channel, message, progress)) = shard.pop(&conversation) else {
            return Buried::Stale;
        };
        let letter = DeadLetter {
            channel,
            conversation: Some(conversation.clone()),
            dedup_key: message.dedup_key,
            class: self.class.into(),
            at,
            admitted_at: Some(message.admitted_at),
            envelope: Some(message.envelope),
            counted: progress.counted,
        };
        shard.dead_bytes += letter.envelope.as_ref().map_or(0, |text| text.len() as u64);
        shard.last_dead = shard.last_dead.saturating_add(1);
        let id = shard.last_dead;
        shard.dead_with_text.insert(id);
        shard.dead_of.entry(letter.channel.clone()).or_default().insert(id);
        let sid = letter.dedup_key.clone();
        shard.dead.insert(id, letter);
        shard.dirty.insert(Key::Meta);
        shard.dirty.insert(Key::Dead(id));
        queue.settle(&conversation, &sid);
        Buried::Done
    }
}

impl Verb for SumDead {
    type Answer = Vec<DeadSum>;

    fn apply(self, queue: &mut Queue, _: Millis) -> Vec<DeadSum> {
        let mut sums = DeadSums::default();
        for shard in &queue.shards {
            for (channel, ids) in &shard.dead_of {
                let Some((oldest, newest)) = ends(shard, ids) else { continue };
                let class = newest.class.as_ref().to_owned();
                let count = ids.len() as u64;
                let sum = DeadSum { channel: channel.clone(), count, oldest_at: oldest.at, class };
                sums.add(sum, newest.at);
            }
        }
        sums.all()
    }
}

impl Verb for SumLoads {
    type Answer = Vec<Load>;

    fn apply(self, queue: &mut Queue, _: Millis) -> Vec<Load> {
        let mut loads = Loads::default();
        for shard in &queue.shards {
            for (channel, waiting) in &shard.waiting {
                loads.add(channel, [waiting.messages, waiting.bytes, 0]);
            }
            for (channel, ids) in &shard.dead_of {
                loads.add(channel, [0, 0, ids.len() as u64]);
            }
        }
        loads.all()
    }
}

/// Adds up the dead letters of shards.
#[derive(Default)]
pub struct DeadSums(BTreeMap<ChannelUid, (DeadSum, Millis)>);

impl DeadSums {
    /// Adds one shard's, with the time when its newest ended.
    pub fn add(&mut self, sum: DeadSum, newest_at: Millis) {
        let Some((known, newest)) = self.0.get_mut(&sum.channel) else {
            self.0.insert(sum.channel.clone(), (sum, newest_at));
            return;
        };
        known.count = known.count.saturating_add(sum.count);
        known.oldest_at = known.oldest_at.min(sum.oldest_at);
        if newest_at >= *newest {
            (*newest, known.class) = (newest_at, sum.class);
        }
    }

    /// The sums, by channel.
    pub fn all(self) -> Vec<DeadSum> {
        self.0.into_values().map(|(sum, _)| sum).collect()
    }
}

/// Adds up the loads of shards.
#[derive(Default)]
pub struct Loads(BTreeMap<ChannelUid, [u64; 3]>);

impl Loads {
    /// Adds messages, bytes and dead letters.
    pub fn add(&mut self, channel: &ChannelUid, of: [u64; 3]) {
        let sum = self.0.entry(channel.clone()).or_default();
        sum.iter_mut().zip(of).for_each(|(sum, of)| *sum = sum.saturating_add(of));
    }

    /// The sums, by channel.
    pub fn all(self) -> Vec<Load> {
        let all = self.0.into_iter();
        all.map(|(channel, [messages, bytes, dead_letters])| Load {
            channel,
            messages,
            bytes,
            dead_letters,
        })
        .collect()
    }
}

/// The oldest and the newest of these letters: ids grow with time.
fn ends<'a>(shard: &'a Shard, ids: &BTreeSet<u64>) -> Option<(&'a DeadLetter, &'a DeadLetter)> {
    Some((shard.dead.get(ids.first()?)?, shard.dead.get(ids.last()?)?))
}

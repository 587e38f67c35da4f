//! The sweep: what has outlived its time goes, a bounded number a call.
//!
//! Takes a shard; gives nothing. Never touches a message that is still owed an answer.

use kanarie_words::Millis;

use crate::queue::Queue;
use crate::shard::{Key, Memory, Shard};
use crate::verb::Verb;

/// Dead letters that one call looks at most, for each of their two ends.
const LETTERS: usize = 100;

/// Memories that one call drops at most: no verb waits long for it. An admission drops some as well.
const MEMORIES: usize = 1_000;

/// Memories that an admission drops at most: it adds fewer.
pub(crate) const MEMORIES_AN_ADMISSION: usize = 4;

/// How long a dead letter keeps its text: a day.
const TEXT_MS: u64 = 86_400_000;

/// How long a dead letter is kept: 14 days.
const LETTER_MS: u64 = 14 * 86_400_000;

/// Drops texts of dead letters after a day, dead letters after 14 days, and memory of SIDs, limits,
/// replies and evidence whose time is over; and what is remembered of deliveries, which is of no shard.
/// The rows of what ages by its time alone are left to their owner ([`crate::rows::is_over`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The shard, below 32.
    pub shard: u8,
}

impl Verb for Sweep {
    type Answer = ();

    fn apply(self, queue: &mut Queue, now: Millis) {
        queue.deliveries.sweep(now);
        let Some(shard) = queue.shards.get_mut(usize::from(self.shard)) else { return };
        let now = shard.time(now);
        shard.bring_back_letters(now);
        drop_letters(shard, now);
        drop_texts(shard, now);
        drop_memories(shard, now, MEMORIES);
        shard.count_rest();
        queue.sids.sweep(now);
    }
}

fn drop_letters(shard: &mut Shard, now: Millis) {
    for _ in 0..LETTERS {
        let Some((number, oldest)) = shard.dead.first_key_value() else { return };
        if oldest.at.saturating_add(LETTER_MS) > now {
            return;
        }
        let number = *number;
        shard.remove_letter(number);
        shard.touch(now);
    }
}

fn drop_texts(shard: &mut Shard, now: Millis) {
    for _ in 0..LETTERS {
        let Some(id) = shard.dead_with_text.first().copied() else { return };
        if let Some(letter) = shard.dead.get_mut(&id) {
            if letter.at.saturating_add(TEXT_MS) > now {
                return;
            }
            letter.envelope = None;
        }
        shard.dead_with_text.remove(&id);
        shard.touch(now);
        shard.dirty.insert(Key::Dead(id));
    }
}

/// Forgets what has outlived its time, so much at most.
pub(crate) fn drop_memories(shard: &mut Shard, now: Millis, most: usize) {
    for _ in 0..most {
        if shard.ends.first().is_none_or(|(until, _)| *until > now) {
            return;
        }
        // In Redis most of these end by a time to live, so it is no change that notes the time.
        let Some((_, memory)) = shard.ends.pop_first() else { return };
        match memory {
            Memory::Customers(channel) => shard.drop_customers(&channel, u64::MAX),
            Memory::Stamps(id) => drop(shard.stamps.remove(&id)),
            Memory::Attributed(id) => drop(shard.attributed.remove(&id)),
            Memory::Memo(id) => drop(shard.memos.remove(&id)),
            Memory::Evidence(channel) => {
                shard.evidence.remove(&channel);
                shard.dirty.insert(Key::Evidence(channel));
            }
        }
    }
}

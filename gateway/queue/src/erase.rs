//! Erasing: dead letters by number, and everything that is kept of one conversation.
//!
//! Takes numbers, or a conversation; gives how much there was. What is leased is erased like the
//! rest: its owner's proof is worth nothing from then on, so it commits, marks and sends nothing more,
//! and only a POST that had its `Go` already may still arrive. Dead letters of a conversation are erased by
//! number, after the conversation: then nothing can become one any more. Counts stay, and so do the
//! keys by which repetitions are recognised: neither says whose they were.

use std::collections::BTreeSet;

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ConversationId};
use kanarie_words::track::Track;

use crate::queue::Queue;
use crate::shard::{Key, Memory, Place, Shard};
use crate::sids::SidKey;
use crate::verb::Verb;

/// Erases dead letters of one shard; gives how many there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseLetters {
    /// The shard, below 32.
    pub shard: u8,
    /// Their numbers.
    pub numbers: Vec<u64>,
}

/// Erases what waits in a conversation, its reply, what is remembered of it and of the delivery of its
/// last segments, and whether it was counted for one of these channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseConversation {
    /// The conversation.
    pub conversation: ConversationId,
    /// UIDs of the channels that may have counted it.
    pub channels: Vec<ChannelUid>,
}

/// What there was of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Messages that waited, the head included.
    pub messages: u64,
    /// Whether the head was being worked on.
    pub was_leased: bool,
    /// The channel that they waited for.
    pub channel: Option<ChannelUid>,
}

impl Verb for EraseLetters {
    type Answer = u64;

    fn apply(self, queue: &mut Queue, now: Millis) -> u64 {
        let Some(shard) = queue.shards.get_mut(usize::from(self.shard)) else { return 0 };
        let now = shard.time(now);
        let mut erased = 0;
        for number in self.numbers {
            if shard.remove_letter(number).is_some() {
                shard.touch(now);
                erased += 1;
            }
        }
        erased
    }
}

impl Verb for EraseConversation {
    type Answer = Erased;

    fn apply(self, queue: &mut Queue, now: Millis) -> Erased {
        let Self { conversation, channels } = self;
        queue.deliveries.erase(now, &conversation);
        let number = conversation.shard();
        let Queue { shards, sids, .. } = queue;
        let shard = &mut shards[usize::from(number)];
        let now = shard.time(now);
        let waiting = shard.conversations.get(&conversation).into_iter().flat_map(|c| &c.messages);
        waiting.for_each(|message| sids.settle(SidKey::of(number, &message.dedup_key)));
        let erased = erase_waiting(shard, now, &conversation);
        forget(shard, &conversation);
        channels.iter().for_each(|channel| forget_customer(shard, channel, &conversation));
        erased
    }
}

fn erase_waiting(shard: &mut Shard, now: Millis, id: &ConversationId) -> Erased {
    let Some(conversation) = shard.remove_conversation(id) else {
        return Erased { messages: 0, was_leased: false, channel: None };
    };
    shard.touch(now);
    Erased {
        messages: conversation.messages.len() as u64,
        was_leased: matches!(conversation.place, Place::Leased { .. }),
        channel: Some(conversation.channel),
    }
}

/// What is kept for a time ends now, with rows of what has ended by itself.
fn forget(shard: &mut Shard, id: &ConversationId) {
    let of = id.clone();
    shard.dirty.extend([Key::Stamps(of.clone()), Key::Attributed(of.clone()), Key::Memo(of)]);
    if let Some(kept) = shard.stamps.remove(id) {
        shard.ends.remove(&(kept.until, Memory::Stamps(id.clone())));
    }
    if let Some(kept) = shard.attributed.remove(id) {
        shard.ends.remove(&(kept.until, Memory::Attributed(id.clone())));
    }
    if let Some(kept) = shard.memos.remove(id) {
        shard.ends.remove(&(kept.until, Memory::Memo(id.clone())));
    }
}

/// The servings of the counters are those of the customers: they go together.
fn forget_customer(shard: &mut Shard, channel: &ChannelUid, id: &ConversationId) {
    let counters = shard.evidence.get(channel).into_iter().flat_map(|kept| kept.value.0.keys());
    let servings: BTreeSet<u64> = counters.map(|(serving, _, _)| *serving).collect();
    let Some(kept) = shard.customers.get_mut(channel) else { return };
    for serving in servings {
        for track in Track::ALL {
            let customer = (serving, track, id.clone());
            if kept.value.remove(&customer).is_some() {
                shard.dirty.insert(Key::Customer(channel.clone(), customer));
            }
        }
    }
    if kept.value.is_empty() {
        let until = kept.until;
        shard.customers.remove(channel);
        shard.ends.remove(&(until, Memory::Customers(channel.clone())));
    }
}

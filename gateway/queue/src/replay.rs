//! Dead letters, sent again: each waits once more, at the tail of its conversation.
//!
//! Takes letters of one shard by number and key; says of each what became of it. A letter that waits
//! again is a letter no more, so a repeated call moves nothing twice, and it overtakes nothing that
//! waits (I23). Its patience starts anew, its first attempt does not: what counted counts no more. A
//! letter that cannot wait stays where it is.

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, DedupKey};

use crate::admit;
use crate::queue::Queue;
use crate::shard::{Key, Message, Shard};
use crate::sids::{SidKey, Sids};
use crate::verb::Verb;

/// Letters that one call should name at most: a shard does nothing else meanwhile.
pub const REPLAYED: usize = 20;

/// Puts dead letters of one shard back into the queue, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The shard, below 32.
    pub shard: u8,
    /// Which ones.
    pub letters: Vec<MessageAgain>,
}

/// One letter that is to wait again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAgain {
    /// Its number.
    pub number: u64,
    /// Its key: a letter with another one is another letter.
    pub dedup_key: DedupKey,
    /// The channel that serves it, should nothing of its conversation wait.
    pub channel: ChannelUid,
    /// How long a repetition is recognised from now on, at least.
    pub dedup_ms: u64,
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Replayed {
    /// It waits at the tail of its conversation.
    Done,
    /// Its message waits already, admitted a second time: the letter is gone, and nothing else.
    Waits,
    /// No room in the conversation or in the shard: it stays.
    Full,
    /// Its text, or whose it was, is not known any more: it stays.
    NoText,
    /// There is no such letter: it waits again, was erased, or never was.
    Gone,
}

impl Verb for Replay {
    type Answer = Vec<Replayed>;

    fn apply(self, queue: &mut Queue, now: Millis) -> Vec<Replayed> {
        let Queue { shards, sids, .. } = queue;
        let Some(shard) = shards.get_mut(usize::from(self.shard)) else {
            return vec![Replayed::Gone; self.letters.len()];
        };
        let now = shard.time(now);
        let again = self.letters.into_iter();
        again.map(|again| replay(shard, self.shard, sids, now, again)).collect()
    }
}

fn replay(
    shard: &mut Shard,
    place: u8,
    sids: &mut Sids,
    now: Millis,
    again: MessageAgain,
) -> Replayed {
    let MessageAgain { number, dedup_key, channel, dedup_ms } = again;
    let letter = shard.dead.get(&number).filter(|letter| letter.dedup_key == dedup_key);
    let Some(letter) = letter else { return Replayed::Gone };
    let (Some(id), Some(envelope)) = (letter.conversation.clone(), letter.envelope.clone()) else {
        return Replayed::NoText;
    };
    let counted = letter.counted;
    let waiting = shard.conversations.get(&id);
    let is_same = |message: &Message| message.dedup_key == dedup_key;
    if waiting.is_some_and(|conversation| conversation.messages.iter().any(is_same)) {
        shard.touch(now);
        shard.remove_letter(number);
        return Replayed::Waits;
    }
    let channel = waiting.map_or(channel, |conversation| conversation.channel.clone());
    if admit::is_full(shard, &id, envelope.len() as u64) {
        return Replayed::Full;
    }
    shard.touch(now);
    shard.remove_letter(number);
    let sid = SidKey::of(place, &dedup_key);
    let until = sids.until(sid).unwrap_or_default().max(now.saturating_add(dedup_ms));
    let until = sids.remember(sid, now, until.saturating_sub(now));
    shard.dirty.insert(Key::Seen(dedup_key.clone(), until));
    let message = Message { admitted_at: now, dedup_key, envelope, counted };
    admit::append(shard, &id, channel, message);
    Replayed::Done
}

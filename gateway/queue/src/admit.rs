//! Admission: duplicate, then limit, then capacity, then append.
//!
//! Takes a message; gives one of five answers. Only `Queued` and `Leased` change anything, so a
//! refusal never makes a later copy a duplicate and costs no quota (I5, I6, I7, I13). A message that
//! comes alone to a shard where nothing is ready may be leased to whoever brings it: the claim that
//! would come next, in the same step (I4, I15, I22).

use std::collections::VecDeque;

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ConversationId, DedupKey};

use crate::claim::{self, Claimed, Head};
use crate::lease::NewLease;
use crate::queue::Queue;
use crate::shard::{Conversation, Key, Memory, Message, Place, Progress, Shard};
use crate::sids::{GRACE_MS, SidKey};
use crate::sweep::{self, MEMORIES_AN_ADMISSION};
use crate::verb::Verb;

/// Messages that one conversation holds at most.
pub const MAX_WAITING: usize = 200;

/// Bytes of envelopes that one shard holds at most.
pub const MAX_BYTES: u64 = 64 << 20;

/// Admits a message once per dedup window, `limit` times per rolling window, while there is room.
/// Repeated, it is `Duplicate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admit {
    /// UID of the channel.
    pub channel: ChannelUid,
    /// What a repetition is recognised by.
    pub dedup_key: DedupKey,
    /// The conversation it belongs to; also what the limiter counts by.
    pub conversation: ConversationId,
    /// The message, opaque here.
    pub envelope: String,
    /// Messages per window.
    pub limit: u32,
    /// The limiter's window.
    pub window_ms: u64,
    /// How long a repetition is recognised.
    pub dedup_ms: u64,
    /// The lease that whoever brings it wants at once. Should the answer be lost, it ends by itself,
    /// or is given back.
    pub lease: Option<NewLease>,
}

/// The answer to an admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Durable, and answered in its turn.
    Queued,
    /// Durable, and claimed by the lease that was asked for: its conversation had no message and
    /// nothing else was ready in its shard.
    Leased(Box<Head>),
    /// Admitted before; nothing changed.
    Duplicate,
    /// Over the limit; nothing changed.
    Limited {
        /// When the next message would be admitted.
        retry_after_ms: u64,
    },
    /// No room in the conversation, the shard or the store; nothing changed.
    Full,
}

impl Verb for Admit {
    type Answer = Admission;

    fn apply(self, queue: &mut Queue, now: Millis) -> Admission {
        let number = self.conversation.shard();
        let sid = SidKey::of(number, &self.dedup_key);
        let Queue { shards, sids, budget, closed, .. } = queue;
        let shard = &mut shards[usize::from(number)];
        let now = shard.time(now);
        if sids.remembers(sid, now) {
            return Admission::Duplicate;
        }
        if let Some(retry_after_ms) = over_limit(shard, now, &self) {
            return Admission::Limited { retry_after_ms };
        }
        let bytes = self.envelope.len() as u64;
        if *closed || is_full(shard, &self.conversation, bytes) || budget.is_full(bytes) {
            return Admission::Full;
        }
        budget.add(bytes);
        shard.touch(now);
        sweep::drop_memories(shard, now.saturating_sub(GRACE_MS), MEMORIES_AN_ADMISSION);
        let until = sids.remember(sid, now, self.dedup_ms);
        if let Some(most) = budget.of_sids() {
            sids.keep_within(most, now);
        }
        shard.dirty.insert(Key::Seen(self.dedup_key.clone(), until));
        stamp(shard, now, &self);
        let (id, lease) = (self.conversation.clone(), self.lease.clone());
        let is_alone = shard.ready.is_empty() && !shard.conversations.contains_key(&id);
        let Self { channel, dedup_key, envelope, .. } = self;
        append(
            shard,
            &id,
            channel,
            Message { admitted_at: now, dedup_key, envelope, counted: false },
        );
        lease.filter(|_| is_alone).map_or(Admission::Queued, |lease| claim(shard, &id, lease, now))
    }
}

/// Claims what was just made ready, as a claim that comes next would.
fn claim(shard: &mut Shard, id: &ConversationId, lease: NewLease, now: Millis) -> Admission {
    let start = shard.conversations.get(id).map_or(0, |conversation| conversation.score);
    match claim::take(shard, id, start, lease, now) {
        Claimed::Head(head) => Admission::Leased(head),
        Claimed::Nothing { .. } => Admission::Queued,
    }
}

/// The time until the stamp that must go has gone, if the limit is reached. A stamp that is exactly
/// as old as the window has gone.
fn over_limit(shard: &Shard, now: Millis, admit: &Admit) -> Option<u64> {
    let limit = admit.limit as usize;
    if limit == 0 {
        return Some(admit.window_ms);
    }
    let stamps = &shard.stamps.get(&admit.conversation)?.value;
    let must_go = stamps.get(reached(stamps, now).checked_sub(limit)?)?;
    let gone_at = must_go.saturating_add(admit.window_ms);
    (gone_at > now).then(|| gone_at - now)
}

/// How many stamps count: the last ones may be of a clock that was put back since.
fn reached(stamps: &VecDeque<Millis>, now: Millis) -> usize {
    stamps.partition_point(|stamp| *stamp <= now)
}

/// Whether there is no room for another message of so many bytes.
pub(crate) fn is_full(shard: &Shard, id: &ConversationId, bytes: u64) -> bool {
    let waiting = shard.conversations.get(id).map_or(0, |c| c.messages.len());
    waiting >= MAX_WAITING || shard.bytes.saturating_add(bytes) > MAX_BYTES
}

fn stamp(shard: &mut Shard, now: Millis, admit: &Admit) {
    let until = now.saturating_add(admit.window_ms);
    let old = shard.stamps.get(&admit.conversation).map(|kept| kept.until);
    let kept = shard.stamps.entry(admit.conversation.clone()).or_default();
    kept.value.truncate(reached(&kept.value, now));
    let gone = kept.value.partition_point(|stamp| stamp.saturating_add(admit.window_ms) <= now);
    kept.value.drain(..gone);
    kept.value.push_back(now);
    kept.until = until;
    shard.keep_until(Memory::Stamps(admit.conversation.clone()), old, until);
    shard.dirty.insert(Key::Stamps(admit.conversation.clone()));
}

/// Puts a message at the tail of its conversation.
pub(crate) fn append(
    shard: &mut Shard,
    id: &ConversationId,
    channel: ChannelUid,
    message: Message,
) {
    let inherits = inherit(shard, id, &channel);
    shard.add_waiting(&channel, 1, message.envelope.len() as u64);
    let is_new = !shard.conversations.contains_key(id);
    let conversation = shard.conversations.entry(id.clone()).or_insert_with(|| Conversation {
        channel: channel.clone(),
        first: 0,
        messages: VecDeque::new(),
        place: Place::Ready,
        score: 0,
        progress: Progress { counted: message.counted, ..Progress::default() },
    });
    conversation.channel = channel;
    let sequence = conversation.first.saturating_add(conversation.messages.len() as u64);
    conversation.messages.push_back(message);
    shard.dirty.insert(Key::Message(id.clone(), sequence));
    shard.dirty.insert(Key::Conversation(id.clone()));
    if is_new || inherits {
        shard.wake(id);
    }
}

/// A channel that was made anew for the same sender serves, and is counted for, what still waits.
/// True when that waited for an agent of the former one.
fn inherit(shard: &mut Shard, id: &ConversationId, channel: &ChannelUid) -> bool {
    let Some(conversation) = shard.conversations.get(id).filter(|c| c.channel != *channel) else {
        return false;
    };
    let parked = matches!(conversation.place, Place::Delayed { park: Some(_), .. });
    let former = conversation.channel.clone();
    let messages = conversation.messages.len() as u64;
    let bytes = conversation.messages.iter().map(|message| message.envelope.len() as u64).sum();
    shard.remove_waiting(&former, messages, bytes);
    shard.add_waiting(channel, messages, bytes);
    parked
}

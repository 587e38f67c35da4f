//! Admission: duplicate, then limit, then capacity, then append.
//!
//! Takes a message; gives one of four answers. Only `Queued` changes anything, so a refusal never
//! makes a later copy a duplicate and costs no quota (I5, I6, I7, I13).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::queue::Queue;
use crate::rows::Key;
use crate::shard::{Conversation, Head, Memory, Message, Place, Shard};
use crate::types::{Admission, Admit, Millis};

/// Messages that one conversation holds at most.
pub const MAX_WAITING: usize = 200;

/// Bytes of envelopes that one shard holds at most.
pub const MAX_BYTES: u64 = 64 << 20;

impl Queue {
    /// Admits a message once per dedup window, `limit` times per rolling window, while there is
    /// room. Repeated, it is `Duplicate`.
    pub fn admit(&mut self, now: Millis, admit: Admit) -> Admission {
        let (shard, now) = self.shard_at(&admit.conversation, now);
        if shard.seen.get(admit.dedup_key.as_str()).is_some_and(|until| *until > now) {
            return Admission::Duplicate;
        }
        if let Some(retry_after_ms) = over_limit(shard, now, &admit) {
            return Admission::Limited { retry_after_ms };
        }
        if is_full(shard, &admit) {
            return Admission::Full;
        }
        shard.touch(now);
        let dedup_key: Arc<str> = admit.dedup_key.as_str().into();
        remember(shard, now, &dedup_key, &admit);
        append(shard, now, dedup_key, admit);
        Admission::Queued
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
    let must_go = stamps.get(stamps.len().checked_sub(limit)?)?;
    let gone_at = must_go.saturating_add(admit.window_ms);
    (gone_at > now).then(|| gone_at - now)
}

fn is_full(shard: &Shard, admit: &Admit) -> bool {
    let waiting = shard.conversations.get(&admit.conversation).map_or(0, |c| c.messages.len());
    waiting >= MAX_WAITING || shard.bytes + admit.envelope.len() as u64 > MAX_BYTES
}

fn remember(shard: &mut Shard, now: Millis, dedup_key: &Arc<str>, admit: &Admit) {
    let until = now.saturating_add(admit.dedup_ms);
    let old = shard.seen.insert(Arc::clone(dedup_key), until);
    shard.keep_until(Memory::Seen(Arc::clone(dedup_key)), old, until);
    shard.dirty.insert(Key::Seen(Arc::clone(dedup_key)));

    let until = now.saturating_add(admit.window_ms);
    let old = shard.stamps.get(&admit.conversation).map(|kept| kept.until);
    let kept = shard.stamps.entry(admit.conversation.clone()).or_default();
    let gone = kept.value.partition_point(|stamp| stamp.saturating_add(admit.window_ms) <= now);
    kept.value.drain(..gone);
    kept.value.push_back(now);
    kept.until = until;
    shard.keep_until(Memory::Stamps(admit.conversation.clone()), old, until);
    shard.dirty.insert(Key::Stamps(admit.conversation.clone()));
}

fn append(shard: &mut Shard, now: Millis, dedup_key: Arc<str>, admit: Admit) {
    let id = admit.conversation;
    shard.bytes += admit.envelope.len() as u64;
    let message = Message { admitted_at: now, dedup_key, envelope: admit.envelope };
    let is_new = !shard.conversations.contains_key(&id);
    let conversation = shard.conversations.entry(id.clone()).or_insert_with(|| Conversation {
        channel: String::new(),
        first: 0,
        messages: VecDeque::new(),
        place: Place::Ready,
        score: 0,
        head: Head::default(),
    });
    // A channel that was made anew for the same sender serves what still waits.
    conversation.channel = admit.channel;
    let sequence = conversation.first.saturating_add(conversation.messages.len() as u64);
    conversation.messages.push_back(message);
    shard.dirty.insert(Key::Message(id.clone(), sequence));
    shard.dirty.insert(Key::Conversation(id.clone()));
    if is_new {
        shard.wake(&id);
    }
}

//! The reply: durable intent, sending mark, evidence of the send, completion.
//!
//! Takes what an owner does and what Twilio reports; gives leave to post, or none. Never gives leave
//! for a segment that another attempt may have posted (I3, I9, I10, I11, I12).

use crate::queue::Queue;
use crate::rows::Key;
use crate::shard::{Memory, Place, Shard};
use crate::types::{
    Committed, ConversationId, Evidence, Intent, Lease, Marked, Millis, Owned, Sending,
};

/// SIDs that are remembered per conversation.
const ATTRIBUTED: usize = 8;

/// How long they are remembered: longer than any listing looks back.
const ATTRIBUTED_MS: u64 = 600_000;

/// One attempt at one segment, as its owner names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Id of the intent.
    pub intent: String,
    /// The segment, from 0.
    pub segment: u32,
    /// The attempt, random.
    pub attempt: String,
}

impl Queue {
    /// Makes the reply durable, counts the attempt that gave it, forgets the run and renews the
    /// lease. An intent that exists wins; the same one again is `Done`.
    pub fn commit_reply(
        &mut self,
        now: Millis,
        lease: &Lease,
        intent: Intent,
        evidence: Option<&Evidence>,
    ) -> Committed {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        let Some(conversation) = shard.owned(lease) else { return Committed::Stale };
        if let Some(standing) = &conversation.head.intent {
            if standing.id == intent.id {
                return Committed::Done;
            }
            return Committed::Exists(Box::new(standing.clone()));
        }
        conversation.head.run = None;
        conversation.head.intent =
            Some(Intent { sent: Vec::new(), sending: None, resent: false, ..intent });
        let mut place = conversation.place.clone();
        if let Place::Leased { until, lease_ms, .. } = &mut place {
            *until = now.saturating_add(*lease_ms);
        }
        shard.touch(now);
        shard.put(&lease.conversation, place);
        shard.dirty.insert(Key::Intent(lease.conversation.clone()));
        shard.dirty.insert(Key::Body(lease.conversation.clone()));
        shard.count_once(now, lease, evidence);
        Committed::Done
    }

    /// Marks the next segment as being sent by this attempt. `Go` only when no other attempt's mark
    /// stands, or the mark that `expected` names: a listing has refuted it.
    pub fn mark_sending(
        &mut self,
        now: Millis,
        lease: &Lease,
        post: &Attempt,
        expected: Option<&str>,
    ) -> Marked {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        let attributed = attributed(shard, &lease.conversation, now);
        let Some(intent) = owned_intent(shard, lease, &post.intent) else { return Marked::Stale };
        let next = intent.sent.len();
        if (post.segment as usize) < next {
            return Marked::Sent;
        }
        if post.segment as usize != next || post.segment >= intent.segments {
            return Marked::Stale;
        }
        if let Some(sending) = intent.sending.as_ref().filter(|s| s.attempt != post.attempt) {
            if expected != Some(sending.attempt.as_str()) {
                return Marked::Ambiguous { sending: sending.clone(), attributed, now };
            }
            intent.resent = true;
        }
        // The POST comes after this answer, so the mark carries the time of the last one.
        intent.sending = Some(Sending { attempt: post.attempt.clone(), at: now });
        shard.touch(now);
        shard.dirty.insert(Key::Intent(lease.conversation.clone()));
        Marked::Go
    }

    /// Takes this attempt's mark back, and no other: its POST provably never happened.
    pub fn unmark(&mut self, now: Millis, lease: &Lease, post: &Attempt) -> Owned {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        let Some(intent) = owned_intent(shard, lease, &post.intent) else { return Owned::Stale };
        let is_ours = intent.sent.len() == post.segment as usize
            && intent.sending.as_ref().is_some_and(|sending| sending.attempt == post.attempt);
        if is_ours {
            intent.sending = None;
            shard.touch(now);
            shard.dirty.insert(Key::Intent(lease.conversation.clone()));
        }
        Owned::Done
    }

    /// Records that a segment was sent. It is evidence and no control, so it needs no lease. False
    /// when the intent is gone or the segment is not the next one.
    pub fn mark_sent(
        &mut self,
        now: Millis,
        conversation: &ConversationId,
        intent: &str,
        segment: u32,
        sid: &str,
    ) -> bool {
        let (shard, now) = self.shard_at(conversation, now);
        let standing =
            shard.conversations.get_mut(conversation).and_then(|c| c.head.intent.as_mut());
        let Some(standing) = standing.filter(|standing| standing.id == intent) else {
            return false;
        };
        if standing.sent.len() != segment as usize || segment >= standing.segments {
            return false;
        }
        standing.sent.push(sid.to_owned());
        standing.sending = None;
        standing.resent = false;
        shard.touch(now);
        shard.dirty.insert(Key::Intent(conversation.clone()));
        attribute(shard, now, conversation, sid);
        true
    }

    /// Takes the head off, its work done, and counts a deliberate silence. The next message of the
    /// conversation becomes ready. Repeated, it is stale.
    pub fn complete(&mut self, now: Millis, lease: &Lease, evidence: Option<&Evidence>) -> Owned {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        if shard.owned(lease).is_none() {
            return Owned::Stale;
        }
        shard.touch(now);
        shard.count_once(now, lease, evidence);
        shard.pop(&lease.conversation);
        Owned::Done
    }
}

fn owned_intent<'a>(shard: &'a mut Shard, lease: &Lease, id: &str) -> Option<&'a mut Intent> {
    shard.owned(lease)?.head.intent.as_mut().filter(|intent| intent.id == id)
}

fn attributed(shard: &Shard, id: &ConversationId, now: Millis) -> Vec<String> {
    let kept = shard.attributed.get(id).into_iter().flat_map(|kept| &kept.value);
    kept.filter(|(until, _)| *until > now).map(|(_, sid)| sid.clone()).collect()
}

fn attribute(shard: &mut Shard, now: Millis, id: &ConversationId, sid: &str) {
    let until = now.saturating_add(ATTRIBUTED_MS);
    let old = shard.attributed.get(id).map(|kept| kept.until);
    let kept = shard.attributed.entry(id.clone()).or_default();
    kept.until = until;
    kept.value.retain(|(until, _)| *until > now);
    kept.value.push_back((until, sid.to_owned()));
    if kept.value.len() > ATTRIBUTED {
        kept.value.pop_front();
    }
    shard.keep_until(Memory::Attributed(id.clone()), old, until);
    shard.dirty.insert(Key::Attributed(id.clone()));
}

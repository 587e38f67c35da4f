//! The reply: durable intent, sending mark, evidence of the send, completion.
//!
//! Takes what an owner does and what Twilio reports; gives leave to post, or none. Never gives leave
//! for a segment that another attempt may have posted (I3, I9, I10, I11, I12).

use kanarie_words::Millis;
use kanarie_words::ids::{AttemptId, ConversationId, IntentId, MessageSid};

use crate::intent::{Intent, Memo, Post, Sending};
use crate::lease::{Lease, Owned};
use crate::outcome::Outcome;
use crate::queue::Queue;
use crate::shard::{Key, Memory, Place, Shard};
use crate::verb::Verb;

/// SIDs that are remembered per conversation.
const ATTRIBUTED: usize = 8;

/// How long they are remembered: longer than any listing looks back.
const ATTRIBUTED_MS: u64 = 600_000;

/// How long a conversation remembers its last reply: a day.
const MEMO_MS: u64 = 86_400_000;

/// Makes the reply durable, counts what gave it, forgets the run and renews the lease;
/// marks its first segment as being sent, if an attempt is to post it at once. An intent that exists
/// wins, and nothing of it is marked; the same one again is `Done`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReply {
    /// The owner's.
    pub lease: Lease,
    /// The reply; it starts with nothing sent and no other mark, whatever stands here.
    pub intent: Intent,
    /// What the attempt that gave it counts as.
    pub outcome: Option<Outcome>,
    /// What the conversation remembers from now on.
    pub memo: Memo,
    /// The attempt that posts the first segment after this answer.
    pub mark: Option<AttemptId>,
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The intent is durable.
    Done,
    /// The head has an intent already; that one counts.
    Exists(Box<Intent>),
    /// The lease is somebody else's.
    Stale,
}

/// Marks the next segment as being sent by this attempt. `Go` only when no other attempt's mark
/// stands, or the mark that `refuted` names: listings have refuted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkSending {
    /// The owner's.
    pub lease: Lease,
    /// What is posted.
    pub post: Post,
    /// The mark that it takes the place of.
    pub refuted: Option<AttemptId>,
}

/// The answer to a sending mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    /// Post it now.
    Go,
    /// It is sent already.
    Sent,
    /// Another attempt's mark stands: settle that one first.
    Ambiguous {
        /// That mark.
        sending: Sending,
        /// SIDs that earlier segments and replies of this conversation got, newest last.
        attributed: Vec<MessageSid>,
        /// The store's clock now.
        now: Millis,
    },
    /// The lease is somebody else's, or the intent is gone.
    Stale,
}

/// Notes that a listing did not have the post that stands marked, unless one did before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteMissed {
    /// The owner's.
    pub lease: Lease,
    /// The post whose mark stands.
    pub post: Post,
}

/// Takes this attempt's mark back, and no other: its POST provably never happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmark {
    /// The owner's.
    pub lease: Lease,
    /// The post that never happened.
    pub post: Post,
}

/// Records that a segment was sent. It is evidence and no control, so it needs no lease. A delayed
/// conversation that waited to learn it becomes ready. False when the intent is gone or the segment
/// is not the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkSent {
    /// The conversation.
    pub conversation: ConversationId,
    /// The reply.
    pub intent: IntentId,
    /// The segment, from 0.
    pub segment: u32,
    /// The SID that Twilio gave it.
    pub sid: MessageSid,
}

/// Takes the head off, its work done, and counts a deliberate silence. The next message of the
/// conversation becomes ready. Repeated, it is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complete {
    /// The owner's.
    pub lease: Lease,
    /// What a silence counts as; none after a reply, whose commit counted.
    pub outcome: Option<Outcome>,
}

impl Verb for CommitReply {
    type Answer = Committed;

    fn apply(self, queue: &mut Queue, now: Millis) -> Committed {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(conversation) = shard.owned(&self.lease) else { return Committed::Stale };
        if let Some(standing) = &conversation.progress.intent {
            if standing.id == self.intent.id {
                return Committed::Done;
            }
            return Committed::Exists(Box::new(standing.clone()));
        }
        let Intent { id, segments, body, .. } = self.intent;
        conversation.progress.run = None;
        let bytes = body.len() as u64;
        let mut intent = Intent::fresh(id, segments, body);
        let mark = self.mark.filter(|_| segments > 0);
        intent.sending = mark.map(|attempt| Sending { attempt, at: now, missed_at: None });
        conversation.progress.intent = Some(intent);
        let mut place = conversation.place.clone();
        if let Place::Leased { until, lease_ms, .. } = &mut place {
            *until = now.saturating_add(*lease_ms);
        }
        let id = &self.lease.conversation;
        shard.bodies = shard.bodies.saturating_add(bytes);
        shard.touch(now);
        shard.put(id, place);
        shard.dirty.insert(Key::Intent(id.clone()));
        shard.dirty.insert(Key::Body(id.clone()));
        memorise(shard, now, id, self.memo);
        shard.conclude(now, &self.lease, self.outcome.as_ref());
        Committed::Done
    }
}

impl Verb for MarkSending {
    type Answer = Marked;

    fn apply(self, queue: &mut Queue, now: Millis) -> Marked {
        let Self { lease, post, refuted } = self;
        let (shard, now) = queue.shard_at(&lease.conversation, now);
        let attributed = attributed(shard, &lease.conversation, now);
        let Some(intent) = owned_intent(shard, &lease, &post.intent) else { return Marked::Stale };
        let next = intent.sent.len();
        if (post.segment as usize) < next {
            return Marked::Sent;
        }
        if post.segment as usize != next || post.segment >= intent.segments {
            return Marked::Stale;
        }
        if let Some(sending) = intent.sending.as_ref().filter(|s| s.attempt != post.attempt) {
            if refuted.as_ref() != Some(&sending.attempt) {
                return Marked::Ambiguous { sending: sending.clone(), attributed, now };
            }
            intent.resent = true;
        }
        // The POST comes after this answer, so the mark carries the time of the last one.
        intent.sending = Some(Sending { attempt: post.attempt, at: now, missed_at: None });
        shard.touch(now);
        shard.dirty.insert(Key::Intent(lease.conversation));
        Marked::Go
    }
}

impl Verb for NoteMissed {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(intent) = owned_intent(shard, &self.lease, &self.post.intent) else {
            return Owned::Stale;
        };
        if let Some(sending) = marked(intent, &self.post).filter(|s| s.missed_at.is_none()) {
            sending.missed_at = Some(now);
            shard.touch(now);
            shard.dirty.insert(Key::Intent(self.lease.conversation));
        }
        Owned::Done
    }
}

impl Verb for Unmark {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(intent) = owned_intent(shard, &self.lease, &self.post.intent) else {
            return Owned::Stale;
        };
        if marked(intent, &self.post).is_some() {
            intent.sending = None;
            shard.touch(now);
            shard.dirty.insert(Key::Intent(self.lease.conversation));
        }
        Owned::Done
    }
}

impl Verb for MarkSent {
    type Answer = bool;

    fn apply(self, queue: &mut Queue, now: Millis) -> bool {
        let Self { conversation: id, intent, segment, sid } = self;
        let (shard, now) = queue.shard_at(&id, now);
        let Some(conversation) = shard.conversations.get_mut(&id) else { return false };
        let standing = conversation.progress.intent.as_mut().filter(|s| s.id == intent);
        let Some(standing) = standing else { return false };
        if standing.sent.len() != segment as usize || segment >= standing.segments {
            return false;
        }
        standing.sent.push(sid.clone());
        standing.resent = false;
        let waited = standing.sending.take().is_some();
        let waits = waited && matches!(conversation.place, Place::Delayed { .. });
        shard.touch(now);
        shard.dirty.insert(Key::Intent(id.clone()));
        attribute(shard, now, &id, sid);
        if waits {
            shard.wake(&id);
        }
        true
    }
}

impl Verb for Complete {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(conversation) = shard.owned(&self.lease) else { return Owned::Stale };
        let silent = conversation.progress.intent.is_none();
        shard.touch(now);
        if silent {
            memorise(shard, now, &self.lease.conversation, Memo::default());
        }
        shard.conclude(now, &self.lease, self.outcome.as_ref());
        if let Some((_, message, _)) = shard.pop(&self.lease.conversation) {
            queue.settle(&self.lease.conversation, &message.dedup_key);
        }
        Owned::Done
    }
}

fn owned_intent<'a>(shard: &'a mut Shard, lease: &Lease, id: &IntentId) -> Option<&'a mut Intent> {
    shard.owned(lease)?.progress.intent.as_mut().filter(|intent| intent.id == *id)
}

/// The standing mark, if it is this post's.
fn marked<'a>(intent: &'a mut Intent, post: &Post) -> Option<&'a mut Sending> {
    let is_next = intent.sent.len() == post.segment as usize;
    intent.sending.as_mut().filter(|sending| is_next && sending.attempt == post.attempt)
}

/// Remembers the reply that was just committed, or that there is nothing to remember.
fn memorise(shard: &mut Shard, now: Millis, id: &ConversationId, memo: Memo) {
    let old = shard.memos.get(id).map(|kept| kept.until);
    if memo == Memo::default() {
        let Some(until) = old else { return };
        shard.memos.remove(id);
        shard.ends.remove(&(until, Memory::Memo(id.clone())));
    } else {
        let until = now.saturating_add(MEMO_MS);
        let kept = shard.memos.entry(id.clone()).or_default();
        (kept.until, kept.value) = (until, memo);
        shard.keep_until(Memory::Memo(id.clone()), old, until);
    }
    shard.dirty.insert(Key::Memo(id.clone()));
}

fn attributed(shard: &Shard, id: &ConversationId, now: Millis) -> Vec<MessageSid> {
    let kept = shard.attributed.get(id).into_iter().flat_map(|kept| &kept.value);
    kept.filter(|(until, _)| *until > now).map(|(_, sid)| sid.clone()).collect()
}

fn attribute(shard: &mut Shard, now: Millis, id: &ConversationId, sid: MessageSid) {
    let until = now.saturating_add(ATTRIBUTED_MS);
    let old = shard.attributed.get(id).map(|kept| kept.until);
    let kept = shard.attributed.entry(id.clone()).or_default();
    kept.until = until;
    kept.value.retain(|(until, _)| *until > now);
    kept.value.push_back((until, sid));
    if kept.value.len() > ATTRIBUTED {
        kept.value.pop_front();
    }
    shard.keep_until(Memory::Attributed(id.clone()), old, until);
    shard.dirty.insert(Key::Attributed(id.clone()));
}

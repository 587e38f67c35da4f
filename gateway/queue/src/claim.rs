//! Leases: claim, extend, keep the agent's run, give back, put under suspicion.
//!
//! Takes a nonce of the caller; gives the head of the conversation whose turn it is. The head stays
//! the head until it is completed or buried, whatever happens to its worker (I4, I14, I15, I17,
//! I22).

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ConversationId, Nonce, RevisionName};

use crate::intent::{Intent, Memo};
use crate::lease::{Lease, NewLease, Owned};
use crate::queue::Queue;
use crate::shard::{Conversation, Key, Place, Shard};
use crate::verb::Verb;

/// Expired leases, due delays and due probes that one claim makes ready at most, of each.
const TAKEN_BACK: usize = 8;

/// Time between two probes of an agent whose last probe nobody brought back.
const PROBE_MS: u64 = 60_000;

/// Leases the next head of a shard for `lease_ms`. Its try is counted before any work. Repeated
/// with the nonce of a lease, it gives the same head and renews nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The shard, below 32.
    pub shard: u8,
    /// Random, new for each claim that was answered.
    pub nonce: Nonce,
    /// How long the lease lasts.
    pub lease_ms: u64,
}

/// What a claim found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// A head to work on.
    Head(Box<Head>),
    /// Nothing now; the next lease, delay or probe of the shard is due in so many milliseconds.
    Nothing {
        /// None when the shard is empty.
        next_in_ms: Option<u64>,
    },
}

/// The head of a conversation, leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The conversation.
    pub conversation: ConversationId,
    /// Proof of the lease.
    pub nonce: Nonce,
    /// UID of the channel the message was admitted for.
    pub channel: ChannelUid,
    /// The message, as admitted.
    pub envelope: String,
    /// When it was admitted.
    pub admitted_at: Millis,
    /// The store's clock now.
    pub now: Millis,
    /// Counted claims of this head, this one included.
    pub tries: u32,
    /// Leases on this head that expired.
    pub crashes: u32,
    /// Whether the last of them expired while its owner ran no other suspect.
    pub crashed_alone: bool,
    /// Whether the first attempt at this message has ended.
    pub counted: bool,
    /// Canary revision whose agent failed on this message.
    pub failed_on: Option<RevisionName>,
    /// The agent's run that may still be going on, opaque here.
    pub run: Option<String>,
    /// The reply, once it is committed.
    pub intent: Option<Intent>,
    /// What the conversation remembers of its last reply.
    pub memo: Memo,
}

/// Extends each lease to `lease_ms` from now; gives the conversations whose lease is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extend {
    /// The leases, of any shard.
    pub leases: Vec<(ConversationId, Nonce)>,
    /// From now.
    pub lease_ms: u64,
}

/// Keeps the agent's run with the head, or forgets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepRun {
    /// The owner's.
    pub lease: Lease,
    /// Opaque here.
    pub run: Option<String>,
}

/// Notes that the owner runs no other suspect: should its lease expire now, this head did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolate {
    /// The owner's.
    pub lease: Lease,
}

/// Puts the head back for `delay_ms` with all that was done for it; uncounted, the try is taken
/// back. Repeated, it is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The owner's.
    pub lease: Lease,
    /// Until it is ready again.
    pub delay_ms: u64,
    /// Whether the try counts.
    pub counted: bool,
}

/// Gives the lease back: ready at its old place, the try taken back. Repeated, it is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The owner's.
    pub lease: Lease,
}

impl Verb for Claim {
    type Answer = Claimed;

    fn apply(self, queue: &mut Queue, now: Millis) -> Claimed {
        let Some(shard) = queue.shards.get_mut(usize::from(self.shard)) else {
            return Claimed::Nothing { next_in_ms: None };
        };
        let now = shard.time(now);
        take_back_expired(shard, now);
        wake_due(shard, now);
        wake_probes(shard, now);
        if let Some(id) = shard.nonces.get(&self.nonce).cloned() {
            return head(shard, &id, self.nonce, now);
        }
        let Some((start, id)) = shard.ready.first().cloned() else {
            return Claimed::Nothing { next_in_ms: next_end(shard, now) };
        };
        let lease = NewLease { nonce: self.nonce, lease_ms: self.lease_ms };
        take(shard, &id, start, lease, now)
    }
}

impl Verb for Extend {
    type Answer = Vec<ConversationId>;

    fn apply(self, queue: &mut Queue, now: Millis) -> Vec<ConversationId> {
        let mut lost = Vec::new();
        for (id, nonce) in self.leases {
            let (shard, now) = queue.shard_at(&id, now);
            if shard.nonces.get(&nonce) == Some(&id) {
                shard.touch(now);
                let until = now.saturating_add(self.lease_ms);
                shard.put(&id, Place::Leased { nonce, until, lease_ms: self.lease_ms });
            } else {
                lost.push(id);
            }
        }
        lost
    }
}

impl Verb for KeepRun {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(conversation) = shard.owned(&self.lease) else { return Owned::Stale };
        if conversation.progress.run != self.run {
            conversation.progress.run = self.run;
            shard.touch(now);
            shard.dirty.insert(Key::Conversation(self.lease.conversation));
        }
        Owned::Done
    }
}

impl Verb for Isolate {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(conversation) = shard.owned(&self.lease) else { return Owned::Stale };
        if !conversation.progress.alone {
            conversation.progress.alone = true;
            shard.touch(now);
            shard.dirty.insert(Key::Conversation(self.lease.conversation));
        }
        Owned::Done
    }
}

impl Verb for Retry {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(conversation) = shard.owned(&self.lease) else { return Owned::Stale };
        give_back(conversation, self.counted);
        shard.touch(now);
        let until = now.saturating_add(self.delay_ms);
        shard.put(&self.lease.conversation, Place::Delayed { until, park: None });
        Owned::Done
    }
}

impl Verb for Release {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let (shard, now) = queue.shard_at(&self.lease.conversation, now);
        let Some(conversation) = shard.owned(&self.lease) else { return Owned::Stale };
        give_back(conversation, false);
        shard.touch(now);
        shard.put(&self.lease.conversation, Place::Ready);
        Owned::Done
    }
}

/// Leases a ready conversation whose turn starts at `start`. Its try is counted before any work, so
/// that a death cannot loop for ever.
pub(crate) fn take(
    shard: &mut Shard,
    id: &ConversationId,
    start: u64,
    lease: NewLease,
    now: Millis,
) -> Claimed {
    shard.touch(now);
    if start > shard.clock {
        shard.clock = start;
        shard.dirty.insert(Key::Meta);
    }
    if let Some(conversation) = shard.conversations.get_mut(id) {
        conversation.progress.tries = conversation.progress.tries.saturating_add(1);
        // Admitted under a clock that was put back since: it begins to wait now.
        if let Some(head) = conversation.messages.front_mut().filter(|of| of.admitted_at > now) {
            head.admitted_at = now;
            shard.dirty.insert(Key::Message(id.clone(), conversation.first));
        }
    }
    let NewLease { nonce, lease_ms } = lease;
    let until = now.saturating_add(lease_ms);
    shard.put(id, Place::Leased { nonce: nonce.clone(), until, lease_ms });
    head(shard, id, nonce, now)
}

/// Ends the work of an owner who lives: no crash, and no try that does not count.
pub(crate) fn give_back(conversation: &mut Conversation, counted: bool) {
    let progress = &mut conversation.progress;
    progress.alone = false;
    if !counted {
        progress.tries = progress.tries.saturating_sub(1);
    }
}

fn take_back_expired(shard: &mut Shard, now: Millis) {
    for _ in 0..TAKEN_BACK {
        let Some((_, id)) = shard.leased.first().filter(|(until, _)| *until <= now).cloned() else {
            return;
        };
        take_back(shard, now, &id);
    }
}

/// Ends the lease of an owner who did not end it: a crash of its head.
pub(crate) fn take_back(shard: &mut Shard, now: Millis, id: &ConversationId) {
    if let Some(conversation) = shard.conversations.get_mut(id) {
        let progress = &mut conversation.progress;
        progress.crashes = progress.crashes.saturating_add(1);
        progress.crashed_alone = std::mem::take(&mut progress.alone);
    }
    shard.touch(now);
    shard.put(id, Place::Ready);
}

fn wake_due(shard: &mut Shard, now: Millis) {
    for _ in 0..TAKEN_BACK {
        let Some((_, id)) = shard.delayed.first().filter(|(until, _)| *until <= now).cloned()
        else {
            return;
        };
        shard.touch(now);
        shard.wake(&id);
    }
}

/// Of all that wait for one agent a single conversation is let try.
fn wake_probes(shard: &mut Shard, now: Millis) {
    let due = shard.probes.iter().filter(|(_, at)| **at <= now);
    let mut due: Vec<_> = due.map(|(park, at)| (*at, park.clone())).collect();
    due.sort();
    for (_, park) in due.into_iter().take(TAKEN_BACK) {
        shard.touch(now);
        shard.dirty.insert(Key::Probe(park.clone()));
        let first = shard.parked.range((park.clone(), 0, ConversationId::from_bytes([0; 16]))..);
        let first = first.take(1).find(|(of, _, _)| *of == park).map(|(_, _, id)| id.clone());
        let Some(id) = first else {
            shard.probes.remove(&park);
            continue;
        };
        shard.probes.insert(park, now.saturating_add(PROBE_MS));
        shard.wake(&id);
    }
}

fn next_end(shard: &Shard, now: Millis) -> Option<u64> {
    let ends = [shard.leased.first(), shard.delayed.first()].into_iter().flatten();
    let ends = ends.map(|(until, _)| *until).chain(shard.probes.values().copied());
    ends.map(|until| until.saturating_sub(now)).min()
}

fn head(shard: &Shard, id: &ConversationId, nonce: Nonce, now: Millis) -> Claimed {
    let found =
        shard.conversations.get(id).and_then(|record| Some((record, record.messages.front()?)));
    let Some((conversation, message)) = found else {
        return Claimed::Nothing { next_in_ms: None };
    };
    let progress = &conversation.progress;
    let memo = shard.memos.get(id).filter(|kept| kept.until > now);
    Claimed::Head(Box::new(Head {
        conversation: id.clone(),
        nonce,
        channel: conversation.channel.clone(),
        envelope: message.envelope.clone(),
        admitted_at: message.admitted_at,
        now,
        tries: progress.tries,
        crashes: progress.crashes,
        crashed_alone: progress.crashed_alone,
        counted: progress.counted,
        failed_on: progress.failed_on.clone(),
        run: progress.run.clone(),
        intent: progress.intent.clone(),
        memo: memo.map(|kept| kept.value.clone()).unwrap_or_default(),
    }))
}

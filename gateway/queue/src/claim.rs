//! Leases: claim, extend, keep the agent's run, give back.
//!
//! Takes a nonce of the caller; gives the head of the conversation whose turn it is. The head stays
//! the head until it is completed or buried, whatever happens to its worker (I4, I14, I15, I17,
//! I22).

use crate::queue::Queue;
use crate::rows::Key;
use crate::shard::{Conversation, Place, Shard};
use crate::types::{Claim, Claimed, ConversationId, Lease, Millis, Nonce, Owned};

/// Expired leases, and due delays, that one claim makes ready at most.
const TAKEN_BACK: usize = 8;

impl Queue {
    /// Leases the next head of a shard for `lease_ms`. Its try is counted before any work. Repeated
    /// with the nonce of a lease, it gives the same head and renews nothing.
    pub fn claim(&mut self, now: Millis, shard: u8, nonce: Nonce, lease_ms: u64) -> Claimed {
        let Some(shard) = self.shards.get_mut(usize::from(shard)) else {
            return Claimed::Nothing { next_in_ms: None };
        };
        let now = shard.time(now);
        take_back_expired(shard, now);
        wake_due(shard, now);
        if let Some(id) = shard.nonces.get(&nonce).cloned() {
            return head(shard, &id, nonce, now);
        }
        let Some((start, id)) = shard.ready.first().cloned() else {
            let ends = [shard.leased.first(), shard.delayed.first()];
            let next = ends.into_iter().flatten().map(|(until, _)| until.saturating_sub(now)).min();
            return Claimed::Nothing { next_in_ms: next };
        };
        shard.touch(now);
        if start > shard.clock {
            shard.clock = start;
            shard.dirty.insert(Key::Meta);
        }
        if let Some(conversation) = shard.conversations.get_mut(&id) {
            conversation.head.tries = conversation.head.tries.saturating_add(1);
        }
        let until = now.saturating_add(lease_ms);
        shard.put(&id, Place::Leased { nonce: nonce.clone(), until, lease_ms });
        head(shard, &id, nonce, now)
    }

    /// Extends each lease to `lease_ms` from now; gives the conversations whose lease is lost.
    pub fn extend(
        &mut self,
        now: Millis,
        leases: &[(ConversationId, Nonce)],
        lease_ms: u64,
    ) -> Vec<ConversationId> {
        let mut lost = Vec::new();
        for (id, nonce) in leases {
            let (shard, now) = self.shard_at(id, now);
            if shard.nonces.get(nonce) == Some(id) {
                shard.touch(now);
                let until = now.saturating_add(lease_ms);
                shard.put(id, Place::Leased { nonce: nonce.clone(), until, lease_ms });
            } else {
                lost.push(id.clone());
            }
        }
        lost
    }

    /// Keeps the agent's run with the head, or forgets it.
    pub fn keep_run(&mut self, now: Millis, lease: &Lease, run: Option<String>) -> Owned {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        let Some(conversation) = shard.owned(lease) else { return Owned::Stale };
        if conversation.head.run != run {
            conversation.head.run = run;
            shard.touch(now);
            shard.dirty.insert(Key::Conversation(lease.conversation.clone()));
        }
        Owned::Done
    }

    /// Puts the head back for `delay_ms` with all that was done for it; uncounted, the try is taken
    /// back. Repeated, it is stale.
    pub fn retry(&mut self, now: Millis, lease: &Lease, delay_ms: u64, counted: bool) -> Owned {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        let Some(conversation) = shard.owned(lease) else { return Owned::Stale };
        if !counted {
            uncount_try(conversation);
        }
        shard.touch(now);
        shard.put(&lease.conversation, Place::Delayed { until: now.saturating_add(delay_ms) });
        Owned::Done
    }

    /// Gives the lease back: ready at its old place, the try taken back. Repeated, it is stale.
    pub fn release(&mut self, now: Millis, lease: &Lease) -> Owned {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        let Some(conversation) = shard.owned(lease) else { return Owned::Stale };
        uncount_try(conversation);
        shard.touch(now);
        shard.put(&lease.conversation, Place::Ready);
        Owned::Done
    }
}

fn uncount_try(conversation: &mut Conversation) {
    conversation.head.tries = conversation.head.tries.saturating_sub(1);
}

fn take_back_expired(shard: &mut Shard, now: Millis) {
    for _ in 0..TAKEN_BACK {
        let Some((_, id)) = shard.leased.first().filter(|(until, _)| *until <= now).cloned() else {
            return;
        };
        if let Some(conversation) = shard.conversations.get_mut(&id) {
            conversation.head.crashes = conversation.head.crashes.saturating_add(1);
        }
        shard.touch(now);
        shard.put(&id, Place::Ready);
    }
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

fn head(shard: &Shard, id: &ConversationId, nonce: Nonce, now: Millis) -> Claimed {
    let found =
        shard.conversations.get(id).and_then(|record| Some((record, record.messages.front()?)));
    let Some((conversation, message)) = found else {
        return Claimed::Nothing { next_in_ms: None };
    };
    let head = &conversation.head;
    Claimed::Head(Box::new(Claim {
        conversation: id.clone(),
        nonce,
        channel: conversation.channel.clone(),
        envelope: message.envelope.clone(),
        admitted_at: message.admitted_at,
        now,
        tries: head.tries,
        crashes: head.crashes,
        counted: head.counted,
        failed_on: head.failed_on.clone(),
        run: head.run.clone(),
        intent: head.intent.clone(),
    }))
}

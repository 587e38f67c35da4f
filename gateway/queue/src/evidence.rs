//! Evidence: how first attempts ended, counted once per message, and whose messages they were.
//!
//! Takes an outcome with the lease of its message; gives sums by channel. Never infers an outcome
//! from a verb: what is not given is not counted. Customers decide and messages describe: beside the
//! messages each serving counts its distinct conversations, those that failed for the first time under
//! it, and those of them that stable answered after that.

use std::collections::BTreeSet;

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, RevisionName};
use kanarie_words::track::Track;

use crate::lease::{Lease, Owned};
use crate::outcome::{Counted, Counters, CountsRead, Evidence, Outcome, SERVINGS};
use crate::queue::Queue;
use crate::shard::{Key, Memory, Shard, Standing};
use crate::verb::Verb;

/// How long the counters of a channel live after its last count: 90 days.
const EVIDENCE_MS: u64 = 90 * 86_400_000;

/// How long the customers of a serving are told apart after its last count: 7 days.
const CUSTOMERS_MS: u64 = 7 * 86_400_000;

/// Records that the first attempt ended, how it counts, and, for a failed canary, its revision.
/// Repeated, or on a message whose first attempt has ended before, it counts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndAttempt {
    /// The owner's.
    pub lease: Lease,
    /// How it counts; none without a canary: then it is only remembered that it ended.
    pub evidence: Option<Evidence>,
    /// The canary's revision, if its agent failed.
    pub failed_on: Option<RevisionName>,
}

/// Counted outcomes of each named channel over all shards, in the order of the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadCounts {
    /// UIDs of the channels.
    pub channels: Vec<ChannelUid>,
}

impl Verb for EndAttempt {
    type Answer = Owned;

    fn apply(self, queue: &mut Queue, now: Millis) -> Owned {
        let Self { lease, evidence, failed_on } = self;
        let (shard, now) = queue.shard_at(&lease.conversation, now);
        let Some(conversation) = shard.owned(&lease) else { return Owned::Stale };
        if failed_on.is_some() && conversation.progress.failed_on != failed_on {
            conversation.progress.failed_on = failed_on;
            shard.dirty.insert(Key::Conversation(lease.conversation.clone()));
            shard.touch(now);
        }
        if !shard.count_once(now, &lease, evidence.as_ref()) {
            shard.end_first(now, &lease);
        }
        Owned::Done
    }
}

impl Verb for ReadCounts {
    type Answer = CountsRead;

    fn apply(self, queue: &mut Queue, _: Millis) -> CountsRead {
        let counts = self.channels.into_iter().map(|channel| {
            let mut sum = Counters::default();
            let shards = queue.shards.iter().filter_map(|shard| shard.evidence.get(&channel));
            shards.for_each(|kept| sum.add(&kept.value));
            sum.counts(channel)
        });
        let counts = counts.collect();
        CountsRead {
            epochs: queue.shards.iter().map(|shard| shard.epoch.clone()).collect(),
            counts,
        }
    }
}

impl Shard {
    /// Counts what the verb that ends a message has to count.
    pub(crate) fn conclude(&mut self, now: Millis, lease: &Lease, outcome: Option<&Outcome>) {
        match outcome {
            Some(Outcome::First(evidence)) => {
                self.count_once(now, lease, Some(evidence));
            }
            Some(Outcome::Rescued { serving }) => self.rescue(now, lease, *serving),
            None => {}
        }
    }

    /// Counts the outcome for the channel of the lease, unless the head's first attempt has ended
    /// before. False when nothing was given to count.
    fn count_once(&mut self, now: Millis, lease: &Lease, evidence: Option<&Evidence>) -> bool {
        let Some(evidence) = evidence else { return false };
        if self.end_first(now, lease) {
            self.count(now, lease, evidence);
        }
        true
    }

    /// Notes that the first attempt has ended; false when it had before.
    fn end_first(&mut self, now: Millis, lease: &Lease) -> bool {
        let Some(conversation) = self.owned(lease) else { return false };
        if std::mem::replace(&mut conversation.progress.counted, true) {
            return false;
        }
        self.touch(now);
        self.dirty.insert(Key::Conversation(lease.conversation.clone()));
        true
    }

    /// Counts the customer as rescued, if this serving's canary is known to have failed him and nobody
    /// has rescued him before. Of no message it is asked twice: the customer's own row sees to that.
    fn rescue(&mut self, now: Millis, lease: &Lease, serving: u64) {
        let (channel, customer) =
            (&lease.channel, (serving, Track::Canary, lease.conversation.clone()));
        let kept = self.customers.get_mut(channel).filter(|kept| kept.until > now);
        let standing = kept.and_then(|kept| kept.value.get_mut(&customer));
        let Some(standing) = standing.filter(|standing| **standing == Standing::Failed) else {
            return;
        };
        *standing = Standing::Rescued;
        self.dirty.insert(Key::Customer(channel.clone(), customer));
        let Some(kept) = self.evidence.get_mut(channel) else { return };
        *kept.value.0.entry((serving, Track::Canary, Counted::Rescued)).or_default() += 1;
        self.dirty.insert(Key::Evidence(channel.clone()));
    }

    fn count(&mut self, now: Millis, lease: &Lease, evidence: &Evidence) {
        let Evidence { serving, track, class } = *evidence;
        let kept = self.evidence.entry(lease.channel.clone()).or_default();
        let oldest = oldest(&kept.value, serving);
        if serving < oldest {
            return;
        }
        kept.value.0.retain(|(serving, _, _), _| *serving >= oldest);
        self.drop_customers(&lease.channel, oldest);
        let (is_new, fails_first) = self.meet(now, lease, evidence);
        let until = now.saturating_add(EVIDENCE_MS);
        let kept = self.evidence.entry(lease.channel.clone()).or_default();
        let old = std::mem::replace(&mut kept.until, until);
        let mut add = |counted| *kept.value.0.entry((serving, track, counted)).or_default() += 1;
        add(Counted::Messages(class));
        if is_new {
            add(Counted::Asked);
        }
        if fails_first {
            add(Counted::Failed);
        }
        self.keep_until(Memory::Evidence(lease.channel.clone()), Some(old), until);
        self.dirty.insert(Key::Evidence(lease.channel.clone()));
    }

    /// Whether this serving meets the customer for the first time, and whether it fails him for the
    /// first time.
    fn meet(&mut self, now: Millis, lease: &Lease, evidence: &Evidence) -> (bool, bool) {
        let channel = &lease.channel;
        if self.customers.get(channel).is_some_and(|kept| kept.until <= now) {
            self.drop_customers(channel, u64::MAX);
        }
        let until = now.saturating_add(CUSTOMERS_MS);
        let kept = self.customers.entry(channel.clone()).or_default();
        let old = std::mem::replace(&mut kept.until, until);
        let fails = evidence.class.is_failure();
        let standing = if fails { Standing::Failed } else { Standing::Answered };
        let customer = (evidence.serving, evidence.track, lease.conversation.clone());
        let before = kept.value.get(&customer).copied();
        kept.value.insert(customer.clone(), before.map_or(standing, |before| before.max(standing)));
        self.keep_until(Memory::Customers(channel.clone()), Some(old), until);
        self.dirty.insert(Key::Customer(channel.clone(), customer));
        (before.is_none(), fails && before < Some(Standing::Failed))
    }

    /// Forgets the customers of servings before `oldest`.
    pub(crate) fn drop_customers(&mut self, channel: &ChannelUid, oldest: u64) {
        let Some(kept) = self.customers.get_mut(channel) else { return };
        let (dirty, until) = (&mut self.dirty, kept.until);
        kept.value.retain(|customer, _| {
            let stays = customer.0 >= oldest;
            if !stays {
                dirty.insert(Key::Customer(channel.clone(), customer.clone()));
            }
            stays
        });
        if kept.value.is_empty() {
            self.customers.remove(channel);
            self.ends.remove(&(until, Memory::Customers(channel.clone())));
        }
    }
}

/// The oldest serving that stays readable beside this one.
fn oldest(counters: &Counters, serving: u64) -> u64 {
    let mut servings: BTreeSet<u64> = counters.0.keys().map(|(serving, _, _)| *serving).collect();
    servings.insert(serving);
    servings.into_iter().rev().take(SERVINGS).min().unwrap_or(serving)
}

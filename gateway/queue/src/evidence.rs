//! Evidence: how first attempts ended, counted once per message.
//!
//! Takes an outcome with the lease of its message; gives sums by channel. Never infers an outcome
//! from a verb: what is not given is not counted.

use std::collections::BTreeMap;

use crate::queue::Queue;
use crate::rows::Key;
use crate::shard::{Memory, Shard};
use crate::types::{Count, Evidence, Lease, Millis, Owned};

/// How long the evidence of a channel lives after its last count: 90 days.
const EVIDENCE_MS: u64 = 90 * 86_400_000;

impl Queue {
    /// Records how the first attempt ended and, for a failed canary, its revision. Repeated, it
    /// counts nothing more.
    pub fn end_attempt(
        &mut self,
        now: Millis,
        lease: &Lease,
        evidence: &Evidence,
        failed_on: Option<String>,
    ) -> Owned {
        let (shard, now) = self.shard_at(&lease.conversation, now);
        let Some(conversation) = shard.owned(lease) else { return Owned::Stale };
        if failed_on.is_some() && conversation.head.failed_on != failed_on {
            conversation.head.failed_on = failed_on;
            shard.dirty.insert(Key::Conversation(lease.conversation.clone()));
            shard.touch(now);
        }
        shard.count_once(now, lease, Some(evidence));
        Owned::Done
    }

    /// Counted outcomes of each named channel over all shards, in the order of the names.
    pub fn counts(&self, channels: &[String]) -> Vec<(String, Vec<Count>)> {
        channels.iter().map(|channel| (channel.clone(), self.counts_of(channel))).collect()
    }

    fn counts_of(&self, channel: &str) -> Vec<Count> {
        let mut sums: BTreeMap<&Evidence, u64> = BTreeMap::new();
        for kept in self.shards.iter().filter_map(|shard| shard.evidence.get(channel)) {
            for (evidence, messages) in &kept.value {
                *sums.entry(evidence).or_default() += messages;
            }
        }
        let counts = sums.into_iter();
        counts.map(|(evidence, messages)| Count { evidence: evidence.clone(), messages }).collect()
    }
}

impl Shard {
    /// Counts the outcome for the channel of the lease, unless this head has counted.
    pub(crate) fn count_once(&mut self, now: Millis, lease: &Lease, evidence: Option<&Evidence>) {
        let (Some(evidence), Some(conversation)) = (evidence, self.owned(lease)) else { return };
        if std::mem::replace(&mut conversation.head.counted, true) {
            return;
        }
        self.touch(now);
        self.dirty.insert(Key::Conversation(lease.conversation.clone()));
        let old = self.evidence.get(&lease.channel).map(|kept| kept.until);
        let until = now.saturating_add(EVIDENCE_MS);
        let kept = self.evidence.entry(lease.channel.clone()).or_default();
        let newest = kept.value.last_key_value().map(|(newest, _)| newest.serving);
        if newest.is_some_and(|newest| evidence.serving > newest) {
            // A step starts from zero; what older steps counted is of no more use.
            kept.value.clear();
        }
        *kept.value.entry(evidence.clone()).or_default() += 1;
        kept.until = until;
        self.keep_until(Memory::Evidence(lease.channel.clone()), old, until);
        self.dirty.insert(Key::Evidence(lease.channel.clone()));
    }
}

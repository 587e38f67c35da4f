//! An account of what counts: messages and customers, from the outcomes that were told.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_queue::lease::Lease;
use kanarie_queue::outcome::Evidence;
use kanarie_queue::queue::Queue;
use kanarie_words::ids::{ChannelUid, ConversationId};
use kanarie_words::track::Track;

use crate::words::Words as _;

/// What counted, by channel and shard.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<(ChannelUid, u8), BTreeMap<(u64, Track), Counted>>);

/// Messages that counted for one serving and track, and their customers.
#[derive(Default)]
struct Counted {
    messages: u64,
    customers: BTreeMap<ConversationId, Met>,
}

/// Whether a customer was failed, and rescued after that.
#[derive(Default)]
struct Met {
    failed: bool,
    rescued: bool,
}

impl Tally {
    /// The first attempt at a message ended so.
    pub(crate) fn count(&mut self, lease: &Lease, evidence: &Evidence) {
        let of = (lease.channel.clone(), lease.conversation.shard());
        let counted = self.0.entry(of).or_default();
        let mut servings: BTreeSet<u64> = counted.keys().map(|(serving, _)| *serving).collect();
        servings.insert(evidence.serving);
        let oldest = servings.into_iter().rev().take(3).min().unwrap_or(0);
        if evidence.serving >= oldest {
            counted.retain(|(serving, _), _| *serving >= oldest);
            let counted = counted.entry((evidence.serving, evidence.track)).or_default();
            counted.messages += 1;
            let id = lease.conversation.clone();
            counted.customers.entry(id).or_default().failed |= evidence.class.is_failure();
        }
    }

    /// Only who was failed is rescued, and he is so once.
    pub(crate) fn rescue(&mut self, lease: &Lease, serving: u64) {
        let of = (lease.channel.clone(), lease.conversation.shard());
        let counted = self.0.entry(of).or_default().get_mut(&(serving, Track::Canary));
        let met = counted.and_then(|counted| counted.customers.get_mut(&lease.conversation));
        met.into_iter().for_each(|met| met.rescued |= met.failed);
    }

    /// Messages and customers of each channel, summed over the shards.
    pub(crate) fn check(&self, queue: &mut Queue) {
        let mut expected: BTreeMap<ChannelUid, BTreeMap<(u64, Track), [u64; 4]>> = BTreeMap::new();
        for ((of, _), counted) in &self.0 {
            for (serving, counted) in counted {
                let sum = expected.entry(of.clone()).or_default().entry(*serving).or_default();
                sum[0] += counted.messages;
                sum[1] += counted.customers.len() as u64;
                sum[2] += counted.customers.values().filter(|met| met.failed).count() as u64;
                sum[3] += counted.customers.values().filter(|met| met.rescued).count() as u64;
            }
        }
        for (of, expected) in expected {
            let counts = queue.counts(of.as_str());
            let mut found: BTreeMap<(u64, Track), [u64; 4]> = BTreeMap::new();
            for count in counts.messages {
                let of = (count.evidence.serving, count.evidence.track);
                found.entry(of).or_default()[0] += count.messages;
            }
            for customers in counts.customers {
                let sum = found.entry((customers.serving, customers.track)).or_default();
                (sum[1], sum[2]) = (customers.conversations, customers.failed);
                sum[3] = customers.rescued;
            }
            assert_eq!(found, expected, "evidence of {of}");
        }
    }
}

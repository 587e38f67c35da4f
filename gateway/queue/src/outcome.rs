//! Outcomes of first attempts and of rescues, and what was counted of them.
//!
//! Takes an outcome, gives the field that it is counted under, and sums of such fields by channel.
//! A field that it cannot read is none. Never decides what an attempt was worth.

use std::collections::BTreeMap;

use kanarie_words::class::Class;
use kanarie_words::ids::{ChannelUid, Epoch};
use kanarie_words::track::Track;
use serde::{Deserialize, Serialize};

/// Servings of a channel that stay readable: a newer one drops what is older than these.
pub const SERVINGS: usize = 3;

/// One outcome to count, once per message.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Evidence {
    /// The route's `serving` when the message was claimed.
    pub serving: u64,
    /// The track that was asked.
    pub track: Track,
    /// How the attempt ended.
    pub class: Class,
}

/// What the verb that ends a message has to count, beside what its first attempt did before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first attempt, which has ended only now.
    First(Evidence),
    /// Stable answered, with a reply or a deliberate silence, after the canary had failed.
    Rescued {
        /// The route's `serving` when the message was claimed.
        serving: u64,
    },
}

/// Counted outcomes of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What was counted.
    pub evidence: Evidence,
    /// How many messages.
    pub messages: u64,
}

/// Customers of one serving and track. The hash tosses one coin a customer, so tests compare these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customers {
    /// The step they were counted for.
    pub serving: u64,
    /// The track that was asked.
    pub track: Track,
    /// Distinct conversations.
    pub conversations: u64,
    /// Those of them that failed at least once.
    pub failed: u64,
    /// Those of the failed whom stable answered at least once after that; of the canary only.
    pub rescued: u64,
}

/// Everything that was counted for one channel, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// UID of the channel.
    pub channel: ChannelUid,
    /// Messages by class.
    pub messages: Vec<Count>,
    /// Customers by track.
    pub customers: Vec<Customers>,
}

/// What was counted, and the epochs of all shards: another one means that counts were lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountsRead {
    /// In the order of the shards.
    pub epochs: Vec<Option<Epoch>>,
    /// In the order that was asked for.
    pub counts: Vec<Counts>,
}

/// Counters of one channel, as both stores keep them in a row: `<serving>:<track>:<class>` for
/// messages, `<serving>:<track>:asked`, `…:failed` and `…:rescued` for customers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(pub BTreeMap<(u64, Track, Counted), u64>);

/// What one counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// Messages whose first attempt ended so.
    Messages(Class),
    /// Distinct conversations.
    Asked,
    /// Distinct conversations that failed.
    Failed,
    /// Distinct conversations that failed and were rescued.
    Rescued,
}

impl Counters {
    /// Parses a field of the row; anything else is none.
    pub fn parse(field: &str) -> Option<(u64, Track, Counted)> {
        let mut parts = field.splitn(3, ':');
        let (serving, track) = (parts.next()?.parse().ok()?, Track::parse(parts.next()?)?);
        let counted = match parts.next()? {
            "asked" => Counted::Asked,
            "failed" => Counted::Failed,
            "rescued" => Counted::Rescued,
            class => Counted::Messages(Class::parse(class)?),
        };
        Some((serving, track, counted))
    }

    /// The field of a counter.
    pub fn field((serving, track, counted): &(u64, Track, Counted)) -> String {
        let word = match counted {
            Counted::Messages(class) => class.as_str(),
            Counted::Asked => "asked",
            Counted::Failed => "failed",
            Counted::Rescued => "rescued",
        };
        format!("{serving}:{}:{word}", track.as_str())
    }

    /// Adds another shard's counters.
    pub fn add(&mut self, other: &Self) {
        for (counter, count) in &other.0 {
            *self.0.entry(*counter).or_default() += count;
        }
    }

    /// The counters as a channel's counts.
    pub fn counts(&self, channel: ChannelUid) -> Counts {
        let mut counts = Counts { channel, messages: Vec::new(), customers: Vec::new() };
        for (&(serving, track, counted), &count) in &self.0 {
            if let Counted::Messages(class) = counted {
                let evidence = Evidence { serving, track, class };
                counts.messages.push(Count { evidence, messages: count });
                continue;
            }
            let last = counts.customers.last();
            if last.is_none_or(|last| (last.serving, last.track) != (serving, track)) {
                let nobody = Customers { serving, track, conversations: 0, failed: 0, rescued: 0 };
                counts.customers.push(nobody);
            }
            let Some(customers) = counts.customers.last_mut() else { continue };
            match counted {
                Counted::Asked => customers.conversations += count,
                Counted::Rescued => customers.rescued += count,
                _ => customers.failed += count,
            }
        }
        counts
    }
}

impl Outcome {
    /// Whether it is worth telling at once: everything but a success of a first attempt.
    pub fn is_urgent(&self) -> bool {
        match self {
            Self::First(evidence) => evidence.class.is_failure(),
            Self::Rescued { .. } => true,
        }
    }

    /// The field that it is counted under.
    pub fn field(&self) -> String {
        match self {
            Self::First(evidence) => evidence.field(),
            Self::Rescued { serving } => {
                Counters::field(&(*serving, Track::Canary, Counted::Rescued))
            }
        }
    }
}

impl Evidence {
    /// The field that counts it: `<serving>:<track>:<class>`.
    pub fn field(&self) -> String {
        Counters::field(&(self.serving, self.track, Counted::Messages(self.class)))
    }

    /// Parses that field.
    pub fn parse(field: &str) -> Option<Self> {
        match Counters::parse(field)? {
            (serving, track, Counted::Messages(class)) => Some(Self { serving, track, class }),
            _ => None,
        }
    }
}

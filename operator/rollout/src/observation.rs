//! What one reconcile saw: the wishes of the spec and, if a gateway answered, the facts of the
//! store. Plain values; two equal observations lead to the same decision.

use std::collections::BTreeSet;

use kanarie_words::ids::{EpochDigest, ReplicaName, RevisionName};
use kanarie_words::weight::Weight;
use serde::{Deserialize, Serialize};

use crate::moment::StoreTime;
use crate::order::Command;
use crate::policy::Policy;
use crate::state::{Stage, State, Timer};
use crate::tally::ServingTally;

/// Everything that one reconcile saw.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Generation of the spec, which grows with each change of it.
    #[serde(default)]
    pub generation: u64,
    /// The revision that the spec asks for; none while the spec cannot be carried out. Then nothing
    /// advances, and a canary is judged on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<RevisionName>,
    /// The live policy; a rollout that runs obeys its own copy.
    pub policy: Policy,
    /// Who moves the weight.
    pub mode: Mode,
    /// Whether `rollout.state` is Paused.
    pub paused: bool,
    /// Seconds after a promotion in which the former revision is put back at a word.
    #[serde(default)]
    pub rollback_window_seconds: u32,
    /// The command that stands in the annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// What the store said through a gateway; none when no gateway answered in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreAnswer>,
}

impl Observation {
    /// The same without what the spec says: weight and pause are as they stand in the state.
    pub fn without_spec(&self, state: &State) -> Self {
        let stage = state.rolling().map(|rolling| &rolling.stage);
        Self {
            desired: None,
            mode: match stage {
                Some(Stage::Manual { weight }) => Mode::Manual(*weight),
                Some(Stage::Step { .. } | Stage::Failed { .. }) | None => Mode::Automatic,
            },
            paused: matches!(stage, Some(Stage::Step { timer: Timer::Stopped { .. }, .. })),
            ..self.clone()
        }
    }
}

/// Who moves the weight.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// The operator, step by step.
    Automatic,
    /// A person, by this weight.
    Manual(Weight),
}

/// One answer of the store: everything in it is of the same moment.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct StoreAnswer {
    /// Digest of the epochs of all shards; another one means that counts were lost.
    pub epoch: EpochDigest,
    /// The store's clock.
    pub at: StoreTime,
    /// Every replica with a young heartbeat, with or without a route of this channel.
    pub replicas: Vec<LiveReplica>,
    /// Counts of this channel; a `serving` without an entry has none.
    pub evidence: Vec<ServingTally>,
}

/// A live replica.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct LiveReplica {
    /// Its name.
    pub name: ReplicaName,
    /// `serving` of the route that it obeys for this channel, if it holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<u64>,
}

impl StoreAnswer {
    /// Live replicas that acknowledge exactly `serving`.
    pub fn acknowledged(&self, serving: u64) -> usize {
        self.replicas.iter().filter(|replica| replica.serving == Some(serving)).count()
    }

    /// Names of the live replicas that do not.
    pub fn lacking(&self, serving: u64) -> Vec<ReplicaName> {
        let lacking = self.replicas.iter().filter(|replica| replica.serving != Some(serving));
        lacking.map(|replica| replica.name.clone()).collect()
    }

    /// Whether there is a live replica and every one acknowledges exactly `serving`.
    pub fn in_force(&self, serving: u64) -> bool {
        !self.replicas.is_empty() && self.acknowledged(serving) == self.replicas.len()
    }

    /// Counts of `serving`.
    pub fn evidence_of(&self, serving: u64) -> ServingTally {
        self.evidence.iter().filter(|evidence| evidence.serving == serving).fold(
            ServingTally { serving, ..ServingTally::default() },
            |sum, one| ServingTally {
                serving,
                stable: sum.stable.plus(one.stable),
                canary: sum.canary.plus(one.canary),
            },
        )
    }

    /// Counts of every serving that has some, one entry each.
    pub fn by_serving(&self) -> Vec<ServingTally> {
        let servings: BTreeSet<u64> = self.evidence.iter().map(|one| one.serving).collect();
        servings.into_iter().map(|serving| self.evidence_of(serving)).collect()
    }
}

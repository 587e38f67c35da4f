//! What one reconcile saw: the wishes of the spec and, if a gateway answered, the facts of the
//! store. Plain values; two equal observations lead to the same decision.

use serde::{Deserialize, Serialize};

use crate::policy::Policy;
use crate::state::Revision;
use crate::timestamp::Timestamp;
use crate::weight::Weight;

/// Longest command id and verb that are looked at, in characters.
pub const MAX_COMMAND_CHARS: usize = 64;

/// Everything that one reconcile saw.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The revision that the spec asks for.
    pub desired: Revision,
    /// The live policy; a rollout that runs obeys its own copy.
    pub policy: Policy,
    /// Who moves the weight.
    pub mode: Mode,
    /// Whether `rollout.state` is Paused.
    pub paused: bool,
    /// The command that stands in the annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// What the store said through a gateway; none when no gateway answered in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
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

/// A command and the id that makes it one command.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// Tells this command from an earlier one with the same verb.
    pub id: String,
    /// `retry`, `abort` or `promote-full`; any other is refused.
    pub verb: String,
}

impl Command {
    /// Takes a command as it stands in the annotations, cut to a length that the state can keep.
    pub fn new(id: &str, verb: &str) -> Self {
        let cut = |text: &str| text.chars().take(MAX_COMMAND_CHARS).collect();
        Self { id: cut(id), verb: cut(verb) }
    }
}

/// One answer of the store: everything in it is of the same moment.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// Digest of the epochs of all shards; another one means that counts were lost.
    pub epoch: String,
    /// The store's clock.
    pub at: Timestamp,
    /// Every replica with a young heartbeat, with or without a route of this channel.
    pub replicas: Vec<Replica>,
    /// Counts of this channel; a `serving` without an entry has none.
    pub evidence: Vec<Evidence>,
}

/// A live replica.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its name.
    pub name: String,
    /// `serving` of the route that it obeys for this channel, if it holds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<u64>,
}

/// What was counted for one `serving`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The `serving` of the routes under which the messages were claimed.
    pub serving: u64,
    /// Messages asked of stable.
    pub stable: Tally,
    /// Messages asked of the canary.
    pub canary: Tally,
}

/// Judged messages by the way their first attempt ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    /// With an answer, or with a deliberate silence.
    pub success: u64,
    /// Not before the agent's deadline.
    pub timeout: u64,
    /// With a refused connection or an HTTP error.
    pub http: u64,
    /// With something that is no answer.
    pub invalid: u64,
    /// Without an answer.
    pub no_answer: u64,
    /// With an answer over the latency limit.
    pub slow: u64,
    /// Not at all: the agent could not be asked.
    pub unavailable: u64,
}

/// Judged messages and the failed ones among them: all that is remembered of finished steps, and
/// written as a pair, since there may be a hundred of them.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sum(pub u64, pub u64);

impl Sum {
    /// All judged messages.
    pub fn messages(self) -> u64 {
        self.0
    }

    /// Those that failed.
    pub fn failures(self) -> u64 {
        self.1
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0), self.1.saturating_add(other.1))
    }
}

impl Tally {
    /// Without the classes of failure.
    pub fn sum(self) -> Sum {
        Sum(self.messages(), self.failures())
    }

    /// All judged messages.
    pub fn messages(self) -> u64 {
        self.success.saturating_add(self.failures())
    }

    /// Those that failed, of every class.
    pub fn failures(self) -> u64 {
        [self.timeout, self.http, self.invalid, self.no_answer, self.slow, self.unavailable]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Both together, class by class.
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// What came on top of `earlier`, class by class, never below zero.
    pub fn minus(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            success: f(self.success, other.success),
            timeout: f(self.timeout, other.timeout),
            http: f(self.http, other.http),
            invalid: f(self.invalid, other.invalid),
            no_answer: f(self.no_answer, other.no_answer),
            slow: f(self.slow, other.slow),
            unavailable: f(self.unavailable, other.unavailable),
        }
    }
}

impl Store {
    /// Live replicas that acknowledge exactly `serving`.
    pub fn acknowledged(&self, serving: u64) -> usize {
        self.replicas.iter().filter(|replica| replica.serving == Some(serving)).count()
    }

    /// Whether there is a live replica and every one acknowledges exactly `serving`.
    pub fn in_force(&self, serving: u64) -> bool {
        !self.replicas.is_empty() && self.acknowledged(serving) == self.replicas.len()
    }

    /// Counts of `serving`.
    pub fn evidence_of(&self, serving: u64) -> Evidence {
        self.evidence.iter().filter(|evidence| evidence.serving == serving).fold(
            Evidence { serving, ..Evidence::default() },
            |sum, one| Evidence {
                serving,
                stable: sum.stable.plus(one.stable),
                canary: sum.canary.plus(one.canary),
            },
        )
    }
}

//! Counts: of one serving by track and class, and of servings that are over. Plain numbers that
//! never overflow and never go below zero; what they mean is for `analysis` to say.

use kanarie_words::weight::Weight;
use serde::{Deserialize, Serialize};

/// What was counted for one `serving`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct ServingTally {
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

/// Counts of the servings of a rollout that had one weight and are over.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct FinishedStep {
    /// Their weight.
    pub weight: Weight,
    /// Messages asked of stable.
    pub stable: Sum,
    /// Messages asked of the canary.
    pub canary: Sum,
}

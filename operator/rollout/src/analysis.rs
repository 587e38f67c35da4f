//! The judge: counts in, verdict out. Replace `judge` and nothing else to judge differently.
//!
//! Takes the snapshotted policy, the counts of finished steps and those of the present one. Needs
//! no clock and no memory. Never decides what follows from a verdict.

use std::fmt;

use crate::observation::{Evidence, Tally};
use crate::policy::Policy;
use crate::state::Finished;
use crate::weight::Weight;

/// Everything that is judged of one rollout.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The policy as it was when the rollout started.
    pub policy: &'a Policy,
    /// Counts of earlier servings of the rollout.
    pub finished: &'a [Finished],
    /// Weight of the present serving.
    pub weight: Weight,
    /// Counts of the present serving.
    pub present: Evidence,
    /// Part of the present canary counts that no longer helps to pass.
    pub base: Tally,
}

/// What the counts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Pass, Fail or Inconclusive.
    pub outcome: Outcome,
    /// Numbers of the present step.
    pub numbers: Numbers,
    /// The numbers and the test behind the outcome, in one sentence.
    pub explanation: String,
}

/// Pass, Fail or Inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The step's own counts are good enough.
    Pass,
    /// The canary is bad, beyond the doubt that the test allows.
    Fail,
    /// Neither can be said: too few messages.
    TooFew,
    /// Neither can be said: the rate is over the limit, without proof against the canary.
    OverLimit,
    /// Neither can be said: the rate is over the limit on both tracks.
    SharedDegradation,
}

impl Outcome {
    /// Pass, Fail or Inconclusive.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Fail => "Fail",
            Self::TooFew | Self::OverLimit | Self::SharedDegradation => "Inconclusive",
        }
    }
}

/// Numbers of the present step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Judged messages of the canary.
    pub canary_messages: u64,
    /// Failed ones among them.
    pub canary_failures: u64,
    /// Judged messages of stable in the same time.
    pub stable_messages: u64,
    /// Failed ones among them.
    pub stable_failures: u64,
    /// Messages of the canary that the step needs.
    pub needed: u64,
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "canary {} of {} messages, {} failed; stable {} messages, {} failed",
            self.canary_messages,
            self.needed,
            self.canary_failures,
            self.stable_messages,
            self.stable_failures
        )
    }
}

/// Judges a rollout.
pub fn judge(question: &Question<'_>) -> Verdict {
    let Question { policy, finished: _, weight: _, present, base } = *question;
    let canary = present.canary.minus(base);
    let numbers = Numbers {
        canary_messages: canary.messages(),
        canary_failures: canary.failures(),
        stable_messages: present.stable.messages(),
        stable_failures: present.stable.failures(),
        needed: policy.min_messages.max(1),
    };
    Verdict { outcome: Outcome::TooFew, numbers, explanation: numbers.to_string() }
}

//! The policy of a rollout: copied into the state when a rollout starts, so that a later edit
//! never shortens, resurrects or otherwise changes one that runs.

use kanarie_words::on_failure::OnFailure;
use serde::{Deserialize, Serialize};

use crate::steps::Steps;

/// What a step certifies when nothing else is said: five times the limit, and no more than this.
const HIGHEST_CERTIFIED: u32 = 9_000;

/// How a revision is rolled out and judged.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Weights and holds.
    pub steps: Steps,
    /// Highest error rate with which a step passes, in hundredths of a percent.
    pub max_error_basis_points: u32,
    /// Error rate that a passed step has excluded, with 95 %; five times the limit, at most 90 %,
    /// if none is given or it is not over the limit.
    #[serde(default)]
    pub certify_basis_points: Option<u32>,
    /// Judged messages of the canary that a step needs; 0 is read as 1, since silence is no proof.
    pub min_messages: u64,
    /// Answers that take longer count as failures. Not read here: the gateways class by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_ms: Option<u64>,
    /// Seconds after which an attempt without an answer has failed: the agent's deadline.
    #[serde(default = "longest_timeout")]
    pub timeout_seconds: u32,
    /// Seconds between two looks at the counts; 0 is read as 1.
    pub interval_seconds: u32,
    /// What a failed verdict does.
    pub on_failure: OnFailure,
    /// Whether stable is asked when the canary's agent fails: then a rescue says whose failure it was.
    pub retry_on_stable: bool,
    /// Seconds without progress after which the rollout is overdue.
    pub progress_deadline_seconds: u32,
}

impl Policy {
    /// Error rate that a step under this limit is to exclude, in hundredths of a percent; always over
    /// the limit.
    pub fn certified(&self, limit: u32) -> u32 {
        let given = self.certify_basis_points.filter(|given| *given > limit);
        given.unwrap_or_else(|| {
            let five_times = limit.max(1).saturating_mul(5).min(HIGHEST_CERTIFIED);
            five_times.max(limit.saturating_add(1))
        })
    }

    /// Milliseconds after which every attempt has ended.
    pub fn timeout_ms(&self) -> u64 {
        u64::from(self.timeout_seconds) * 1000
    }

    /// Milliseconds that are called lately: one minute, or as long as an attempt may take.
    pub fn lately_ms(&self) -> u64 {
        self.timeout_ms().max(60_000)
    }
}

/// What the agent's deadline was by default when the policy did not keep it.
fn longest_timeout() -> u32 {
    60
}

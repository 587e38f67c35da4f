//! The policy of a rollout: copied into the state when a rollout starts, so that a later edit
//! never shortens, resurrects or otherwise changes one that runs.

use kanarie_words::on_failure::OnFailure;
use serde::{Deserialize, Serialize};

use crate::steps::Steps;

/// How a revision is rolled out and judged.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Weights and holds.
    pub steps: Steps,
    /// Highest error rate with which a step passes, in hundredths of a percent.
    pub max_error_basis_points: u32,
    /// Judged messages of the canary that a step needs; 0 is read as 1, since silence is no proof.
    pub min_messages: u64,
    /// Answers that take longer count as failures. Not read here: the gateways class by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_latency_ms: Option<u64>,
    /// Seconds between two looks at the counts; 0 is read as 1.
    pub interval_seconds: u32,
    /// What a failed verdict does.
    pub on_failure: OnFailure,
    /// Whether stable is asked when the canary's agent fails. Not read here: the gateways obey it.
    pub retry_on_stable: bool,
    /// Seconds without progress after which the rollout is overdue.
    pub progress_deadline_seconds: u32,
}

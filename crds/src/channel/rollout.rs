//! `spec.rollout` of a channel: how a change reaches the customers.
//!
//! Takes nothing, gives the types, defaults, bounds and CEL rules of that part of the CRD.

use kanarie_words::on_failure::OnFailure;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::rules::{
    CERTIFY_OVER_LIMIT, DEADLINE, STEPS_END, STEPS_INCREASE, WEIGHT_IFF_MANUAL, all,
};

/// How a change reaches the customers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = all(&[WEIGHT_IFF_MANUAL, STEPS_INCREASE, STEPS_END, DEADLINE])))]
pub struct RolloutSpec {
    /// Automatic follows `steps`; Manual obeys `weight` as written. Both are live, `steps` and the rest of
    /// the policy are as they were when the rollout started. Back to Automatic, `weight` must be removed:
    /// in a merge patch, `"weight": null`.
    pub mode: RolloutMode,
    /// Percent of the conversations on the canary; required with Manual, and only there. 100 makes the
    /// canary stable at once, without a bake, even a revision that had no traffic yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub weight: Option<u8>,
    /// Weights and how long each is held, strictly increasing, the last one 100: its hold is the
    /// bake.
    #[schemars(length(min = 1, max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub steps: Vec<StepSpec>,
    /// What decides whether a step passes.
    pub analysis: AnalysisSpec,
    /// Rollback takes a failed revision back; Pause leaves it in force at its weight, so its customers keep
    /// an agent that is known to fail until somebody acts.
    pub on_failure: OnFailure,
    /// RetryOnStable asks stable again when the canary's agent fails on a message; Fail does not.
    pub on_message_failure: OnMessageFailure,
    /// Seconds after which a rollout without progress is reported as overdue; its weight stays. Let it be
    /// longer than the canary's share of the traffic needs for `analysis`.
    #[schemars(range(min = 60, max = 31_536_000))]
    pub progress_deadline_seconds: u32,
    /// Seconds after a promotion in which the former revision is put back at once: by its spec or by the
    /// command `undo`. A newer rollout ends them.
    #[schemars(range(min = 0, max = 604_800))]
    pub rollback_window_seconds: u32,
    /// Revisions kept besides stable, canary, rejected ones and the former one within
    /// `rollbackWindowSeconds`.
    #[schemars(range(min = 1, max = 20))]
    pub revision_history_limit: u32,
    /// Paused stops advancing; a failing canary is still rolled back. The hold of a step runs on: after a
    /// pause that was longer, the next step follows as soon as the last minutes are known again.
    pub state: RolloutState,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            mode: RolloutMode::Automatic,
            weight: None,
            steps: vec![
                StepSpec { weight: 10, hold_seconds: 3600 },
                StepSpec { weight: 50, hold_seconds: 7200 },
                StepSpec { weight: 100, hold_seconds: 3600 },
            ],
            analysis: AnalysisSpec::default(),
            on_failure: OnFailure::Rollback,
            on_message_failure: OnMessageFailure::RetryOnStable,
            progress_deadline_seconds: 86_400,
            rollback_window_seconds: 86_400,
            revision_history_limit: 5,
            state: RolloutState::Running,
        }
    }
}

/// Who moves the weight.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RolloutMode {
    /// The operator, step by step.
    #[default]
    Automatic,
    /// You, by `weight`.
    Manual,
}

/// One weight and how long it is held.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StepSpec {
    /// Percent of the conversations on the canary, in whole percent.
    #[schemars(range(min = 1, max = 100))]
    pub weight: u8,
    /// Seconds that this weight is in force on every gateway before the next step. A shorter hold than
    /// `agent.timeoutSeconds` is held that long: what was asked last may still fail.
    #[schemars(range(min = 0, max = 2_592_000))]
    pub hold_seconds: u32,
}

/// What decides whether a step passes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = all(&[CERTIFY_OVER_LIMIT])))]
pub struct AnalysisSpec {
    /// Highest error rate with which a step passes, in hundredths of a percent: 100 is 1 %.
    #[schemars(range(min = 1, max = 5_000))]
    pub max_error_basis_points: u32,
    /// Error rate that a passed step has excluded with 95 %, in hundredths of a percent: the higher, the
    /// fewer messages it needs (500 needs 73 without a failure, 1000 needs 32, 2000 needs 15, at a
    /// limit of 100). Unset: five times the limit, at most 9000, and always over the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_999))]
    pub certify_basis_points: Option<u32>,
    /// Messages of the canary that a step needs before it can pass, a floor only: what a step must exclude
    /// (`certifyBasisPoints`) usually needs more.
    #[schemars(range(min = 1, max = 100_000))]
    pub min_messages: u32,
    /// Answers that take longer count as failures; unset judges no latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 120_000))]
    pub max_latency_milliseconds: Option<u32>,
    /// Longest time between two looks at the counts, in seconds. A failure is looked at as soon as it is
    /// counted; this is for what nobody tells, a canary that does well.
    #[serde(deserialize_with = "interval")]
    #[schemars(range(min = 1, max = 60))]
    pub interval_seconds: u32,
}

/// An object may have been stored while an hour was allowed.
fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Ok(u32::deserialize(deserializer)?.min(60))
}

impl Default for AnalysisSpec {
    fn default() -> Self {
        Self {
            max_error_basis_points: 100,
            certify_basis_points: None,
            min_messages: 50,
            max_latency_milliseconds: None,
            interval_seconds: 5,
        }
    }
}

/// What happens to a message on which the canary's agent fails.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMessageFailure {
    /// Stable is asked.
    #[default]
    RetryOnStable,
    /// The canary is asked again, like stable would be.
    Fail,
}

/// Whether a rollout advances.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RolloutState {
    /// It does.
    #[default]
    Running,
    /// It does not; rollback still works.
    Paused,
}

#[cfg(test)]
mod tests {
    use super::AnalysisSpec;

    #[test]
    fn an_interval_of_an_hour_that_was_stored_before_is_read_as_a_minute() {
        let read = |text: &str| serde_json::from_str::<AnalysisSpec>(text).unwrap();
        for (stored, interval) in [("3600", 60), ("60", 60), ("1", 1), ("0", 0)] {
            let text = format!(r#"{{"intervalSeconds": {stored}}}"#);
            assert_eq!(read(&text).interval_seconds, interval);
        }
        assert_eq!(read("{}").interval_seconds, 5);
    }
}

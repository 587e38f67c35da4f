//! Why a decision is what it is: one value for every transition and for every "not now", the
//! latter with what is missing. Its word is the reason of a condition, its text the message.

use std::fmt;

use kanarie_words::ids::{ReplicaName, RevisionName};
use kanarie_words::reason::Reason;
use kanarie_words::weight::Weight;

use crate::bounds::MAX_REJECTED;
use crate::numbers::Numbers;

/// Why a decision is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Transition: the channel's first revision serves at once.
    FirstRevision,
    /// Transition: the route was lost and made again from what status and revisions tell.
    Rebuilt,
    /// Transition: a rollout starts.
    RolloutStarted {
        /// Its first weight.
        weight: Weight,
    },
    /// Every live replica has acknowledged the step: its hold begins.
    StepStarted {
        /// Weight of the step.
        weight: Weight,
        /// Its hold.
        hold_seconds: u32,
    },
    /// Transition: a step has passed.
    StepAdvanced {
        /// Weight before.
        from: Weight,
        /// Weight now.
        to: Weight,
        /// Numbers of the step that passed.
        numbers: Numbers,
    },
    /// Transition: `promote`.
    StepPromoted {
        /// Weight before.
        from: Weight,
        /// Weight now.
        to: Weight,
    },
    /// Transition: the bake has passed and the canary is stable.
    Landed {
        /// Numbers of the bake.
        numbers: Numbers,
    },
    /// The state after it: the revision that the spec asks for is stable.
    Completed,
    /// Transition, and the state after it: the verdict failed and stable serves everybody.
    RolledBack {
        /// The numbers behind it.
        explanation: String,
    },
    /// Transition: the verdict failed in the bake, where stable is no control.
    SteppedBack {
        /// Weight of the first step.
        to: Weight,
        /// The numbers behind it.
        explanation: String,
    },
    /// Transition, and the state after it: the verdict failed, and the policy leaves the weight.
    PausedOnFailure {
        /// Weight of the failed step.
        weight: Weight,
        /// The numbers behind it.
        explanation: String,
    },
    /// Transition: the spec went back to stable.
    Reverted,
    /// Transition: the spec asks for another revision than the one that is rolled out.
    Superseded {
        /// The other one.
        by: RevisionName,
    },
    /// Transition, and the state after it: `abort`.
    Aborted,
    /// Transition, and the state after it: `undo`.
    Undone,
    /// Transition: `retry`.
    Retried,
    /// Transition: mode Manual has reached weight 100.
    ManuallyPromoted,
    /// Transition: `promote-full`.
    PromotedInFull,
    /// The spec cannot be carried out: nothing advances.
    NothingAsked,
    /// Transition, and the state after it: the rollout does not advance.
    Paused,
    /// Transition: it advances again.
    Resumed,
    /// Transition: a person has chosen the weight.
    WeightSet {
        /// That weight.
        weight: Weight,
    },
    /// Transition: the rollout goes on in the other mode.
    ModeChanged {
        /// Its weight there.
        weight: Weight,
    },
    /// Not now: a person chooses the weight, and the verdict is only reported.
    AwaitingPromotion {
        /// The weight chosen.
        weight: Weight,
    },
    /// Transition: counts were lost; the step starts anew.
    EvidenceLost,
    /// Transition: what was counted is no sample of the step; it starts anew.
    StepRestarted {
        /// What has happened.
        because: &'static str,
    },
    /// Transition, and the state after it: the deadline has passed without progress.
    DeadlineExceeded {
        /// The deadline.
        seconds: u32,
        /// What the rollout still waits for.
        waiting: Box<Why>,
    },
    /// Not now: not every live replica has acknowledged the route.
    WaitingForGateways {
        /// Those that have.
        acknowledged: usize,
        /// All of them.
        live: usize,
        /// The names of those that have not.
        lacking: Vec<ReplicaName>,
    },
    /// Not now: no gateway answered. That is no evidence, never bad evidence.
    WaitingForEvidence,
    /// Not now: too few messages were judged.
    WaitingForTraffic {
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: the step's hold has not run.
    Holding {
        /// Seconds until it has, on the slower of both clocks.
        seconds_left: u64,
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: what was asked together with the last answers may still fail.
    WaitingForAnswers {
        /// The agent's deadline.
        timeout_seconds: u32,
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: what ended lately is over the limit.
    RecentFailures {
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: the customers of the tracks are not as many as the weight says.
    SampleRatioMismatch {
        /// Weight of the step.
        weight: Weight,
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: the canary's error rate is over the limit, without proof that it is the canary's.
    ErrorRateTooHigh {
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: the error rate is over the limit on both tracks.
    SharedDegradation {
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: as many revisions are rejected as can be remembered.
    RejectedFull,
}

/// The names of those that something lacks, for the end of a sentence: three say where to look.
pub struct LackingReplicas<'a>(pub &'a [ReplicaName]);

impl fmt::Display for LackingReplicas<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else { return Ok(()) };
        write!(f, "; not {first}")?;
        for other in others.iter().take(2) {
            write!(f, ", {other}")?;
        }
        match others.len().saturating_sub(2) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Why {
    /// What became of the weight.
    fn fmt_weight(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StepStarted { weight, hold_seconds } => {
                write!(f, "every gateway has {weight} in force; held for {hold_seconds} s from now")
            }
            Self::StepAdvanced { from, to, numbers } => write!(f, "{from} to {to}: {numbers}"),
            Self::StepPromoted { from, to } => {
                write!(f, "{from} to {to} by command, without the hold and the evidence of {from}")
            }
            Self::SteppedBack { to, explanation } => {
                write!(f, "back to {to}, where stable is the control: {explanation}")
            }
            Self::WeightSet { weight } => write!(f, "rollout.weight is {weight}"),
            Self::ModeChanged { weight } => {
                write!(f, "rollout.mode has changed; the rollout goes on at {weight}")
            }
            // The others leave it.
            _ => Ok(()),
        }
    }

    /// Its word, as conditions, Events and metrics show it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::FirstRevision => Reason::FirstRevision,
            Self::Rebuilt => Reason::Rebuilt,
            Self::RolloutStarted { .. } => Reason::RolloutStarted,
            Self::StepStarted { .. } => Reason::StepStarted,
            Self::StepAdvanced { .. } | Self::StepPromoted { .. } => Reason::StepAdvanced,
            Self::Landed { .. } | Self::Completed => Reason::Completed,
            Self::RolledBack { .. } => Reason::RolledBack,
            Self::SteppedBack { .. } => Reason::SteppedBack,
            Self::PausedOnFailure { .. } => Reason::PausedOnFailure,
            Self::Reverted => Reason::Reverted,
            Self::Superseded { .. } => Reason::Superseded,
            Self::Aborted => Reason::Aborted,
            Self::Undone => Reason::Undone,
            Self::Retried => Reason::Retried,
            Self::ManuallyPromoted => Reason::ManuallyPromoted,
            Self::PromotedInFull => Reason::PromotedInFull,
            Self::NothingAsked => Reason::Pending,
            Self::Paused => Reason::Paused,
            Self::Resumed => Reason::Resumed,
            Self::WeightSet { .. } => Reason::WeightSet,
            Self::ModeChanged { .. } => Reason::ModeChanged,
            Self::AwaitingPromotion { .. } => Reason::AwaitingPromotion,
            Self::EvidenceLost => Reason::EvidenceLost,
            Self::StepRestarted { .. } => Reason::StepRestarted,
            Self::DeadlineExceeded { .. } => Reason::DeadlineExceeded,
            Self::WaitingForGateways { .. } => Reason::WaitingForGateways,
            Self::WaitingForEvidence => Reason::WaitingForEvidence,
            Self::WaitingForTraffic { .. } => Reason::WaitingForTraffic,
            Self::Holding { .. } => Reason::Holding,
            Self::WaitingForAnswers { .. } => Reason::WaitingForAnswers,
            Self::RecentFailures { .. } => Reason::RecentFailures,
            Self::SampleRatioMismatch { .. } => Reason::SampleRatioMismatch,
            Self::ErrorRateTooHigh { .. } => Reason::ErrorRateTooHigh,
            Self::SharedDegradation { .. } => Reason::SharedDegradation,
            Self::RejectedFull => Reason::RejectedFull,
        }
    }

    /// What a step still waits for.
    fn fmt_missing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AwaitingPromotion { weight } => {
                write!(f, "rollout.mode is Manual, at {weight}; the verdict is only reported")
            }
            Self::WaitingForGateways { live: 0, .. } => f.write_str("waiting for a live gateway"),
            Self::WaitingForGateways { acknowledged, live, lacking } => {
                let lacking = LackingReplicas(lacking);
                write!(
                    f,
                    "waiting for gateways: {acknowledged} of {live} have the route in force{lacking}"
                )
            }
            Self::NothingAsked => f.write_str(
                "the spec cannot be carried out as it is; a failing canary is still taken back",
            ),
            Self::WaitingForEvidence => f.write_str("waiting for a gateway to tell its counts"),
            Self::WaitingForTraffic { numbers } => write!(f, "waiting for traffic: {numbers}"),
            Self::Holding { seconds_left, numbers } => {
                write!(f, "held for {seconds_left} s more: {numbers}")
            }
            Self::WaitingForAnswers { timeout_seconds, numbers } => write!(
                f,
                "waiting for what may still fail: an answer has up to {timeout_seconds} s; {numbers}"
            ),
            Self::RecentFailures { numbers } => {
                write!(f, "lately the error rate is over the limit: {numbers}")
            }
            Self::SampleRatioMismatch { weight, numbers } => write!(
                f,
                "the customers of the tracks do not match the weight of {weight}, so nothing can be \
                 said: {numbers}"
            ),
            Self::ErrorRateTooHigh { numbers } => {
                write!(f, "error rate over the limit, without proof against the canary: {numbers}")
            }
            Self::SharedDegradation { numbers } => {
                write!(f, "error rate over the limit on both tracks: {numbers}")
            }
            // The others wait for nothing.
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstRevision => f.write_str(
                "the first revision of this object serves everybody at once, without steps; nothing is \
                 remembered of an earlier one",
            ),
            Self::Rebuilt => f.write_str("the route was lost and made again"),
            Self::RolloutStarted { weight } => write!(f, "the rollout starts with {weight}"),
            Self::StepStarted { .. }
            | Self::StepAdvanced { .. }
            | Self::StepPromoted { .. }
            | Self::SteppedBack { .. }
            | Self::WeightSet { .. }
            | Self::ModeChanged { .. } => self.fmt_weight(f),
            Self::Landed { numbers } => write!(f, "the revision serves everybody: {numbers}"),
            Self::Completed => f.write_str("the revision serves everybody"),
            Self::RolledBack { explanation } => f.write_str(explanation),
            Self::PausedOnFailure { weight, explanation } => {
                write!(f, "{explanation}; onFailure is Pause, so the weight stays at {weight}")
            }
            Self::Reverted => f.write_str("the spec asks for the stable revision again"),
            Self::Superseded { by } => write!(f, "the spec asks for revision {by} now"),
            Self::Aborted => f.write_str("aborted by command; `retry` tries the revision again"),
            Self::Undone => f.write_str(
                "undone by command: the former revision serves again; `retry` tries this one again",
            ),
            Self::Retried => f.write_str("the revision is tried again by command"),
            Self::ManuallyPromoted => f.write_str("rollout.weight is 100 in mode Manual"),
            Self::PromotedInFull => f.write_str("promoted by command, without the remaining steps"),
            Self::Paused => {
                f.write_str("rollout.state is Paused; a failing canary is still taken back")
            }
            Self::Resumed => f.write_str("rollout.state is Running again"),
            Self::EvidenceLost => {
                f.write_str("the store has lost counts; sample and hold of the step start again")
            }
            Self::StepRestarted { because } => {
                write!(f, "{because}; sample and hold of the step start again")
            }
            Self::DeadlineExceeded { seconds, waiting } => {
                write!(f, "no progress within {seconds} s; the weight stays; {waiting}")
            }
            Self::NothingAsked
            | Self::AwaitingPromotion { .. }
            | Self::WaitingForGateways { .. }
            | Self::WaitingForEvidence
            | Self::WaitingForTraffic { .. }
            | Self::Holding { .. }
            | Self::WaitingForAnswers { .. }
            | Self::RecentFailures { .. }
            | Self::SampleRatioMismatch { .. }
            | Self::ErrorRateTooHigh { .. }
            | Self::SharedDegradation { .. } => self.fmt_missing(f),
            Self::RejectedFull => write!(
                f,
                "{MAX_REJECTED} revisions are rejected, as many as are remembered; `retry <revision>` clears one"
            ),
        }
    }
}

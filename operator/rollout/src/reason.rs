//! Why a decision is what it is: one value for every transition and for every "not now", the
//! latter with what is missing. Its word is the reason of a condition, its text the message.

use std::fmt;

use crate::analysis::Numbers;
use crate::state::{MAX_REJECTED, Revision};
use crate::weight::Weight;

/// Why a decision is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Transition: the channel's first revision serves at once.
    FirstRevision,
    /// Transition: the route was lost and made again from what status and revisions tell.
    Rebuilt,
    /// Transition: a rollout starts.
    Started {
        /// Its first weight.
        weight: Weight,
    },
    /// Every live replica has acknowledged the step: its hold begins.
    Progressing {
        /// Weight of the step.
        weight: Weight,
        /// Its hold.
        hold_seconds: u32,
    },
    /// Transition: a step has passed.
    Advanced {
        /// Weight before.
        from: Weight,
        /// Weight now.
        to: Weight,
        /// Numbers of the step that passed.
        numbers: Numbers,
    },
    /// Transition, and the state after it: the revision that the spec asks for is stable.
    Completed,
    /// Transition, and the state after it: the verdict failed and stable serves everybody.
    RolledBack {
        /// The numbers behind it.
        explanation: String,
    },
    /// Transition, and the state after it: the verdict failed, and the policy leaves the weight.
    FailureHeld {
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
        by: Revision,
    },
    /// Transition, and the state after it: `abort`.
    Aborted,
    /// Transition: `retry`.
    Retried,
    /// Transition: `promote-full`.
    PromotedFull,
    /// Transition, and the state after it: the rollout does not advance.
    Paused,
    /// Transition: it advances again.
    Resumed,
    /// Transition, and the state after it: a person has chosen the weight.
    ManualWeight {
        /// That weight.
        weight: Weight,
    },
    /// Transition: the rollout goes by steps again.
    AutomaticResumed {
        /// Weight of the step.
        weight: Weight,
    },
    /// Transition: counts were lost; sample and hold of the step start again.
    EvidenceLost,
    /// Transition, and the state after it: the deadline has passed without progress.
    DeadlineExceeded {
        /// The deadline.
        seconds: u32,
        /// What the rollout still waits for.
        waiting: Box<Reason>,
    },
    /// Not now: not every live replica has acknowledged the route.
    WaitingForGateway {
        /// Those that have.
        acknowledged: usize,
        /// All of them.
        live: usize,
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
        /// Seconds until it has, on the store's clock.
        seconds_left: u64,
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: the canary's error rate is over the limit, without proof that it is the canary's.
    RateOverLimit {
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: the error rate is over the limit on both tracks.
    SharedDegradation {
        /// Numbers of the step.
        numbers: Numbers,
    },
    /// Not now: as many revisions are rejected as can be remembered.
    RejectionsFull,
}

/// What a reason says about the wish of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolledOut {
    /// It is fulfilled.
    Yes,
    /// It is not, and only a person or new evidence can change that.
    No,
    /// It is on its way.
    Underway,
}

impl Reason {
    /// The word of the reason, as conditions, Events and metrics show it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::FirstRevision => "FirstRevision",
            Self::Rebuilt => "Rebuilt",
            Self::Started { .. } => "Started",
            Self::Progressing { .. } => "Progressing",
            Self::Advanced { .. } => "Advanced",
            Self::Completed => "Completed",
            Self::RolledBack { .. } => "RolledBack",
            Self::FailureHeld { .. } => "FailureHeld",
            Self::Reverted => "Reverted",
            Self::Superseded { .. } => "Superseded",
            Self::Aborted => "Aborted",
            Self::Retried => "Retried",
            Self::PromotedFull => "PromotedFull",
            Self::Paused => "Paused",
            Self::Resumed => "Resumed",
            Self::ManualWeight { .. } => "ManualWeight",
            Self::AutomaticResumed { .. } => "AutomaticResumed",
            Self::EvidenceLost => "EvidenceLost",
            Self::DeadlineExceeded { .. } => "DeadlineExceeded",
            Self::WaitingForGateway { .. } => "WaitingForGateway",
            Self::WaitingForEvidence => "WaitingForEvidence",
            Self::WaitingForTraffic { .. } => "WaitingForTraffic",
            Self::Holding { .. } => "Holding",
            Self::RateOverLimit { .. } => "RateOverLimit",
            Self::SharedDegradation { .. } => "SharedDegradation",
            Self::RejectionsFull => "RejectionsFull",
        }
    }

    /// What the reason says about the wish of the spec: the status of the condition RolledOut.
    pub fn rolled_out(&self) -> RolledOut {
        match self {
            Self::FirstRevision | Self::Completed | Self::Reverted | Self::PromotedFull => {
                RolledOut::Yes
            }
            Self::RolledBack { .. }
            | Self::FailureHeld { .. }
            | Self::Aborted
            | Self::DeadlineExceeded { .. }
            | Self::RejectionsFull => RolledOut::No,
            Self::Rebuilt
            | Self::Started { .. }
            | Self::Progressing { .. }
            | Self::Advanced { .. }
            | Self::Superseded { .. }
            | Self::Retried
            | Self::Paused
            | Self::Resumed
            | Self::ManualWeight { .. }
            | Self::AutomaticResumed { .. }
            | Self::EvidenceLost
            | Self::WaitingForGateway { .. }
            | Self::WaitingForEvidence
            | Self::WaitingForTraffic { .. }
            | Self::Holding { .. }
            | Self::RateOverLimit { .. }
            | Self::SharedDegradation { .. } => RolledOut::Underway,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstRevision => f.write_str("the first revision serves everybody"),
            Self::Rebuilt => f.write_str("the route was lost and made again"),
            Self::Started { weight } => write!(f, "the rollout starts with {weight}"),
            Self::Progressing { weight, hold_seconds } => {
                write!(f, "every gateway has {weight} in force; held for {hold_seconds} s from now")
            }
            Self::Advanced { from, to, numbers } => write!(f, "{from} to {to}: {numbers}"),
            Self::Completed => f.write_str("the revision serves everybody"),
            Self::RolledBack { explanation } => f.write_str(explanation),
            Self::FailureHeld { weight, explanation } => {
                write!(f, "{explanation}; onFailure is Pause, so the weight stays at {weight}")
            }
            Self::Reverted => f.write_str("the spec asks for the stable revision again"),
            Self::Superseded { by } => write!(f, "the spec asks for revision {by} now"),
            Self::Aborted => f.write_str("aborted by command; `retry` tries the revision again"),
            Self::Retried => f.write_str("the revision is tried again by command"),
            Self::PromotedFull => f.write_str("promoted by command, without the remaining steps"),
            Self::Paused => {
                f.write_str("rollout.state is Paused; a failing canary is still taken back")
            }
            Self::Resumed => f.write_str("rollout.state is Running again"),
            Self::ManualWeight { weight } => {
                write!(f, "rollout.mode is Manual: {weight}; the verdict is only reported")
            }
            Self::AutomaticResumed { weight } => {
                write!(f, "rollout.mode is Automatic again: {weight}, held from zero")
            }
            Self::EvidenceLost => {
                f.write_str("the store has lost counts; sample and hold of the step start again")
            }
            Self::DeadlineExceeded { seconds, waiting } => {
                write!(f, "no progress within {seconds} s; the weight stays; {waiting}")
            }
            Self::WaitingForGateway { acknowledged: _, live: 0 } => {
                f.write_str("waiting for a live gateway")
            }
            Self::WaitingForGateway { acknowledged, live } => {
                write!(f, "waiting for gateways: {acknowledged} of {live} have the route in force")
            }
            Self::WaitingForEvidence => f.write_str("waiting for a gateway to tell its counts"),
            Self::WaitingForTraffic { numbers } => write!(f, "waiting for traffic: {numbers}"),
            Self::Holding { seconds_left, numbers } => {
                write!(f, "held for {seconds_left} s more: {numbers}")
            }
            Self::RateOverLimit { numbers } => {
                write!(f, "error rate over the limit, without proof against the canary: {numbers}")
            }
            Self::SharedDegradation { numbers } => {
                write!(f, "error rate over the limit on both tracks: {numbers}")
            }
            Self::RejectionsFull => write!(
                f,
                "{MAX_REJECTED} revisions are rejected, as many as are remembered; `retry` clears one"
            ),
        }
    }
}

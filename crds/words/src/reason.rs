//! The words of reasons: one enum for conditions, Events, history and metrics.
//!
//! Takes nothing, gives each word, what it means and under which conditions it stands. Never
//! decides which one applies: that is `rollout`'s and the operator's `report`.

use std::fmt;

use crate::conditions::{ConditionStatus, ConditionType, EventType};

/// One row a reason: what it means, Normal or Warning, and the conditions it may stand under. The
/// table is the only place where a reason is written down.
macro_rules! reasons {
    ($($name:ident: $event:ident, [$($condition:ident = $status:ident),*], $meaning:literal;)*) => {
        /// Why: the reason of a condition, of an Event, of a transition in the history, and the
        /// label `reason` of a metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in status, Events and metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// Normal or Warning, the type of its Event.
            pub fn event(self) -> EventType {
                match self { $(Self::$name => EventType::$event,)* }
            }

            /// The conditions it may stand under, and their value then; none for reasons that
            /// only Events and the history have.
            pub fn conditions(self) -> &'static [(ConditionType, ConditionStatus)] {
                match self {
                    $(Self::$name => &[$((ConditionType::$condition, ConditionStatus::$status)),*],)*
                }
            }
        }
    };
}

reasons! {
    StableServing: Normal, [Ready = True],
        "Stable, or stable and canary, answer customers.";
    Found: Normal, [CredentialsReady = True],
        "Every Secret and key is there; Twilio has not said yet whether it takes them.";
    Verified: Normal, [CredentialsReady = True],
        "Every Secret and key is there, and Twilio takes them.";
    RotationOverlap: Normal, [CredentialsReady = True],
        "Two auth tokens are there while one replaces the other, and Twilio takes the credentials.";
    InForce: Normal, [Routed = True],
        "Every live gateway acknowledged the route as it is.";
    Completed: Normal, [RolledOut = True],
        "The last step's hold has run and passed: the canary is stable now.";
    FirstRevision: Normal, [RolledOut = True],
        "The first revision of a channel serves at once.";
    Reverted: Normal, [RolledOut = True],
        "The spec is stable's again: no rollout was needed.";
    ManuallyPromoted: Normal, [RolledOut = True],
        "Mode Manual reached weight 100: the canary is stable now.";
    PromotedInFull: Normal, [RolledOut = True],
        "The command promote-full made the canary stable.";
    RolloutStarted: Normal, [RolledOut = Unknown, Reconciling = True],
        "A new revision got the first step's weight.";
    StepStarted: Normal, [RolledOut = Unknown, Reconciling = True],
        "Every live gateway acknowledged the step: its hold runs.";
    StepAdvanced: Normal, [RolledOut = Unknown, Reconciling = True],
        "A step passed: the next weight is in force.";
    WeightSet: Normal, [RolledOut = Unknown, Reconciling = True],
        "Mode Manual: the weight is what the spec says.";
    ModeChanged: Normal, [RolledOut = Unknown, Reconciling = True],
        "The rollout goes on in the other mode, at the weight it has.";
    Resumed: Normal, [RolledOut = Unknown, Reconciling = True],
        "`rollout.state` is Running again: the rollout goes on.";
    EvidenceLost: Warning, [RolledOut = Unknown, Reconciling = True],
        "The store has lost counts: sample and hold of the step start again.";
    StepRestarted: Normal, [RolledOut = Unknown, Reconciling = True],
        "What was counted is no sample of the step: it starts anew.";
    SteppedBack: Warning, [RolledOut = Unknown, Reconciling = True],
        "The canary failed in the bake: it is back at the first step, where stable is the control.";
    SampleRatioMismatch: Warning, [RolledOut = Unknown, Reconciling = True],
        "The customers of the tracks are not as many as the weight says: nothing advances.";
    SharedDegradation: Warning, [RolledOut = Unknown, Reconciling = True],
        "The error rate is over the limit on both tracks: nothing advances.";
    Superseded: Normal, [RolledOut = Unknown, Reconciling = True],
        "A newer revision replaces a canary: that one went to weight 0 first.";
    Retried: Normal, [RolledOut = Unknown, Reconciling = True],
        "The command retry cleared the rejection of a revision.";
    Rebuilt: Warning, [RolledOut = Unknown, Reconciling = True],
        "The route was lost and made again from status and revisions.";
    Holding: Normal, [RolledOut = Unknown, Reconciling = True],
        "The step's hold runs.";
    WaitingForTraffic: Normal, [RolledOut = Unknown, Reconciling = True],
        "The step's hold has run; more messages of the canary are needed.";
    WaitingForAnswers: Normal, [RolledOut = Unknown, Reconciling = True],
        "What was asked with the last answers may still fail: the agent's timeout runs.";
    RecentFailures: Normal, [RolledOut = Unknown, Reconciling = True],
        "What ended lately is over the limit: nothing advances.";
    WaitingForEvidence: Normal, [RolledOut = Unknown, Reconciling = True],
        "No gateway answers, so nothing is known: nothing advances and nothing is rolled back.";
    WaitingForGateways: Normal, [RolledOut = Unknown, Reconciling = True],
        "Not every live gateway acknowledged the step yet.";
    ErrorRateTooHigh: Warning, [RolledOut = Unknown, Reconciling = True],
        "The step's error rate is over the limit, without proof that the canary is to blame.";
    AwaitingPromotion: Normal, [RolledOut = Unknown, Reconciling = True],
        "Mode Manual: somebody sets the next weight.";
    CanaryFailing: Warning, [RolledOut = Unknown, Reconciling = True],
        "Mode Manual: the canary fails, and its weight is left to a person.";
    Paused: Normal, [RolledOut = Unknown, Reconciling = True],
        "`rollout.state` is Paused: nothing advances, rollback still works.";
    PausedOnFailure: Warning, [RolledOut = False, Stalled = True],
        "The canary failed and `onFailure` is Pause: its weight stays.";
    RolledBack: Warning, [RolledOut = False, Stalled = True],
        "The canary failed: weight 0, the revision is rejected until `retry`.";
    Aborted: Warning, [RolledOut = False, Stalled = True],
        "The command abort took the canary back: the revision is rejected until `retry`.";
    Undone: Warning, [RolledOut = False, Stalled = True],
        "The command undo put the former revision back: this one is rejected until `retry`.";
    DeadlineExceeded: Warning, [RolledOut = False, Stalled = True],
        "No progress within `progressDeadlineSeconds`: the weight stays.";
    RejectedFull: Warning, [RolledOut = False, Stalled = True],
        "Fifty revisions are rejected: no rollout starts until `retry <revision>` clears one.";
    RouteUnreadable: Warning, [RolledOut = Unknown, Stalled = True],
        "The route's memory cannot be read, is of a newer operator, or is older than this status while the spec is unreadable.";
    RouteLost: Warning, [Ready = False, Routed = False, RolledOut = Unknown, Stalled = True],
        "The route is gone and no revision carries a promotion mark: nothing is guessed.";
    SenderConflict: Warning, [Ready = False, Routed = False, Stalled = True],
        "Another channel holds this account's sender.";
    InvalidSpec: Warning, [RolledOut = Unknown, Stalled = True],
        "The spec breaks a rule of this version: the route stays as it is.";
    RevisionRefused: Warning, [RolledOut = Unknown, Reconciling = True],
        "The ControllerRevision of the spec could not be made: what serves is judged on.";
    ReconcileFailed: Warning, [Reconciling = True],
        "The operator could not do its work on the channel; it tries again.";
    CredentialsNotReady: Warning, [Ready = False, Routed = False, RolledOut = Unknown, Reconciling = True],
        "No route can be made without the Secrets.";
    SecretNotFound: Warning, [CredentialsReady = False],
        "A Secret does not exist; the last compiled value stays in force.";
    KeyMissing: Warning, [CredentialsReady = False],
        "A Secret lacks a key; the last compiled value stays in force.";
    ValueUnusable: Warning, [CredentialsReady = False],
        "A Secret's value is too long or no text; the last compiled value stays in force.";
    Forbidden: Warning, [CredentialsReady = False],
        "The operator may not read a Secret; the last compiled value stays in force.";
    SecretUnreadable: Warning, [CredentialsReady = False],
        "The API server could not read a Secret; the last compiled value stays in force.";
    RejectedByTwilio: Warning, [CredentialsReady = False],
        "Twilio does not know the API key or the auth token.";
    NotPermitted: Warning, [CredentialsReady = False],
        "Twilio knows the credentials that send replies, and they lack the right to.";
    SuspendedAccount: Warning, [CredentialsReady = False],
        "The Twilio account is suspended or closed.";
    NotChecked: Normal, [CredentialsReady = Unknown],
        "The Secrets were not read yet.";
    NoGateway: Warning, [Ready = False, Routed = False],
        "No gateway replica is alive.";
    NotServed: Warning, [Ready = False],
        "Some live gateways hold no route of the channel: their customers are not served.";
    NotAcknowledged: Normal, [Routed = False],
        "Some live gateways do not obey the route yet.";
    GatewayUnreachable: Warning, [Ready = Unknown, Routed = Unknown],
        "No gateway answers the operator.";
    Pending: Normal, [Ready = Unknown, Routed = Unknown, RolledOut = Unknown, Reconciling = True],
        "Not looked at yet.";
    CommandRefused: Warning, [],
        "A command in the annotations was not executed; `status.lastCommand` says why.";
    OtherInstallation: Warning, [],
        "Another installation of the same class serves the channel; the one that says so leaves it alone.";
    DeadLettersWaiting: Warning, [],
        "Messages could not be answered and are kept for two weeks.";
    Idle: Normal, [Reconciling = False],
        "Nothing is under way.";
    Healthy: Normal, [Stalled = False],
        "Nothing stands in the way.";
}

impl Reason {
    /// Parses the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_parsed_from_its_own_word() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn no_reason_gives_one_condition_two_values() {
        for reason in Reason::ALL {
            for condition in ConditionType::ALL {
                let values =
                    reason.conditions().iter().filter(|(name, _)| *name == condition).count();
                assert!(values <= 1, "{reason} stands under {condition} {values} times");
            }
        }
    }

    #[test]
    fn what_has_not_landed_is_under_way_or_stalled() {
        for reason in Reason::ALL {
            let value = |kind| {
                reason.conditions().iter().find(|(name, _)| *name == kind).map(|(_, value)| *value)
            };
            let is = |kind| value(kind) == Some(ConditionStatus::True);
            let landed =
                value(ConditionType::RolledOut).map(|value| value == ConditionStatus::True);
            let busy = is(ConditionType::Reconciling) || is(ConditionType::Stalled);
            assert_eq!(landed.map(|landed| !landed), landed.map(|_| busy), "{reason}");
        }
    }

    #[test]
    fn every_condition_can_be_true_and_not_true() {
        for condition in ConditionType::ALL {
            let value = |wanted: bool| {
                Reason::ALL.iter().flat_map(|reason| reason.conditions()).any(|(name, value)| {
                    *name == condition && (*value == ConditionStatus::True) == wanted
                })
            };
            assert!(value(true) && value(false), "{condition} has one value only");
        }
    }
}

//! The decision: what the channel's rollout does next. Total, pure, one transition at a time.
//!
//! The order of the questions is the order of their rank: a failed verdict first, then the wish of
//! the spec, then commands, then a person's weight, and the steps last.

use std::time::Duration;

use crate::analysis::{Outcome, Question, Verdict, judge};
use crate::command::{
    ABORTED, Answer, IS_PAUSED, OVERTAKEN, Order, PROMOTED, RESTARTED, ROLLING_ALREADY,
    UNKNOWN_VERB, unanswered,
};
use crate::observation::{Evidence, Mode, Observation, Store, Tally};
use crate::policy::OnFailure;
use crate::reason::Reason;
use crate::state::{Phase, Revision, Rolling, Stage, State};
use crate::timestamp::Timestamp;
use crate::weight::Weight;

/// When to look again while nothing runs.
const IDLE: Duration = Duration::from_secs(60);
/// When to look again for a gateway that answers.
const UNANSWERED: Duration = Duration::from_secs(10);
/// When to look again while replicas take up a route, or after a change.
const SOON: Duration = Duration::from_secs(1);

/// What follows from a state and an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state to write, under the version of the one that was read, if it differs. A transition
    /// has happened exactly when its `transition` is higher.
    pub next: State,
    /// Why, or what is missing.
    pub reason: Reason,
    /// What the counts of the running rollout say; none without a rollout or without counts.
    pub verdict: Option<Verdict>,
    /// When to look again, if nothing happens before.
    pub requeue: Duration,
}

/// Decides. `now` is the operator's clock and is used for the deadline and for the record only;
/// holds run on the store's clock in `seen`.
pub fn decide(state: &State, seen: &Observation, now: Timestamp) -> Decision {
    let facts = Facts { state, seen, now };
    let (outcome, verdict) = match &state.phase {
        Phase::Stable { stable } => (facts.settled(stable, true), None),
        Phase::Clearing { stable } => (facts.settled(stable, false), None),
        Phase::Rolling(rolling) => {
            let verdict = facts.verdict(rolling);
            (facts.roll(rolling, verdict.as_ref()), verdict)
        }
    };
    let Next { state: mut next, reason, answer } = outcome;
    if let Some(command) = unanswered(state, seen) {
        next = next.with_answer(command, &answer.unwrap_or(OVERTAKEN), now);
    }
    let requeue = if next == *state { facts.requeue(&reason) } else { SOON };
    Decision { next, reason, verdict, requeue }
}

/// Everything that a decision rests on.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a State,
    pub(crate) seen: &'a Observation,
    pub(crate) now: Timestamp,
}

/// A next state and why; `answer` is for the standing command, if one is unanswered.
pub(crate) struct Next {
    pub(crate) state: State,
    pub(crate) reason: Reason,
    pub(crate) answer: Option<Answer>,
}

impl Facts<'_> {
    /// With a rollout: the questions in the order of their rank.
    fn roll(self, rolling: &Rolling, verdict: Option<&Verdict>) -> Next {
        if let Some(next) = self.take_back(rolling, verdict) {
            return next;
        }
        if let Some(next) = self.leave(rolling) {
            return next;
        }
        let answer = match self.obey(rolling) {
            Some(Ok(next)) => return next,
            Some(Err(refusal)) => Some(refusal),
            None => None,
        };
        let next = match self.seen.mode {
            Mode::Manual(weight) => self.follow(rolling, weight),
            Mode::Automatic => self.step(rolling, verdict),
        };
        Next { answer, ..next }
    }

    fn verdict(self, rolling: &Rolling) -> Option<Verdict> {
        let base = match &rolling.stage {
            Stage::Step { clock: Some(clock), .. } => clock.base,
            Stage::Step { clock: None, .. } | Stage::Failed { .. } | Stage::Manual { .. } => {
                Tally::default()
            }
        };
        Some(judge(&Question {
            policy: &rolling.policy,
            finished: &rolling.finished,
            weight: rolling.weight(),
            present: self.present()?,
            base,
        }))
    }

    /// A failed verdict, unless a person moves the weight: then it is only reported.
    fn take_back(self, rolling: &Rolling, verdict: Option<&Verdict>) -> Option<Next> {
        let verdict = verdict.filter(|verdict| verdict.outcome == Outcome::Fail)?;
        if self.seen.mode != Mode::Automatic {
            return None;
        }
        let explanation = verdict.explanation.clone();
        match (rolling.policy.on_failure, &rolling.stage) {
            (OnFailure::Rollback, _) => {
                Some(self.reject(rolling, Reason::RolledBack { explanation }))
            }
            (OnFailure::Pause, Stage::Failed { .. }) => None,
            (OnFailure::Pause, Stage::Step { .. } | Stage::Manual { .. }) => {
                // A spec that asks for something else takes the canary off, which is better still.
                if self.seen.desired != rolling.canary {
                    return None;
                }
                let weight = rolling.weight();
                let stage = Stage::Failed { weight, explanation: explanation.clone() };
                let reason = Reason::PausedOnFailure { weight, explanation };
                Some(self.go_to_stage(rolling, stage, reason))
            }
        }
    }

    /// The spec asks for another revision: the canary is taken off before anything else starts.
    fn leave(self, rolling: &Rolling) -> Option<Next> {
        let desired = &self.seen.desired;
        if *desired == rolling.canary {
            return None;
        }
        let reason = if *desired == rolling.stable {
            Reason::Reverted
        } else {
            Reason::Superseded { by: desired.clone() }
        };
        let phase = Phase::Clearing { stable: rolling.stable.clone() };
        Some(self.go(phase, &rolling.canary, reason))
    }

    /// The standing command: what it leads to, or why it is refused.
    fn obey(self, rolling: &Rolling) -> Option<Result<Next, Answer>> {
        let command = unanswered(self.state, self.seen)?;
        let failed = matches!(rolling.stage, Stage::Failed { .. });
        Some(match Order::parse(&command.verb) {
            None => Err(UNKNOWN_VERB),
            Some(Order::Abort) => {
                Ok(Next { answer: Some(ABORTED), ..self.reject(rolling, Reason::Aborted) })
            }
            Some(Order::PromoteFull) if self.seen.paused => Err(IS_PAUSED),
            Some(Order::PromoteFull) => {
                let next = self.promote(&rolling.canary, Reason::PromotedInFull);
                Ok(Next { answer: Some(PROMOTED), ..next })
            }
            Some(Order::Retry) if failed => {
                // By way of weight 0: a new serving forgets the counts of the failure.
                let phase = Phase::Clearing { stable: rolling.stable.clone() };
                let next = self.go(phase, &rolling.canary, Reason::Retried);
                Ok(Next { answer: Some(RESTARTED), ..next })
            }
            Some(Order::Retry) => Err(ROLLING_ALREADY),
        })
    }

    /// Manual: the weight as written. While paused only downwards, since going back is never held.
    fn follow(self, rolling: &Rolling, wanted: Weight) -> Next {
        let present = rolling.weight();
        let weight = if self.seen.paused { wanted.min(present) } else { wanted };
        if wanted == Weight::FULL && !self.seen.paused {
            return self.promote(&rolling.canary, Reason::ManuallyPromoted);
        }
        match rolling.stage {
            Stage::Manual { weight: held } if held == weight && wanted == weight => {
                self.stay(Reason::AwaitingPromotion { weight })
            }
            Stage::Manual { weight: held } if held == weight => self.stay(Reason::Paused),
            Stage::Manual { .. } | Stage::Step { .. } | Stage::Failed { .. } => {
                let reason = if weight == present {
                    Reason::ModeChanged { weight }
                } else {
                    Reason::WeightSet { weight }
                };
                self.go_to_stage(rolling, Stage::Manual { weight }, reason)
            }
        }
    }

    pub(crate) fn promote(self, revision: &Revision, reason: Reason) -> Next {
        self.go(Phase::Stable { stable: revision.clone() }, revision, reason)
    }

    fn reject(self, rolling: &Rolling, reason: Reason) -> Next {
        let phase = Phase::Clearing { stable: rolling.stable.clone() };
        let next = self.go(phase, &rolling.canary, reason);
        let state = next.state.with_rejection(rolling.canary.clone(), &next.reason, self.now);
        Next { state, ..next }
    }

    pub(crate) fn go_to_stage(self, rolling: &Rolling, stage: Stage, reason: Reason) -> Next {
        let next = rolling.at_stage(stage, self.present());
        self.go(Phase::Rolling(Box::new(next)), &rolling.canary, reason)
    }

    /// A transition to `phase`.
    pub(crate) fn go(self, phase: Phase, revision: &Revision, reason: Reason) -> Next {
        let state = self.state.clone().with_phase(phase);
        let state = state.with_transition(&reason, revision.clone(), self.now);
        Next { state, reason, answer: None }
    }

    pub(crate) fn stay(self, reason: Reason) -> Next {
        Next { state: self.state.clone(), reason, answer: None }
    }

    /// Counts of the present serving; none when no gateway answered.
    pub(crate) fn present(self) -> Option<Evidence> {
        self.seen.store.as_ref().map(|store| store.evidence_of(self.state.serving))
    }

    pub(crate) fn waiting_for_gateways(self, store: &Store) -> Reason {
        Reason::WaitingForGateways {
            acknowledged: store.acknowledged(self.state.serving),
            live: store.replicas.len(),
        }
    }

    fn requeue(self, reason: &Reason) -> Duration {
        match (reason, self.state.rolling()) {
            (Reason::WaitingForGateways { .. }, _) => SOON,
            (_, Some(rolling)) => {
                Duration::from_secs(u64::from(rolling.policy.interval_seconds.max(1)))
            }
            (Reason::WaitingForEvidence, None) => UNANSWERED,
            (_, None) => IDLE,
        }
    }
}

//! Without a rollout: why none starts, or the start of the one that the spec asks for. Pure.

use crate::command::{CLEARED, NO_ROLLOUT, NOTHING_REJECTED, Order, UNKNOWN_VERB, unanswered};
use crate::decide::{Facts, Next};
use crate::observation::Mode;
use crate::reason::Reason;
use crate::state::{MAX_REJECTED, Phase, Revision, Rolling, Stage};
use crate::weight::Weight;

impl Facts<'_> {
    /// Without a rollout: answers commands and starts the rollout that the spec asks for.
    pub(crate) fn settled(self, stable: &Revision, cleared: bool) -> Next {
        let answer = match unanswered(self.state, self.seen) {
            None => None,
            Some(command) => match Order::parse(&command.verb) {
                Some(Order::Retry) => match self.retry_rejected() {
                    Some(next) => return next,
                    None => Some(NOTHING_REJECTED),
                },
                Some(Order::Abort | Order::PromoteFull) => Some(NO_ROLLOUT),
                None => Some(UNKNOWN_VERB),
            },
        };
        let next = match self.reason_not_to_start(stable, cleared) {
            Some(reason) => self.stay(reason),
            None => self.start(stable),
        };
        Next { answer, ..next }
    }

    /// Why no rollout starts now.
    fn reason_not_to_start(self, stable: &Revision, cleared: bool) -> Option<Reason> {
        let seen = self.seen;
        if seen.desired == *stable {
            return Some(Reason::Completed);
        }
        if let Some(rejection) = self.state.rejection(&seen.desired) {
            return Some(if rejection.reason == Reason::Aborted.as_str() {
                Reason::Aborted
            } else {
                Reason::RolledBack { explanation: rejection.message.clone() }
            });
        }
        if self.state.rejected.len() >= MAX_REJECTED {
            return Some(Reason::RejectedFull);
        }
        if seen.paused {
            return Some(Reason::Paused);
        }
        if cleared {
            return None;
        }
        match &seen.store {
            None => Some(Reason::WaitingForEvidence),
            Some(store) if store.in_force(self.state.serving) => None,
            Some(store) => Some(self.waiting_for_gateways(store)),
        }
    }

    fn start(self, stable: &Revision) -> Next {
        let seen = self.seen;
        let stage = match seen.mode {
            Mode::Manual(Weight::FULL) => {
                return self.promote(&seen.desired, Reason::ManuallyPromoted);
            }
            Mode::Manual(weight) => Stage::Manual { weight },
            Mode::Automatic => self.fresh_step(0),
        };
        let rolling = Rolling {
            stable: stable.clone(),
            canary: seen.desired.clone(),
            policy: seen.policy.clone(),
            stage,
            finished: Vec::new(),
        };
        let reason = Reason::RolloutStarted { weight: rolling.weight() };
        self.go(Phase::Rolling(Box::new(rolling)), &seen.desired, reason)
    }

    /// `retry` without a rollout: clears the rejection of the desired revision, or the oldest one
    /// when no more can be remembered.
    fn retry_rejected(self) -> Option<Next> {
        let full = self.state.rejected.len() >= MAX_REJECTED;
        let rejected = self
            .state
            .rejection(&self.seen.desired)
            .or_else(|| self.state.rejected.first().filter(|_| full))?;
        let revision = rejected.revision.clone();
        let mut state = self.state.clone();
        state.rejected.retain(|rejection| rejection.revision != revision);
        let state = state.with_transition(&Reason::Retried, revision, self.now);
        Some(Next { state, reason: Reason::Retried, answer: Some(CLEARED) })
    }
}

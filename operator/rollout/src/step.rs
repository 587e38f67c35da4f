//! A rollout that goes by steps: clock, hold, evidence, the next step and the deadline. Pure.

use crate::analysis::{Outcome, Verdict};
use crate::decide::{Facts, Next};
use crate::observation::Tally;
use crate::reason::Reason;
use crate::state::{Clock, Phase, Rolling, Stage, Timer};
use crate::weight::Step;

impl Facts<'_> {
    /// Automatic: from wherever the rollout stands.
    pub(crate) fn step(self, rolling: &Rolling, verdict: Option<&Verdict>) -> Next {
        match &rolling.stage {
            Stage::Step { index, clock, timer } => {
                self.step_on(rolling, verdict, *index, clock.as_ref(), *timer)
            }
            Stage::Failed { weight, explanation } => self.stay(Reason::PausedOnFailure {
                weight: *weight,
                explanation: explanation.clone(),
            }),
            Stage::Manual { weight } => {
                let index = rolling.policy.steps.highest_not_over(*weight);
                let next = rolling.at_stage(self.fresh_step(index), self.present());
                let lands = next.weight();
                if self.seen.paused && lands > *weight {
                    return self.stay(Reason::Paused);
                }
                let reason = Reason::ModeChanged { weight: lands };
                self.go(Phase::Rolling(Box::new(next)), &rolling.canary, reason)
            }
        }
    }

    /// At a step: pause and resume, then the step's own progress, then the deadline.
    fn step_on(
        self,
        rolling: &Rolling,
        verdict: Option<&Verdict>,
        index: usize,
        clock: Option<&Clock>,
        timer: Timer,
    ) -> Next {
        let at = |clock: Option<Clock>, timer| Stage::Step { index, clock, timer };
        match (self.seen.paused, timer) {
            (true, Timer::Running { since, used_ms }) => {
                let used_ms = used_ms.saturating_add(self.now.millis_since(since));
                let stage = at(clock.cloned(), Timer::Stopped { used_ms });
                return self.go_to_stage(rolling, stage, Reason::Paused);
            }
            (false, Timer::Stopped { used_ms }) => {
                let stage = at(clock.cloned(), Timer::Running { since: self.now, used_ms });
                return self.go_to_stage(rolling, stage, Reason::Resumed);
            }
            (true, Timer::Stopped { .. } | Timer::Overdue)
            | (false, Timer::Running { .. } | Timer::Overdue) => {}
        }
        let Some(step) = rolling.policy.steps.get(index) else {
            return self.stay(Reason::WaitingForEvidence);
        };
        match self.progress(step, clock, verdict) {
            Progress::Starts(clock) => {
                let Step { weight, hold_seconds } = step;
                let reason = Reason::StepStarted { weight, hold_seconds };
                self.note(rolling, at(Some(clock), timer), reason)
            }
            Progress::Restarts(clock) => {
                self.go_to_stage(rolling, at(Some(clock), timer), Reason::EvidenceLost)
            }
            Progress::Passed if self.seen.paused => {
                self.wait(rolling, index, clock, timer, Reason::Paused)
            }
            Progress::Passed => self.advance(rolling, index, step, verdict),
            Progress::Waits(_) if self.seen.paused => {
                self.wait(rolling, index, clock, timer, Reason::Paused)
            }
            Progress::Waits(reason) => self.wait(rolling, index, clock, timer, reason),
        }
    }

    /// What the step comes to, by the facts of one answer of the store.
    fn progress(self, step: Step, clock: Option<&Clock>, verdict: Option<&Verdict>) -> Progress {
        let (Some(store), Some(verdict)) = (&self.seen.store, verdict) else {
            return Progress::Waits(Reason::WaitingForEvidence);
        };
        // An answer that is older than the clock never sets it back.
        let since = clock.map_or(store.at, |clock| clock.since.max(store.at));
        let start = |base| Clock { since, epoch: store.epoch.clone(), base };
        let in_force = store.in_force(self.state.serving);
        let numbers = verdict.numbers;
        match clock {
            None if in_force => return Progress::Starts(start(Tally::default())),
            Some(clock) if clock.epoch != store.epoch => {
                let counted = store.evidence_of(self.state.serving).canary;
                return Progress::Restarts(start(counted));
            }
            None | Some(_) if !in_force => {
                return Progress::Waits(self.waiting_for_gateways(store));
            }
            None | Some(_) => {}
        }
        let held_ms = clock.map_or(0, |clock| store.at.millis_since(clock.since));
        let left_ms = (u64::from(step.hold_seconds) * 1000).saturating_sub(held_ms);
        if left_ms > 0 {
            let seconds_left = left_ms.div_ceil(1000);
            return Progress::Waits(Reason::Holding { seconds_left, numbers });
        }
        match verdict.outcome {
            Outcome::Pass => Progress::Passed,
            Outcome::TooFew => Progress::Waits(Reason::WaitingForTraffic { numbers }),
            Outcome::OverLimit | Outcome::Fail => {
                Progress::Waits(Reason::ErrorRateTooHigh { numbers })
            }
            Outcome::SharedDegradation => Progress::Waits(Reason::SharedDegradation { numbers }),
        }
    }

    /// A passed step: the next one, or promotion after the bake.
    fn advance(
        self,
        rolling: &Rolling,
        index: usize,
        step: Step,
        verdict: Option<&Verdict>,
    ) -> Next {
        let Some(after) = rolling.policy.steps.after(index) else {
            return self.promote(&rolling.canary, Reason::Completed);
        };
        let next = rolling.at_stage(self.fresh_step(after), self.present());
        let numbers = verdict.map(|verdict| verdict.numbers).unwrap_or_default();
        let reason = Reason::StepAdvanced { from: step.weight, to: next.weight(), numbers };
        self.go(Phase::Rolling(Box::new(next)), &rolling.canary, reason)
    }

    /// Nothing to do at this step but to see whether the deadline has passed.
    fn wait(
        self,
        rolling: &Rolling,
        index: usize,
        clock: Option<&Clock>,
        timer: Timer,
        waiting: Reason,
    ) -> Next {
        let seconds = rolling.policy.progress_deadline_seconds;
        let overdue = |waiting| Reason::DeadlineExceeded { seconds, waiting: Box::new(waiting) };
        match timer {
            Timer::Stopped { .. } => self.stay(waiting),
            Timer::Overdue => self.stay(overdue(waiting)),
            Timer::Running { .. } => match rolling.deadline_at() {
                Some(deadline) if self.now >= deadline => {
                    let stage = Stage::Step { index, clock: clock.cloned(), timer: Timer::Overdue };
                    self.go_to_stage(rolling, stage, overdue(waiting))
                }
                Some(_) | None => self.stay(waiting),
            },
        }
    }

    /// Something worth remembering that is no transition.
    fn note(self, rolling: &Rolling, stage: Stage, reason: Reason) -> Next {
        let next = rolling.at_stage(stage, self.present());
        let state = self.state.clone().with_phase(Phase::Rolling(Box::new(next)));
        Next { state, reason, answer: None }
    }

    /// A step from its very beginning. The deadline runs from here, since reaching it is progress.
    pub(crate) fn fresh_step(self, index: usize) -> Stage {
        Stage::Step { index, clock: None, timer: Timer::Running { since: self.now, used_ms: 0 } }
    }
}

/// What the present step comes to.
enum Progress {
    /// Every live replica has acknowledged it: its clock starts.
    Starts(Clock),
    /// Counts were lost: its clock starts again.
    Restarts(Clock),
    /// Its hold has run and its counts pass.
    Passed,
    /// Something is missing.
    Waits(Reason),
}

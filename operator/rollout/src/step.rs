//! A rollout that goes by steps: clock, hold, evidence, the next step and the deadline. Pure.

use crate::analysis::{Finding, Verdict};
use crate::facts::{Facts, Next};
use crate::state::{Phase, Rolling, Stage, StepClock, Timer};
use crate::steps::Step;
use crate::tally::Tally;
use crate::why::Why;

/// Automatic: from wherever the rollout stands.
pub(crate) fn by_steps(facts: Facts<'_>, rolling: &Rolling, verdict: Option<&Verdict>) -> Next {
    match &rolling.stage {
        Stage::Step { index, clock, timer } => {
            step_on(facts, rolling, verdict, *index, clock.as_ref(), *timer)
        }
        Stage::Failed { weight, explanation } => {
            facts.stay(Why::PausedOnFailure { weight: *weight, explanation: explanation.clone() })
        }
        Stage::Manual { weight } => {
            let index = rolling.policy.steps.highest_not_over(*weight);
            let next = rolling.at_stage(facts.fresh_step(index), facts.present());
            let lands = next.weight();
            if facts.seen.paused && lands > *weight {
                return facts.stay(Why::Paused);
            }
            let why = Why::ModeChanged { weight: lands };
            facts.go(Phase::Rolling(Box::new(next)), &rolling.canary, why)
        }
    }
}

/// At a step: pause and resume, then the step's own progress, then the deadline.
fn step_on(
    facts: Facts<'_>,
    rolling: &Rolling,
    verdict: Option<&Verdict>,
    index: usize,
    clock: Option<&StepClock>,
    timer: Timer,
) -> Next {
    let at = |clock: Option<StepClock>, timer| Stage::Step { index, clock, timer };
    match (facts.seen.paused, timer) {
        (true, Timer::Running { since, used_ms }) => {
            let used_ms = used_ms.saturating_add(facts.now.millis_since(since));
            let stage = at(clock.cloned(), Timer::Stopped { used_ms });
            return facts.go_to_stage(rolling, stage, Why::Paused);
        }
        (false, Timer::Stopped { used_ms }) => {
            let stage = at(clock.cloned(), Timer::Running { since: facts.now, used_ms });
            return facts.go_to_stage(rolling, stage, Why::Resumed);
        }
        (true, Timer::Stopped { .. } | Timer::Overdue)
        | (false, Timer::Running { .. } | Timer::Overdue) => {}
    }
    let Some(step) = rolling.policy.steps.get(index) else {
        return facts.stay(Why::WaitingForEvidence);
    };
    match progress(facts, step, clock, verdict) {
        Progress::Starts(clock) => {
            let Step { weight, hold_seconds } = step;
            let why = Why::StepStarted { weight, hold_seconds };
            facts.note(rolling, at(Some(clock), timer), why)
        }
        Progress::Restarts(clock) => {
            facts.go_to_stage(rolling, at(Some(clock), timer), Why::EvidenceLost)
        }
        Progress::Passed if facts.seen.paused => {
            wait(facts, rolling, index, clock, timer, Why::Paused)
        }
        Progress::Passed => advance(facts, rolling, index, step, verdict),
        Progress::Waits(_) if facts.seen.paused => {
            wait(facts, rolling, index, clock, timer, Why::Paused)
        }
        Progress::Waits(why) => wait(facts, rolling, index, clock, timer, why),
    }
}

/// What the step comes to, by the facts of one answer of the store.
fn progress(
    facts: Facts<'_>,
    step: Step,
    clock: Option<&StepClock>,
    verdict: Option<&Verdict>,
) -> Progress {
    let (Some(store), Some(verdict)) = (&facts.seen.store, verdict) else {
        return Progress::Waits(Why::WaitingForEvidence);
    };
    // An answer that is older than the clock never sets it back.
    let since = clock.map_or(store.at, |clock| clock.since.max(store.at));
    let start = |base| StepClock { since, epoch: store.epoch.clone(), base };
    let in_force = store.in_force(facts.state.serving);
    let numbers = verdict.numbers;
    match clock {
        None if in_force => return Progress::Starts(start(Tally::default())),
        Some(clock) if clock.epoch != store.epoch => {
            let counted = store.evidence_of(facts.state.serving).canary;
            return Progress::Restarts(start(counted));
        }
        None | Some(_) if !in_force => {
            return Progress::Waits(facts.waiting_for_gateways(store));
        }
        None | Some(_) => {}
    }
    let held_ms = clock.map_or(0, |clock| store.at.millis_since(clock.since));
    let left_ms = (u64::from(step.hold_seconds) * 1000).saturating_sub(held_ms);
    if left_ms > 0 {
        let seconds_left = left_ms.div_ceil(1000);
        return Progress::Waits(Why::Holding { seconds_left, numbers });
    }
    match verdict.finding {
        Finding::Pass => Progress::Passed,
        Finding::TooFew => Progress::Waits(Why::WaitingForTraffic { numbers }),
        Finding::OverLimit | Finding::Fail => Progress::Waits(Why::ErrorRateTooHigh { numbers }),
        Finding::SharedDegradation => Progress::Waits(Why::SharedDegradation { numbers }),
    }
}

/// A passed step: the next one, or promotion after the bake.
fn advance(
    facts: Facts<'_>,
    rolling: &Rolling,
    index: usize,
    step: Step,
    verdict: Option<&Verdict>,
) -> Next {
    let Some(after) = rolling.policy.steps.after(index) else {
        return facts.promote(&rolling.canary, Why::Completed);
    };
    let next = rolling.at_stage(facts.fresh_step(after), facts.present());
    let numbers = verdict.map(|verdict| verdict.numbers).unwrap_or_default();
    let why = Why::StepAdvanced { from: step.weight, to: next.weight(), numbers };
    facts.go(Phase::Rolling(Box::new(next)), &rolling.canary, why)
}

/// Nothing to do at this step but to see whether the deadline has passed.
fn wait(
    facts: Facts<'_>,
    rolling: &Rolling,
    index: usize,
    clock: Option<&StepClock>,
    timer: Timer,
    waiting: Why,
) -> Next {
    let seconds = rolling.policy.progress_deadline_seconds;
    let overdue = |waiting| Why::DeadlineExceeded { seconds, waiting: Box::new(waiting) };
    match timer {
        Timer::Stopped { .. } => facts.stay(waiting),
        Timer::Overdue => facts.stay(overdue(waiting)),
        Timer::Running { .. } => match rolling.deadline_at() {
            Some(deadline) if facts.now >= deadline => {
                let stage = Stage::Step { index, clock: clock.cloned(), timer: Timer::Overdue };
                facts.go_to_stage(rolling, stage, overdue(waiting))
            }
            Some(_) | None => facts.stay(waiting),
        },
    }
}

/// What the present step comes to.
enum Progress {
    /// Every live replica has acknowledged it: its clock starts.
    Starts(StepClock),
    /// Counts were lost: its clock starts again.
    Restarts(StepClock),
    /// Its hold has run and its counts pass.
    Passed,
    /// Something is missing.
    Waits(Why),
}

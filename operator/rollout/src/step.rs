//! A rollout that goes by steps: hold, evidence, the next step and the deadline. Pure.

use crate::analysis::{Finding, Verdict};
use crate::facts::{Facts, Next};
use crate::hold::{Confirmation, Hold, Look};
use crate::moment::Moment;
use crate::numbers::Numbers;
use crate::observation::StoreAnswer;
use crate::state::{Rolling, Stage, Timer};
use crate::steps::Step;
use crate::tally::ServingTally;
use crate::weighed::Weighed;
use crate::why::Why;

/// Why a step starts anew when stable has suffered too.
const OUTAGE_OVER: &str = "an outage of both tracks is over";

/// Automatic: from wherever the rollout stands.
pub(crate) fn by_steps(facts: Facts<'_>, rolling: &Rolling, weighed: Option<&Weighed>) -> Next {
    match &rolling.stage {
        Stage::Step { index, timer, .. } => step_on(facts, rolling, weighed, *index, *timer),
        Stage::Failed { weight, explanation } => {
            facts.stay(Why::PausedOnFailure { weight: *weight, explanation: explanation.clone() })
        }
        Stage::Manual { weight } => {
            let index = rolling.policy.steps.highest_not_over(*weight);
            let stage = facts.fresh_step(index);
            let lands = rolling.policy.steps.get(index).map_or(*weight, |step| step.weight);
            if let Some(why) = facts.held_back().filter(|_| lands > *weight) {
                return facts.stay(why);
            }
            facts.go_to_stage(rolling, stage, Why::ModeChanged { weight: lands })
        }
    }
}

/// At a step: pause and resume, then the step's own progress, then the deadline.
fn step_on(
    facts: Facts<'_>,
    rolling: &Rolling,
    weighed: Option<&Weighed>,
    index: usize,
    timer: Timer,
) -> Next {
    match (facts.seen.paused, timer) {
        (true, Timer::Running { since, used_ms }) => {
            let used_ms = used_ms.saturating_add(facts.now.millis_since(since));
            let stage = with_timer(&rolling.stage, Timer::Stopped { used_ms });
            return facts.go_to_stage(rolling, stage, Why::Paused);
        }
        (false, Timer::Stopped { used_ms }) => {
            let timer = Timer::Running { since: facts.now, used_ms };
            return facts.go_to_stage(rolling, with_timer(&rolling.stage, timer), Why::Resumed);
        }
        (true, Timer::Stopped { .. } | Timer::Overdue)
        | (false, Timer::Running { .. } | Timer::Overdue) => {}
    }
    let Some(step) = rolling.policy.steps.get(index) else {
        return facts.stay(Why::WaitingForEvidence);
    };
    let held_back = facts.held_back();
    match progress(facts, rolling, step, weighed) {
        Progress::Notes(noted, why) => facts.note(&noted, held_back.unwrap_or(why)),
        Progress::Restarts(why) => facts.restart(rolling, why),
        Progress::Passed(numbers) => advance(facts, rolling, index, step, numbers),
        Progress::Waits(why) => wait(facts, rolling, timer, held_back.unwrap_or(why)),
    }
}

/// What the step comes to, by the facts of one answer of the store.
fn progress(
    facts: Facts<'_>,
    rolling: &Rolling,
    step: Step,
    weighed: Option<&Weighed>,
) -> Progress {
    let (Some(store), Some(now), Some(weighed)) = (&facts.seen.store, facts.moment(), weighed)
    else {
        return Progress::Waits(Why::WaitingForEvidence);
    };
    let in_force = store.in_force(facts.state.serving);
    match rolling.hold() {
        None if in_force => begins(rolling, step, now, store),
        Some(hold) if hold.epoch != store.epoch => Progress::Restarts(Why::EvidenceLost),
        Some(hold) if in_force => held(facts, rolling, hold, step, now, weighed),
        None | Some(_) => Progress::Waits(facts.waiting_for_gateways(store)),
    }
}

/// Every live replica has acknowledged the step.
fn begins(rolling: &Rolling, step: Step, now: Moment, store: &StoreAnswer) -> Progress {
    let mut noted = rolling.clone();
    if let Stage::Step { hold, starts, .. } = &mut noted.stage {
        *hold = Some(Box::new(Hold::begin(now, store.epoch.clone(), *starts)));
    }
    let Step { weight, hold_seconds } = step;
    Progress::Notes(Box::new(noted), Why::StepStarted { weight, hold_seconds })
}

/// The hold runs, or has run.
fn held(
    facts: Facts<'_>,
    rolling: &Rolling,
    hold: &Hold,
    step: Step,
    now: Moment,
    weighed: &Weighed,
) -> Progress {
    let verdict = &weighed.verdict;
    let is_over =
        hold.degraded.is_some_and(|at| now.millis_since(at) >= rolling.policy.lately_ms());
    if is_over && !weighed.suffers {
        return Progress::Restarts(Why::StepRestarted { because: OUTAGE_OVER });
    }
    let left_ms = hold.left_ms(step, now);
    let canary = facts.present().map(|present| present.canary.sum()).unwrap_or_default();
    let knows_lately = hold.knows_lately(&rolling.policy, now, canary);
    let passes = left_ms == 0 && verdict.finding == Finding::Pass && knows_lately;
    if passes && facts.held_back().is_none() {
        return if rolling.is_baking() {
            confirmed(facts, rolling, hold, now, verdict.numbers)
        } else {
            Progress::Passed(verdict.numbers)
        };
    }
    let why = waits(rolling, step, left_ms, verdict);
    match housekeeping(facts, rolling, step, now, weighed) {
        Some(noted) => Progress::Notes(Box::new(noted), why),
        None => Progress::Waits(why),
    }
}

/// The bake passes by its counts: at the second look that says so.
fn confirmed(
    facts: Facts<'_>,
    rolling: &Rolling,
    hold: &Hold,
    now: Moment,
    numbers: Numbers,
) -> Progress {
    let waits = Why::Holding { seconds_left: 1, numbers };
    let Some(ServingTally { stable, canary, .. }) = facts.present() else {
        return Progress::Waits(Why::WaitingForEvidence);
    };
    let (stable, canary) = (stable.sum(), canary.sum());
    match hold.confirms(&rolling.policy, now, canary, numbers.limit) {
        Confirmation::Passed => Progress::Passed(numbers),
        Confirmation::Waits => Progress::Waits(waits),
        Confirmation::Again => {
            let mut noted = rolling.clone();
            if let Stage::Step { hold: Some(hold), .. } = &mut noted.stage {
                hold.passing = Some(Look { at: now, stable, canary });
            }
            Progress::Notes(Box::new(noted), waits)
        }
    }
}

/// What is to be remembered of this look: an outage, a cut, or the look itself.
fn housekeeping(
    facts: Facts<'_>,
    rolling: &Rolling,
    step: Step,
    now: Moment,
    weighed: &Weighed,
) -> Option<Rolling> {
    let Stage::Step { hold: Some(hold), starts, .. } = &rolling.stage else { return None };
    let policy = &rolling.policy;
    let present = facts.present()?;
    let counted = (present.stable.sum(), present.canary.sum());
    let was = hold.degraded.map(|at| now.millis_since(at));
    let degrades = weighed.suffers && was.is_none_or(|age| age >= policy.lately_ms() / 2);
    let due = hold.starts_due(step, *starts, now);
    let passes_soon = weighed.verdict.finding == Finding::TooYoung;
    // What ended late of a former serving is new as well.
    let has_changed = hold.has_changed(counted) || weighed.segments != rolling.segments;
    let looks = hold.wants_look(policy, step, now, has_changed, passes_soon);
    if !degrades && !looks && due == 0 {
        return None;
    }
    let mut noted = rolling.clone();
    let Stage::Step { hold: Some(hold), starts, .. } = &mut noted.stage else { return None };
    if degrades {
        hold.degraded = Some(now);
    }
    if looks {
        hold.look(policy, now, counted);
        noted.segments = weighed.segments.clone();
    }
    if due > 0 {
        hold.cut = now;
        *starts = starts.saturating_add(due);
        noted.segments = weighed.segments.clone();
        noted.segments.cut(due, policy.steps.count());
    }
    Some(noted)
}

fn waits(rolling: &Rolling, step: Step, left_ms: u64, verdict: &Verdict) -> Why {
    let numbers = verdict.numbers;
    match verdict.finding {
        Finding::SampleRatioMismatch => {
            return Why::SampleRatioMismatch { weight: step.weight, numbers };
        }
        Finding::SharedDegradation => return Why::SharedDegradation { numbers },
        Finding::Pass
        | Finding::Fail
        | Finding::TooFew
        | Finding::TooYoung
        | Finding::OverLimitLately
        | Finding::OverLimit => {}
    }
    if left_ms > 0 {
        return Why::Holding { seconds_left: left_ms.div_ceil(1000), numbers };
    }
    match verdict.finding {
        Finding::TooYoung => {
            Why::WaitingForAnswers { timeout_seconds: rolling.policy.timeout_seconds, numbers }
        }
        Finding::OverLimitLately => Why::RecentFailures { numbers },
        Finding::OverLimit | Finding::Fail => Why::ErrorRateTooHigh { numbers },
        // After a pause or a silence: what ended lately is not known yet.
        Finding::Pass => Why::WaitingForAnswers {
            timeout_seconds: u32::try_from(rolling.policy.lately_ms() / 1000).unwrap_or(u32::MAX),
            numbers,
        },
        Finding::TooFew | Finding::SharedDegradation | Finding::SampleRatioMismatch => {
            Why::WaitingForTraffic { numbers }
        }
    }
}

/// A passed step: the next one, or promotion after the bake.
fn advance(
    facts: Facts<'_>,
    rolling: &Rolling,
    index: usize,
    step: Step,
    numbers: Numbers,
) -> Next {
    let after = rolling.policy.steps.after(index);
    let Some((after, to)) = after.and_then(|after| Some((after, rolling.policy.steps.get(after)?)))
    else {
        return facts.promote(&rolling.canary, Why::Landed { numbers });
    };
    let why = Why::StepAdvanced { from: step.weight, to: to.weight, numbers };
    facts.go_to_stage(rolling, facts.fresh_step(after), why)
}

/// Nothing to do at this step but to see whether the deadline has passed.
fn wait(facts: Facts<'_>, rolling: &Rolling, timer: Timer, waiting: Why) -> Next {
    let seconds = rolling.policy.progress_deadline_seconds;
    let overdue = |waiting| Why::DeadlineExceeded { seconds, waiting: Box::new(waiting) };
    match timer {
        Timer::Stopped { .. } => facts.stay(waiting),
        Timer::Overdue => facts.stay(overdue(waiting)),
        Timer::Running { .. } => match rolling.deadline_at() {
            Some(deadline) if facts.now >= deadline => {
                let stage = with_timer(&rolling.stage, Timer::Overdue);
                facts.go_to_stage(rolling, stage, overdue(waiting))
            }
            Some(_) | None => facts.stay(waiting),
        },
    }
}

fn with_timer(stage: &Stage, now: Timer) -> Stage {
    let mut stage = stage.clone();
    if let Stage::Step { timer, .. } = &mut stage {
        *timer = now;
    }
    stage
}

/// What the present step comes to.
enum Progress {
    /// Something is remembered: that its hold begins, or what was counted by now.
    Notes(Box<Rolling>, Why),
    /// What was counted is no sample of it: it starts anew.
    Restarts(Why),
    /// Its hold has run and its counts pass.
    Passed(Numbers),
    /// Something is missing.
    Waits(Why),
}

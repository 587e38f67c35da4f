//! The decision: what the channel's rollout does next. Total, pure, one transition at a time.
//!
//! The order of the questions is the order of their rank: a failed verdict first, then the wish of
//! the spec, then commands, then a person's weight, and the steps last.

use std::time::Duration;

use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;

use crate::analysis::{Finding, Verdict};
use crate::command::{
    ABORTED, HAS_FAILED, IS_LAST_STEP, IS_MANUAL, IS_PAUSED, NOTHING_ASKED, OVERTAKEN, PROMOTED,
    RESTARTED, ROLLING_ALREADY, Ruling, STEPPED, UNDO_OF_A_ROLLOUT, order_of, readable, unanswered,
    with_ruling,
};
use crate::facts::{Facts, Next};
use crate::observation::{Mode, Observation};
use crate::order::{Command, CommandVerb};
use crate::proof::is_controlled;
use crate::start::{settled, wait_began};
use crate::state::{Phase, Rolling, Stage, State};
use crate::step::by_steps;
use crate::weighed::Weighed;
use crate::why::Why;

/// Why a step starts anew after an update of the operator.
const OLDER_FORM: &str = "the counts of this rollout were kept in an older form";
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
    pub why: Why,
    /// What the counts of the running rollout say; none without a rollout or without counts.
    pub verdict: Option<Verdict>,
    /// When to look again, if nothing happens before.
    pub requeue: Duration,
}

/// Decides. `now` is the operator's clock: of the deadline, of the record, and the second one of holds,
/// which run on the store's clock in `seen` too.
pub fn decide(state: &State, seen: &Observation, now: Timestamp) -> Decision {
    let standing;
    let seen = if seen.generation < state.generation {
        // The watch lags behind that of another operator.
        standing = Observation { command: None, ..seen.without_spec(state) };
        &standing
    } else {
        seen
    };
    let facts = Facts { state, seen, now };
    let (outcome, verdict) = match &state.phase {
        Phase::Stable { stable, former: _ } => (settled(facts, stable, true), None),
        Phase::Clearing { stable } => (settled(facts, stable, false), None),
        Phase::Rolling(rolling) => {
            let weighed = Weighed::of(facts, rolling);
            (roll(facts, rolling, weighed.as_ref()), weighed.map(|weighed| weighed.verdict))
        }
    };
    let Next { state: mut next, why, ruling } = outcome;
    if let Some(command) = unanswered(facts.state, facts.seen) {
        next = with_ruling(next, state, command, &ruling.unwrap_or(OVERTAKEN), now);
    }
    next.generation = state.generation.max(seen.generation);
    let waits = matches!(next.phase, Phase::Clearing { .. })
        && matches!(why, Why::WaitingForGateways { .. } | Why::DeadlineExceeded { .. })
        && wait_began(&next).is_none();
    next.waits_since = waits.then(|| state.waits_since.unwrap_or(now));
    let requeue = if next == *state { requeue(facts, &why) } else { SOON };
    Decision { next, why, verdict, requeue }
}

/// With a rollout: the questions in the order of their rank.
fn roll(facts: Facts<'_>, rolling: &Rolling, weighed: Option<&Weighed>) -> Next {
    let taken_back = take_back(facts, rolling, weighed.map(|weighed| &weighed.verdict));
    // What takes the canary off altogether goes before a step back.
    let goes_off = || {
        let aborts =
            |command: &Command| order_of(command, &rolling.canary) == Ok(CommandVerb::Abort);
        facts.leaves(rolling) || unanswered(facts.state, facts.seen).is_some_and(aborts)
    };
    match taken_back {
        Some(next) if next.state.rolling().is_none() || !goes_off() => return next,
        Some(_) | None => {}
    }
    if let Some(next) = leave(facts, rolling) {
        return next;
    }
    let ruling = match obey(facts, rolling) {
        Some(Ok(next)) => return next,
        Some(Err(refusal)) => Some(refusal),
        None => None,
    };
    let is_older = rolling.segments.as_slice().is_empty();
    if is_older && !matches!(rolling.stage, Stage::Failed { .. }) {
        let next = facts.restart(rolling, Why::StepRestarted { because: OLDER_FORM });
        return Next { ruling, ..next };
    }
    let next = match facts.seen.mode {
        Mode::Manual(weight) => follow(facts, rolling, weight),
        Mode::Automatic => by_steps(facts, rolling, weighed),
    };
    Next { ruling, ..next }
}

/// A failed verdict, unless a person moves the weight: then it is only reported.
fn take_back(facts: Facts<'_>, rolling: &Rolling, verdict: Option<&Verdict>) -> Option<Next> {
    let verdict = verdict.filter(|verdict| verdict.finding == Finding::Fail)?;
    if facts.seen.mode != Mode::Automatic {
        return None;
    }
    let explanation = verdict.numbers.to_string();
    match (rolling.policy.on_failure, &rolling.stage) {
        (OnFailure::Rollback, _) => Some(match control(rolling) {
            Some(to) => facts.step_back(rolling, Why::SteppedBack { to, explanation }),
            None => facts.reject(rolling, Why::RolledBack { explanation }),
        }),
        (OnFailure::Pause, Stage::Failed { .. }) => None,
        (OnFailure::Pause, Stage::Step { .. } | Stage::Manual { .. }) => {
            // A spec that asks for something else takes the canary off, which is better still.
            if facts.leaves(rolling) {
                return None;
            }
            let weight = rolling.weight();
            let stage = Stage::Failed { weight, explanation: explanation.clone() };
            let why = Why::PausedOnFailure { weight, explanation };
            Some(facts.go_to_stage(rolling, stage, why))
        }
    }
}

/// The weight to which proof without a control steps back, in the bake or just below it, and once:
/// there stable is the control, and a rejection needs proof of its own.
fn control(rolling: &Rolling) -> Option<Weight> {
    let first = rolling.policy.steps.get(0)?.weight;
    let has_control = |weight: Weight| is_controlled(weight.share());
    let back = !has_control(rolling.weight()) && has_control(first) && !rolling.stepped_back;
    back.then_some(first)
}

/// The spec asks for another revision: the canary is taken off before anything else starts.
fn leave(facts: Facts<'_>, rolling: &Rolling) -> Option<Next> {
    let desired = facts.seen.desired.as_ref().filter(|desired| **desired != rolling.canary)?;
    let why = if *desired == rolling.stable {
        Why::Reverted
    } else {
        Why::Superseded { by: desired.clone() }
    };
    let phase = Phase::Clearing { stable: rolling.stable.clone() };
    Some(facts.go(phase, &rolling.canary, why))
}

/// The standing command: what it leads to, or why it is refused.
fn obey(facts: Facts<'_>, rolling: &Rolling) -> Option<Result<Next, Ruling>> {
    let command = unanswered(facts.state, facts.seen)?;
    Some(execute(facts, rolling, command))
}

fn execute(facts: Facts<'_>, rolling: &Rolling, command: &Command) -> Result<Next, Ruling> {
    if readable(command)?.verb == CommandVerb::Undo {
        return Err(UNDO_OF_A_ROLLOUT);
    }
    let failed = matches!(rolling.stage, Stage::Failed { .. });
    match order_of(command, &rolling.canary)? {
        CommandVerb::Undo => Err(UNDO_OF_A_ROLLOUT),
        CommandVerb::Abort => {
            Ok(Next { ruling: Some(ABORTED), ..facts.reject(rolling, Why::Aborted) })
        }
        CommandVerb::Promote | CommandVerb::PromoteFull if facts.seen.desired.is_none() => {
            Err(NOTHING_ASKED)
        }
        CommandVerb::Promote | CommandVerb::PromoteFull if facts.seen.paused => Err(IS_PAUSED),
        CommandVerb::Promote => promote(facts, rolling),
        CommandVerb::PromoteFull => {
            let next = facts.promote(&rolling.canary, Why::PromotedInFull);
            Ok(Next { ruling: Some(PROMOTED), ..next })
        }
        CommandVerb::Retry if failed => {
            // By way of weight 0: a new serving forgets the counts of the failure.
            let phase = Phase::Clearing { stable: rolling.stable.clone() };
            let next = facts.go(phase, &rolling.canary, Why::Retried);
            Ok(Next { ruling: Some(RESTARTED), ..next })
        }
        CommandVerb::Retry => Err(ROLLING_ALREADY),
    }
}

/// The next step, whatever the present one still waits for. The bake is never left by it.
fn promote(facts: Facts<'_>, rolling: &Rolling) -> Result<Next, Ruling> {
    let index = match (facts.seen.mode, &rolling.stage) {
        (Mode::Manual(_), _) | (_, Stage::Manual { .. }) => return Err(IS_MANUAL),
        (Mode::Automatic, Stage::Failed { .. }) => return Err(HAS_FAILED),
        (Mode::Automatic, Stage::Step { index, .. }) => *index,
    };
    let steps = &rolling.policy.steps;
    let next = steps.after(index).and_then(|after| Some((after, steps.get(after)?.weight)));
    let (after, to) = next.ok_or(IS_LAST_STEP)?;
    let why = Why::StepPromoted { from: rolling.weight(), to };
    let next = facts.go_to_stage(rolling, facts.fresh_step(after), why);
    Ok(Next { ruling: Some(STEPPED), ..next })
}

/// Manual: the weight as written. While paused only downwards, since going back is never held.
fn follow(facts: Facts<'_>, rolling: &Rolling, wanted: Weight) -> Next {
    let present = rolling.weight();
    let held_back = facts.held_back();
    let weight = if held_back.is_some() { wanted.min(present) } else { wanted };
    if wanted == Weight::FULL && held_back.is_none() {
        return facts.promote(&rolling.canary, Why::ManuallyPromoted);
    }
    match rolling.stage {
        Stage::Manual { weight: held }
            if held == weight && wanted == weight && facts.seen.desired.is_some() =>
        {
            facts.stay(Why::AwaitingPromotion { weight })
        }
        Stage::Manual { weight: held } if held == weight => {
            facts.stay(held_back.unwrap_or(Why::AwaitingPromotion { weight }))
        }
        Stage::Manual { .. } | Stage::Step { .. } | Stage::Failed { .. } => {
            let why = if weight == present {
                Why::ModeChanged { weight }
            } else {
                Why::WeightSet { weight }
            };
            facts.go_to_stage(rolling, Stage::Manual { weight }, why)
        }
    }
}

fn requeue(facts: Facts<'_>, why: &Why) -> Duration {
    match (why, facts.state.rolling()) {
        (Why::WaitingForGateways { .. }, _) => SOON,
        (_, Some(rolling)) => {
            let interval = u64::from(rolling.policy.interval_seconds.max(1));
            let left =
                if let Why::Holding { seconds_left, .. } = why { *seconds_left } else { interval };
            Duration::from_secs(interval.min(left))
        }
        (Why::WaitingForEvidence, None) => UNANSWERED,
        (_, None) => IDLE,
    }
}

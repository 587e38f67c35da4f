//! Without a rollout: why none starts, or the start of the one that the spec asks for. Pure.

use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;

use crate::bounds::MAX_REJECTED;
use crate::command::{
    CLEARED, NO_ROLLOUT, NOTHING_ASKED, NOTHING_REJECTED, NOTHING_TO_UNDO, Ruling, UNDONE,
    order_of, readable, unanswered,
};
use crate::facts::{Facts, Next};
use crate::observation::Mode;
use crate::order::{Command, CommandOrder, CommandVerb};
use crate::segments::{Begins, Segments};
use crate::state::{Phase, Rolling, Stage, State};
use crate::why::Why;

/// Without a rollout: answers commands and starts the rollout that the spec asks for.
pub(crate) fn settled(facts: Facts<'_>, stable: &RevisionName, cleared: bool) -> Next {
    let ordered = unanswered(facts.state, facts.seen);
    let ruling = match ordered.map(|command| execute(facts, stable, command)) {
        None => None,
        Some(Ok(next)) => return next,
        Some(Err(refusal)) => Some(refusal),
    };
    if let Some(former) = warm(facts).filter(|former| facts.seen.desired.as_ref() == Some(*former))
    {
        // It is known, so it needs no analysis.
        let phase = Phase::Stable { stable: former.clone(), former: None };
        return Next { ruling, ..facts.go(phase, former, Why::Reverted) };
    }
    let next = match &facts.seen.desired {
        None => facts.stay(Why::NothingAsked),
        Some(desired) => match why_not(facts, stable, desired, cleared) {
            Some(why) => facts.stay(why),
            None => start(facts, stable, desired),
        },
    };
    Next { ruling, ..next }
}

/// The standing command: what it leads to, or why it is refused.
fn execute(facts: Facts<'_>, stable: &RevisionName, command: &Command) -> Result<Next, Ruling> {
    let CommandOrder { verb, revision } = readable(command)?;
    match verb {
        CommandVerb::Retry if revision.is_none() && facts.seen.desired.is_none() => {
            Err(NOTHING_ASKED)
        }
        CommandVerb::Retry => retry_rejected(facts, revision.as_ref()).ok_or(NOTHING_REJECTED),
        // What would serve then is compiled from a spec.
        CommandVerb::Undo if facts.seen.desired.is_none() => Err(NOTHING_ASKED),
        CommandVerb::Undo => {
            order_of(command, stable)?;
            undo(facts, stable).ok_or(NOTHING_TO_UNDO)
        }
        CommandVerb::Abort | CommandVerb::Promote | CommandVerb::PromoteFull => Err(NO_ROLLOUT),
    }
}

/// Why no rollout starts now.
fn why_not(
    facts: Facts<'_>,
    stable: &RevisionName,
    desired: &RevisionName,
    cleared: bool,
) -> Option<Why> {
    let seen = facts.seen;
    if desired == stable {
        return Some(Why::Completed);
    }
    if let Some(rejection) = facts.state.rejection(desired) {
        let because = |reason: Reason| rejection.reason == reason.as_str();
        return Some(if because(Reason::Aborted) {
            Why::Aborted
        } else if because(Reason::Undone) {
            Why::Undone
        } else {
            Why::RolledBack { explanation: rejection.message.clone() }
        });
    }
    if facts.state.rejected.len() >= MAX_REJECTED {
        return Some(Why::RejectedFull);
    }
    if seen.paused {
        return Some(Why::Paused);
    }
    if cleared {
        return None;
    }
    match &seen.store {
        None => Some(Why::WaitingForEvidence),
        Some(store) if store.in_force(facts.state.serving) => None,
        Some(store) => Some(overdue(facts, facts.waiting_for_gateways(store))),
    }
}

/// What the canary that went made way for waits no longer in silence than a rollout may.
fn overdue(facts: Facts<'_>, waiting: Why) -> Why {
    let seconds = facts.seen.policy.progress_deadline_seconds;
    match wait_began(facts.state).or(facts.state.waits_since) {
        Some(since) if facts.now >= since.plus_seconds(seconds) => {
            Why::DeadlineExceeded { seconds, waiting: Box::new(waiting) }
        }
        Some(_) | None => waiting,
    }
}

/// When the canary went for what waits now, if the last transition says so. After a rollback the wait begins
/// with the next spec, and the state keeps when that was.
pub(crate) fn wait_began(state: &State) -> Option<Timestamp> {
    let leads_on = [Reason::Superseded, Reason::Retried, Reason::Rebuilt].map(Reason::as_str);
    let last = state.history.first().filter(|last| leads_on.contains(&last.reason.as_str()))?;
    Some(last.at)
}

fn start(facts: Facts<'_>, stable: &RevisionName, desired: &RevisionName) -> Next {
    let seen = facts.seen;
    let (stage, begins) = match seen.mode {
        Mode::Manual(Weight::FULL) => {
            return facts.promote(desired, Why::ManuallyPromoted);
        }
        Mode::Manual(weight) => (Stage::Manual { weight }, Begins::Rollout),
        Mode::Automatic => (facts.fresh_step(0), Begins::FirstStep),
    };
    let mut rolling = Rolling {
        stable: stable.clone(),
        canary: desired.clone(),
        policy: seen.policy.clone(),
        stage,
        segments: Segments::default(),
        stepped_back: false,
    };
    rolling.begin(begins, facts.state.serving.saturating_add(1));
    let why = Why::RolloutStarted { weight: rolling.weight() };
    facts.go(Phase::Rolling(Box::new(rolling)), desired, why)
}

/// The revision before the last promotion, while it may be put back.
fn warm(facts: Facts<'_>) -> Option<&RevisionName> {
    let Phase::Stable { former: Some(former), .. } = &facts.state.phase else { return None };
    let until = former.replaced_at.plus_seconds(facts.seen.rollback_window_seconds);
    (facts.now < until).then_some(&former.revision)
}

/// `undo`: the former revision serves. The one that it leaves is rejected, or the spec that still asks
/// for it would start it again.
fn undo(facts: Facts<'_>, stable: &RevisionName) -> Option<Next> {
    let phase = Phase::Stable { stable: warm(facts)?.clone(), former: None };
    let next = facts.go(phase, stable, Why::Undone);
    let state = next.state.with_rejection(stable.clone(), &next.why, facts.now);
    Some(Next { state, ruling: Some(UNDONE), ..next })
}

/// `retry` without a rollout: clears the rejection of the revision that it names, or of the one that the
/// spec asks for.
fn retry_rejected(facts: Facts<'_>, named: Option<&RevisionName>) -> Option<Next> {
    let wanted = named.or(facts.seen.desired.as_ref())?;
    let revision = facts.state.rejection(wanted)?.revision.clone();
    let mut state = facts.state.clone();
    state.rejected.retain(|rejection| rejection.revision != revision);
    let state = state.with_transition(&Why::Retried, revision, facts.now);
    Some(Next { state, why: Why::Retried, ruling: Some(CLEARED) })
}

//! Decide: what follows from a survey. Pure; the core decides.
//!
//! It decides twice. The second decision is the one without the spec: it is written when what the spec
//! asks for cannot be had, so that a canary is never left alone because something else is wrong.

use kanarie_rollout::decide::{Decision, decide as by_core};
use kanarie_rollout::observation::{Mode, Observation};
use kanarie_words::timestamp::Timestamp;

use crate::reconcile::observe::Survey;

/// What is to be done.
pub struct Decisions {
    /// By the spec.
    pub wanted: Decision,
    /// If the revision that the spec asks for cannot be made, or cannot serve.
    pub otherwise: Decision,
}

/// Decides.
pub fn decide(survey: &Survey, now: Timestamp) -> Decisions {
    // Only what takes a canary off is worth a person's word then.
    let command = survey.observation.command.clone();
    let command = command.filter(|_| survey.state.rolling().is_some());
    let standing = survey.observation.without_spec(&survey.state);
    let mode = match (standing.mode, survey.observation.mode) {
        // A person's weight still goes down; from steps to his weight it does not go now.
        (Mode::Manual(_), Mode::Manual(weight)) => Mode::Manual(weight),
        (stands, _) => stands,
    };
    let paused = survey.observation.paused;
    let unasked = Observation { command, mode, paused, ..standing };
    Decisions {
        wanted: by_core(&survey.state, &survey.observation, now),
        otherwise: by_core(&survey.state, &unasked, now),
    }
}

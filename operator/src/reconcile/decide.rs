//! Decide: what follows from a survey. Pure; the core decides.
//!
//! It decides twice. The second decision is the one without the spec: it is written when what the spec
//! asks for cannot be had, so that a canary is never left alone because something else is wrong.

use kanarie_rollout::decide::{Decision, decide as by_core};
use kanarie_rollout::observation::Observation;
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
    let unasked = Observation { desired: None, ..survey.observation.clone() };
    Decisions {
        wanted: by_core(&survey.state, &survey.observation, now),
        otherwise: by_core(&survey.state, &unasked, now),
    }
}

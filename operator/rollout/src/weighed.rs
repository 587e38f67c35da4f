//! What one look says of a rollout that runs: every count as of now, and what it is worth.
//!
//! Takes the facts of a decision; gives its segments with all that was counted by now, the verdict on
//! them, and whether stable suffers. Nothing without an answer of the store. Decides nothing.

use crate::analysis::{Case, Verdict, judge};
use crate::facts::Facts;
use crate::segments::Segments;
use crate::state::Rolling;
use crate::suffering::suffers;
use crate::tally::Sum;

/// The counts of a rollout and what they are worth.
pub(crate) struct Weighed {
    /// The segments with everything that was counted by now.
    pub(crate) segments: Segments,
    pub(crate) verdict: Verdict,
    /// Whether both tracks suffer under the present serving, since the last cut.
    pub(crate) suffers: bool,
}

impl Weighed {
    pub(crate) fn of(facts: Facts<'_>, rolling: &Rolling) -> Option<Self> {
        let (present, moment) = (facts.present()?, facts.moment()?);
        let segments = rolling.segments.with(&facts.counted());
        let now = (present.stable.sum(), present.canary.sum());
        let policy = &rolling.policy;
        // What ends late of a former serving ended lately as well.
        let late = |before: &Segments| {
            let of_others = before.as_slice().iter().filter(|one| one.serving != present.serving);
            of_others.fold(Sum::default(), |sum, one| sum.plus(one.canary))
        };
        let late = late(&segments).minus(late(&rolling.segments));
        let suffers = suffers(&segments, policy);
        let (earlier, lately, degraded, counted_ms) = match rolling.hold() {
            Some(hold) => {
                let age_ms = policy.timeout_ms();
                let earlier = if age_ms == 0 { now } else { hold.ago(moment, age_ms) };
                let (_, lately) = hold.ago(moment, policy.lately_ms());
                let degraded = hold.degraded.is_some() || suffers;
                (earlier, now.1.minus(lately), degraded, moment.millis_since(hold.began))
            }
            None => (now, now.1, false, 0),
        };
        let verdict = judge(&Case {
            policy,
            segments: &segments,
            present,
            earlier,
            lately: lately.plus(late),
            degraded,
            counted_ms,
        });
        Some(Self { segments, verdict, suffers })
    }
}

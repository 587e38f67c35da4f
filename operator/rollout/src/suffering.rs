//! Whether stable suffers as well: an outage that says nothing about the canary.
//!
//! Takes the segments of a rollout, says yes or no of what was counted since the last cut. Under 75 %
//! stable's own failures say so, from there on the failures of the canary that stable could not rescue.

use crate::likelihood::{fixed_rate, mixture};
use crate::mismatch::real_share;
use crate::policy::Policy;
use crate::proof::{blamed, is_controlled};
use crate::segments::Segments;

/// Odds at which it is believed that more fail than a step may let pass.
const BELIEVED: f64 = 20.0;

/// Failures of the canary without which its sample is as good as before.
const FEWEST: u64 = 2;

/// Whether both tracks fail far over the limit since the last cut.
pub(crate) fn suffers(segments: &Segments, policy: &Policy) -> bool {
    let Some(last) = segments.as_slice().last() else { return false };
    let bar = policy.certified(last.limit);
    // Without a failure nothing speaks for it, and logarithms cost time.
    let is_over = |failures, successes| {
        failures > 0 && mixture(fixed_rate(bar).of_one(failures, successes)) >= BELIEVED
    };
    let (stable, canary) = (last.stable, last.canary);
    let share = real_share(segments.as_slice(), last.serving);
    if is_controlled(share) {
        // A canary that mends what is broken is no part of the outage.
        let half = stable.failures.saturating_mul(5_000) / stable.messages.max(1);
        let alike = canary.is_over(last.limit.max(u32::try_from(half).unwrap_or(u32::MAX)));
        alike && canary.failures >= FEWEST && is_over(stable.failures, stable.successes())
    } else {
        let shared = canary.customers.failed.saturating_sub(blamed(last, share, policy));
        is_over(shared, canary.successes())
    }
}

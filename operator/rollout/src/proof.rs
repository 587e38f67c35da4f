//! Proof against a canary: one e-process over all segments of a rollout, with alpha 1 % in all.
//!
//! Takes segments, gives the evidence and whether it is proof. Under weight 75 a segment says whose
//! customers failed, the canary's or stable's in the same time; from 75 on it says whether the canary
//! fails more than the limit. Their data are disjoint, so the product of their likelihood ratios is
//! one e-process: at most 1 at the mean while the canary is no worse than stable and within its limit.
//! So is its mixture over ratios and over starts that the policy fixed beforehand, and reaching 100
//! has a probability of at most 1 %, however often one looks (Robbins 1970; Ville 1939). Never
//! decides what follows.

use kanarie_words::weight::Weight;

use crate::likelihood::{Alternatives, WORSE, comparative, fixed_rate, mixture};
use crate::mismatch::real_share;
use crate::policy::Policy;
use crate::segments::{Segment, whole};
use crate::tally::Sum;

/// Evidence that is proof: 1 / alpha, with alpha 1 %.
pub const PROOF: u64 = 100;
/// Fewest customers that a bad canary has failed.
const MIN_CUSTOMERS: u64 = 3;
/// From this share on there is too little control, and the canary is held against the limit.
const FIXED_RATE_FROM: f64 = 0.75;

/// The evidence against the canary: `PROOF` and more is proof. Starts from which on the canary has
/// not failed three customers and the policy's limit say nothing.
pub(crate) fn evidence(segments: &[Segment], policy: &Policy) -> f64 {
    let whole = f64::from(whole(policy.steps.count()).max(1));
    let mut logs = [0.0; WORSE.len()];
    let (mut evidence, mut since) = (0.0, Since::default());
    let mut known: Option<Yardstick> = None;
    for segment in segments.iter().rev() {
        // Segments of one serving are alike in all that costs logarithms.
        let same = known.filter(|known| known.is_of(segment));
        let yardstick = same.unwrap_or_else(|| Yardstick::of(segment, segments));
        known = Some(yardstick);
        let failed = blamed(segment, yardstick.share, policy);
        for (log, more) in logs.iter_mut().zip(yardstick.likelihoods(segment, failed)) {
            *log += more;
        }
        since.take(segment, failed);
        if segment.mass > 0 && since.is_material(policy) {
            evidence += f64::from(segment.mass) / whole * mixture(logs);
        }
    }
    // What is no number fails nobody.
    if evidence.is_nan() { 0.0 } else { evidence }
}

/// Customers of the canary that count against it in this segment, where it had that share.
pub(crate) fn blamed(segment: &Segment, share: f64, policy: &Policy) -> u64 {
    let customers = segment.canary.customers;
    // Without a control a rescue is the only witness: stable could answer what the canary could not.
    if is_controlled(share) || !policy.retry_on_stable {
        customers.failed
    } else {
        customers.rescued.min(customers.failed)
    }
}

/// Whether enough is left for stable to compare with.
pub(crate) fn is_controlled(share: f64) -> bool {
    share < FIXED_RATE_FROM
}

/// What the segments of a serving are held against.
#[derive(Clone, Copy)]
struct Yardstick {
    serving: u64,
    limit: u32,
    share: f64,
    alternatives: Alternatives<{ WORSE.len() }>,
}

impl Yardstick {
    fn of(segment: &Segment, segments: &[Segment]) -> Self {
        let Segment { serving, limit, .. } = *segment;
        let share = real_share(segments, serving);
        let controlled = is_controlled(share);
        let alternatives = if controlled { comparative(share, WORSE) } else { fixed_rate(limit) };
        Self { serving, limit, share, alternatives }
    }

    fn is_of(&self, segment: &Segment) -> bool {
        (self.serving, self.limit) == (segment.serving, segment.limit)
    }

    fn likelihoods(&self, segment: &Segment, failed: u64) -> [f64; WORSE.len()] {
        if segment.weight == Weight::ZERO {
            return [0.0; WORSE.len()];
        }
        if is_controlled(self.share) {
            self.alternatives.of_both(failed, segment.stable.customers.failed)
        } else {
            // Later failures of a customer who failed before are neither: his coin is tossed.
            self.alternatives.of_one(failed, segment.canary.successes())
        }
    }
}

/// What happened since a start.
#[derive(Default)]
struct Since {
    canary: Sum,
    /// Of the serving that is added up: a customer who fails under two servings is one customer.
    serving: u64,
    blamed: u64,
    most_blamed: u64,
}

impl Since {
    fn take(&mut self, segment: &Segment, failed: u64) {
        self.canary = self.canary.plus(segment.canary);
        if self.serving != segment.serving {
            (self.serving, self.blamed) = (segment.serving, 0);
        }
        self.blamed = self.blamed.saturating_add(failed);
        self.most_blamed = self.most_blamed.max(self.blamed);
    }

    fn is_material(&self, policy: &Policy) -> bool {
        self.most_blamed >= MIN_CUSTOMERS && self.canary.is_over(policy.max_error_basis_points)
    }
}

//! Whether the customers of the two tracks are as many as the weight says.
//!
//! Takes segments, gives the share that a weight really had. Without proof that it was another one it
//! is the weight's. Never blames anybody: shares that do not match are a fault of the product or of
//! the gateways, and the comparison of customers rests on them.

use kanarie_words::weight::Weight;

use crate::likelihood::{comparative, mixture};
use crate::segments::Segment;
use crate::tally::Sum;

/// Evidence against the weight from which on it is believed: one in a thousand by chance.
const PROOF: f64 = 1_000.0;
/// Shares that are a tenth off are still called the weight's.
const TOLERANCE: f64 = 0.1;
/// How much more or less likely the canary may be than its weight says; mixed evenly.
const RATIOS: [f64; 6] = [0.25, 0.5, 0.8, 1.25, 2.0, 4.0];

/// The share of the customers that the comparison of a serving rests on: never less than its weight.
pub(crate) fn real_share(segments: &[Segment], serving: u64) -> f64 {
    let weight = segments.iter().find(|one| one.serving == serving).map(|one| one.weight);
    let nominal = weight.unwrap_or(Weight::ZERO).share();
    mismatch(segments, serving).map_or(nominal, |share| share.max(nominal))
}

/// The share of the canary's customers under a serving, if it is proven not to be the weight's.
pub(crate) fn mismatch(segments: &[Segment], serving: u64) -> Option<f64> {
    let of = || segments.iter().filter(|one| one.serving == serving);
    let weight = of().next()?.weight;
    if weight == Weight::ZERO || weight == Weight::FULL {
        return None;
    }
    let (stable, canary) = of().fold((Sum::default(), Sum::default()), |(stable, canary), one| {
        (stable.plus(one.stable), canary.plus(one.canary))
    });
    let (ours, theirs) = (canary.customers.asked, stable.customers.asked);
    let share = ours as f64 / (ours as f64 + theirs as f64);
    let off = (share - weight.share()).abs() > TOLERANCE * weight.share();
    let evidence = || mixture(comparative(weight.share(), RATIOS).of_both(ours, theirs));
    (off && evidence() >= PROOF).then_some(share)
}

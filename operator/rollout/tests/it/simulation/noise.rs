//! What it costs to pass a step by the comparison with stable, on a channel where both tracks fail alike.
//!
//! Takes a weight and an error rate, asks the production judge after each failure of stable, the only
//! moment at which that comparison can begin to pass; gives the median of the messages of both tracks.

use kanarie_rollout::analysis::{Case, Finding, judge};
use kanarie_rollout::policy::Policy;
use kanarie_rollout::segments::Segments;
use kanarie_rollout::tally::{ServingTally, Sum, Tally};

use crate::simulation::draws::Draws;

/// The weight and the rate of the sentence in the docs.
pub(crate) const WEIGHT: u8 = 10;
pub(crate) const RATE: f64 = 0.02;
/// Rollouts of which the median is taken.
const ROLLOUTS: u64 = 10_001;
/// After so many messages nobody waits any more.
const MOST: u64 = 100_000;

/// The median, to the hundred, as it stands in the docs.
pub(crate) fn messages(policy: &Policy) -> String {
    // A limit so low that no step passes by its own rate.
    let policy = Policy { max_error_basis_points: 1, ..policy.clone() };
    let mut messages: Vec<u64> = (0..ROLLOUTS).map(|seed| until_as_good(&policy, seed)).collect();
    messages.sort_unstable();
    let hundreds = (messages[messages.len() / 2] + 50) / 100;
    format!("{},{}00", hundreds / 10, hundreds % 10)
}

/// Messages of both tracks until the judge passes the step, each of another customer.
fn until_as_good(policy: &Policy, seed: u64) -> u64 {
    let mut chance = Draws::new(seed, 6);
    let first = serde_json::json!({ "list": [{
        "of": 1, "w": WEIGHT, "limit": policy.max_error_basis_points, "mass": 1,
        "s": Sum::default(), "c": Sum::default(),
    }], "spent": 1 });
    let first: Segments = serde_json::from_value(first).unwrap();
    let mut present = ServingTally { serving: 1, ..ServingTally::default() };
    for messages in 1..=MOST {
        let on_canary = chance.chance(f64::from(WEIGHT) / 100.0);
        let fails = chance.chance(RATE);
        asked(if on_canary { &mut present.canary } else { &mut present.stable }, fails);
        if fails && !on_canary && passes(policy, &first.with(&[present]), present) {
            return messages;
        }
    }
    MOST
}

fn asked(tally: &mut Tally, fails: bool) {
    tally.success += u64::from(!fails);
    tally.http += u64::from(fails);
    tally.customers.asked += 1;
    tally.customers.failed += u64::from(fails);
}

fn passes(policy: &Policy, segments: &Segments, present: ServingTally) -> bool {
    let verdict = judge(&Case {
        policy,
        segments,
        present,
        earlier: (present.stable.sum(), present.canary.sum()),
        lately: Sum::default(),
        degraded: false,
        counted_ms: 0,
    });
    verdict.finding == Finding::Pass
}

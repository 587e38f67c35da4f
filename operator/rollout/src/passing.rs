//! Whether a step's own counts are good enough, what they certify, and what is missing.
//!
//! Takes the counts of one serving; gives yes or no and numbers for people. A step passes by its own
//! rate and Wald's test against the rate that it is to exclude (Wald 1945), or, where there is a
//! control, by excluding that the canary is twice as bad. Knows no time and no hold.

use crate::likelihood::comparative;
use crate::policy::Policy;
use crate::tally::Sum;

/// Odds at which a bad canary counts as excluded: one in twenty passes a step all the same.
const EXCLUDED: f64 = 20.0;
/// How much worse than stable is no longer as good.
pub(crate) const NOT_AS_GOOD: f64 = 2.0;

/// The counts of one serving. What speaks for the canary is older than what speaks against it: an
/// answer takes seconds and a failure up to the agent's deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// Messages that the canary answered.
    pub(crate) successes: u64,
    /// Messages that it failed.
    pub(crate) failures: u64,
    /// Customers that it failed.
    pub(crate) failed: u64,
    /// Customers that stable failed.
    pub(crate) failed_by_stable: u64,
}

/// Error rates in basis points: the one that a step may have and the one that it is to exclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) limit: u32,
    pub(crate) certify: u32,
}

impl Own {
    /// What speaks for the canary as of an earlier look, and what speaks against it as of now.
    pub(crate) fn of(earlier: (Sum, Sum), now: (Sum, Sum)) -> Self {
        let ((stable, canary), (_, present)) = (earlier, now);
        Self {
            successes: canary.successes(),
            failures: present.failures,
            failed: present.customers.failed,
            failed_by_stable: stable.customers.failed,
        }
    }

    /// All of them.
    pub(crate) fn sum(self) -> Sum {
        let messages = self.successes.saturating_add(self.failures);
        Sum { messages, failures: self.failures, ..Sum::default() }
    }

    /// Whether the rate is within the limit and the worse one excluded.
    pub(crate) fn passes(self, bar: Bar) -> bool {
        let enough = self.wald(bar.limit, bar.certify) <= -EXCLUDED.ln();
        self.sum().messages > 0 && !self.sum().is_over(bar.limit) && enough
    }

    /// Whether it is excluded that the canary fails twice as many customers as stable.
    pub(crate) fn is_as_good(self, share: f64) -> bool {
        let [twice] = comparative(share, [NOT_AS_GOOD]).of_both(self.failed, self.failed_by_stable);
        -twice >= EXCLUDED.ln()
    }

    /// The lowest error rate over the limit that is excluded by now, in basis points.
    pub(crate) fn certifies(self, limit: u32) -> Option<u32> {
        // What the limit makes of a success is the same for every rate.
        let of_limit = (-share(limit)).ln_1p();
        let excluded = |rate: u32| self.ratio(limit, rate, of_limit) <= -EXCLUDED.ln();
        // The ratio rises up to the rate that was seen and falls from there on.
        let sum = self.sum();
        let seen = u128::from(self.failures) * 10_000 / u128::from(sum.messages.max(1));
        let (mut low, mut high) = (limit.max(u32::try_from(seen).unwrap_or(u32::MAX)), 9_999);
        if low >= high || !excluded(high) {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if excluded(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }

    /// How many more messages without a failure pass.
    pub(crate) fn missing(self, policy: &Policy, bar: Bar) -> u64 {
        let sum = self.sum();
        let floor = policy.min_messages.max(1).saturating_sub(sum.messages);
        let within = u128::from(self.failures) * 10_000 / u128::from(bar.limit.max(1));
        let within = u64::try_from(within).unwrap_or(u64::MAX).saturating_sub(sum.messages);
        let per_success = -per_success(bar.limit, bar.certify);
        let over = self.wald(bar.limit, bar.certify) + EXCLUDED.ln();
        // From float to integer is saturating, and what is no number becomes 0.
        let certain = if over > 0.0 { (over / per_success).ceil() as u64 } else { 0 };
        floor.max(within).max(certain)
    }

    /// Wald's ratio of the bad rate against the good one, as a logarithm.
    fn wald(self, good: u32, bad: u32) -> f64 {
        self.ratio(good, bad, (-share(good)).ln_1p())
    }

    fn ratio(self, good: u32, bad: u32, success_of_good: f64) -> f64 {
        // Nothing at all times what costs a logarithm.
        let failed = self.failures > 0;
        let per_failure = if failed { (share(bad) / share(good)).ln() } else { 0.0 };
        let per_success = (-share(bad)).ln_1p() - success_of_good;
        self.failures as f64 * per_failure + self.successes as f64 * per_success
    }
}

fn per_success(good: u32, bad: u32) -> f64 {
    (-share(bad)).ln_1p() - (-share(good)).ln_1p()
}

/// A rate that is neither nothing nor everything.
fn share(basis_points: u32) -> f64 {
    f64::from(basis_points.clamp(1, 9_999)) / 10_000.0
}

/// The upper 95 % bound of an error rate, in basis points (Wilson 1927, one-sided); none without a
/// message.
pub(crate) fn upper_bound(sum: Sum) -> Option<u32> {
    const Z: f64 = 1.644_853_627;
    let (n, rate) = (sum.messages as f64, sum.failures as f64 / sum.messages as f64);
    let middle = rate + Z * Z / (2.0 * n);
    let spread = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
    let bound = (middle + spread) / (1.0 + Z * Z / n) * 10_000.0;
    (sum.messages > 0).then_some(bound.ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::{Bar, Own, upper_bound};
    use crate::tally::Sum;

    fn own(successes: u64, failures: u64) -> Own {
        Own { successes, failures, failed: failures, failed_by_stable: 0 }
    }

    fn first_pass(limit: u32, certify: u32) -> u64 {
        (1..1_000).find(|n| own(*n, 0).passes(Bar { limit, certify })).unwrap()
    }

    #[test]
    fn messages_without_a_failure_that_exclude_five_ten_and_twenty_percent() {
        assert_eq!([500, 1_000, 2_000].map(|certify| first_pass(100, certify)), [73, 32, 15]);
    }

    #[test]
    fn what_is_certified_is_what_passes() {
        for (successes, failures) in [(73, 0), (200, 1), (1_000, 5), (31, 0)] {
            let own = own(successes, failures);
            let rate = own.certifies(100).unwrap();
            assert!(own.passes(Bar { limit: 100, certify: rate }), "{rate}");
            assert!(!own.passes(Bar { limit: 100, certify: rate - 1 }), "{rate}");
        }
    }

    #[test]
    fn a_control_that_fails_as_often_excludes_twice_as_bad() {
        let own = |failed, failed_by_stable| Own { failed, failed_by_stable, ..Own::default() };
        assert!(!own(0, 0).is_as_good(0.1) && !own(0, 31).is_as_good(0.1));
        assert!(own(0, 32).is_as_good(0.1) && own(12, 108).is_as_good(0.1));
        assert!(!own(24, 108).is_as_good(0.1));
    }

    #[test]
    fn the_bound_of_a_rate_is_over_the_rate_and_near_it_with_many_messages() {
        let bound = |failures, messages| upper_bound(Sum { messages, failures, ..Sum::default() });
        assert_eq!(bound(0, 0), None);
        assert!((45..60).contains(&bound(0, 570).unwrap()));
        assert!((200..220).contains(&bound(2_000, 100_000).unwrap()));
    }
}

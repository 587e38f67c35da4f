//! Likelihood ratios: how much likelier the counts are if the canary is worse by one of some ratios.
//!
//! Takes counts, gives logarithms of ratios and their mixtures. Every one of them is at most 1 at the
//! mean while what it tests is true. Never gives what is no number.

/// How much worse than its control, or than a limit, a bad track may be; mixed evenly.
pub(crate) const WORSE: [f64; 4] = [2.0, 4.0, 10.0, 40.0];
/// No alternative to a limit is over this error rate.
const HIGHEST_ALTERNATIVE: f64 = 0.9;

/// Alternatives, each as what one failure and what everything else is worth to it, in logarithms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alternatives<const N: usize>([(f64, f64); N]);

/// Of two tracks. If both are alike, one more is ours with the probability of our share, whatever
/// the rate is at that moment.
pub(crate) fn comparative<const N: usize>(share: f64, ratios: [f64; N]) -> Alternatives<N> {
    Alternatives(ratios.map(|ratio| (ratio.ln(), -(1.0 - share + share * ratio).ln())))
}

/// Of one track against a limit in basis points: within it each message fails with at most that
/// probability.
pub(crate) fn fixed_rate(limit: u32) -> Alternatives<{ WORSE.len() }> {
    // A limit of nothing at all would make the first failure infinite evidence.
    let limit = f64::from(limit.max(1)) / 10_000.0;
    Alternatives(WORSE.map(|ratio| {
        let alternative = (ratio * limit).min(HIGHEST_ALTERNATIVE);
        if alternative <= limit {
            return (0.0, 0.0);
        }
        let per_success = (-alternative).ln_1p() - (-limit).ln_1p();
        ((alternative / limit).ln(), per_success)
    }))
}

impl<const N: usize> Alternatives<N> {
    /// How much likelier each of them makes these counts: our failures and theirs.
    pub(crate) fn of_both(&self, ours: u64, theirs: u64) -> [f64; N] {
        self.of(ours as f64, ours as f64 + theirs as f64)
    }

    /// How much likelier each of them makes these counts of one track.
    pub(crate) fn of_one(&self, failures: u64, successes: u64) -> [f64; N] {
        self.of(failures as f64, successes as f64)
    }

    fn of(&self, failures: f64, others: f64) -> [f64; N] {
        self.0.map(|(per_failure, per_other)| failures * per_failure + others * per_other)
    }
}

/// The even mixture of ratios that are given as logarithms.
pub(crate) fn mixture<const N: usize>(logs: [f64; N]) -> f64 {
    logs.iter().map(|log| log.exp()).sum::<f64>() / N as f64
}

#[cfg(test)]
mod tests {
    use super::{WORSE, comparative, fixed_rate, mixture};

    #[test]
    fn a_silent_control_needs_three_failures_at_a_tenth_and_nine_at_a_half() {
        let evidence = |failed, share| mixture(comparative(share, WORSE).of_both(failed, 0));
        assert!(evidence(2, 0.1) < 100.0 && evidence(3, 0.1) >= 100.0);
        assert!(evidence(8, 0.5) < 100.0 && evidence(9, 0.5) >= 100.0);
    }

    #[test]
    fn no_counts_and_no_limit_give_what_is_no_number() {
        for failures in [0, 1, u64::MAX] {
            for successes in [0, 1, u64::MAX] {
                for limit in [0, 1, 9_999, 10_000, u32::MAX] {
                    assert!(!mixture(fixed_rate(limit).of_one(failures, successes)).is_nan());
                }
                for share in [0.01, 0.5, 0.99] {
                    let both = comparative(share, WORSE).of_both(failures, successes);
                    assert!(!mixture(both).is_nan());
                }
            }
        }
    }
}

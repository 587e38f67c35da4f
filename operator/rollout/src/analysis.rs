//! The judge: counts in, verdict out. Replace `judge` and nothing else to judge differently.
//!
//! Takes the snapshotted policy, the counts of finished steps and those of the present one. Needs
//! no clock and no memory. Never decides what follows from a verdict.

use std::fmt;

use kanarie_words::weight::Weight;

use crate::policy::Policy;
use crate::tally::{FinishedStep, ServingTally, Sum, Tally};

/// Evidence against equal error rates at which a rollout fails: 1 / alpha, with alpha 1 %.
const THRESHOLD: f64 = 100.0;
/// Fewest failures of the canary with which a rollout fails.
const MIN_FAILURES: u64 = 3;
/// Share of the mixture for a canary that is bad from the start; the rest is shared evenly by the
/// later steps. With it a silent stable needs three failures at 10 % and ten at 50 %.
const WHOLE_ROLLOUT: f64 = 0.6;
/// From this weight on there is too little control, and the canary is held against the limit.
const FIXED_RATE_FROM: u8 = 75;
/// How much worse than its control, or than the limit, a bad canary may be; mixed evenly.
const RATIOS: [f64; 4] = [2.0, 4.0, 10.0, 40.0];
/// No alternative of the fixed-rate test is over this error rate.
const HIGHEST_ALTERNATIVE: f64 = 0.9;

/// Everything that is judged of one rollout.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The policy as it was when the rollout started.
    pub policy: &'a Policy,
    /// Counts of earlier servings of the rollout.
    pub finished: &'a [FinishedStep],
    /// Weight of the present serving.
    pub weight: Weight,
    /// Counts of the present serving.
    pub present: ServingTally,
    /// Part of the present canary counts that no longer helps to pass.
    pub base: Tally,
}

/// What the counts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Pass, Fail or Inconclusive.
    pub finding: Finding,
    /// Numbers of the present step.
    pub numbers: Numbers,
    /// The numbers and the test behind the finding, in one sentence.
    pub explanation: String,
}

/// Pass, Fail or Inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The step's own counts are good enough.
    Pass,
    /// The canary is bad, beyond the doubt that the test allows.
    Fail,
    /// Neither can be said: too few messages.
    TooFew,
    /// Neither can be said: the rate is over the limit, without proof against the canary.
    OverLimit,
    /// Neither can be said: the rate is over the limit on both tracks.
    SharedDegradation,
}

impl Finding {
    /// Pass, Fail or Inconclusive.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Fail => "Fail",
            Self::TooFew | Self::OverLimit | Self::SharedDegradation => "Inconclusive",
        }
    }
}

/// Numbers of the present step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Judged messages of the canary.
    pub canary_messages: u64,
    /// Failed ones among them.
    pub canary_failures: u64,
    /// Judged messages of stable in the same time.
    pub stable_messages: u64,
    /// Failed ones among them.
    pub stable_failures: u64,
    /// Messages of the canary that the step needs.
    pub needed: u64,
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "canary {} of {} messages, {} failed; stable {} messages, {} failed",
            self.canary_messages,
            self.needed,
            self.canary_failures,
            self.stable_messages,
            self.stable_failures
        )
    }
}

/// Judges a rollout: Fail by either test over all its steps, else Pass by the counts of the
/// present step alone, else what is missing.
pub fn judge(case: &Case<'_>) -> Verdict {
    let Case { policy, finished, weight, present, base } = *case;
    let ServingTally { serving: _, stable, canary } = present;
    let own = canary.minus(base);
    let numbers = Numbers {
        canary_messages: own.messages(),
        canary_failures: own.failures(),
        stable_messages: stable.messages(),
        stable_failures: stable.failures(),
        needed: policy.min_messages.max(1),
    };
    let now = FinishedStep { weight, stable: stable.sum(), canary: canary.sum() };
    let samples = || finished.iter().copied().chain([now]);
    if let Some(explanation) = comparative_failure(samples(), policy, canary.sum())
        .or_else(|| fixed_rate_failure(samples(), policy))
    {
        return Verdict { finding: Finding::Fail, numbers, explanation };
    }
    let over = |tally: Tally| {
        let limit = u128::from(policy.max_error_basis_points) * u128::from(tally.messages());
        u128::from(tally.failures()) * 10_000 > limit
    };
    let finding = if numbers.canary_messages < numbers.needed {
        Finding::TooFew
    } else if !over(own) {
        Finding::Pass
    } else if over(stable) {
        Finding::SharedDegradation
    } else {
        Finding::OverLimit
    };
    Verdict { finding, numbers, explanation: numbers.to_string() }
}

/// The canary against the stable traffic of the same time. If both are equally good, a failure is
/// the canary's with the probability of its weight, whatever the error rate is at that moment; so
/// a likelihood ratio is an e-process, and so is any mixture, valid at every look and for any
/// course of weights (Robbins 1970; Ville's inequality). Mixed over how much worse the canary is,
/// and over the step from which on it is worse: else a good first step would excuse a dead second.
fn comparative_failure(
    samples: impl Iterator<Item = FinishedStep> + Clone,
    policy: &Policy,
    present: Sum,
) -> Option<String> {
    // A weight of 0 or 100 has no control and says nothing.
    let samples = samples.filter(|one| one.weight > Weight::ZERO && one.weight < Weight::FULL);
    let from = |start: Weight| mixture(comparative(samples.clone().filter(|s| s.weight >= start)));
    let steps = policy.steps.as_slice().iter().map(|step| step.weight);
    let later: Vec<f64> = steps.skip(1).filter(|weight| *weight < Weight::FULL).map(from).collect();
    let mut evidence = from(Weight::ZERO);
    if !later.is_empty() {
        let mean = later.iter().sum::<f64>() / later.len() as f64;
        evidence = WHOLE_ROLLOUT * evidence + (1.0 - WHOLE_ROLLOUT) * mean;
    }
    let canary = samples.clone().fold(Sum::default(), |sum, one| sum.plus(one.canary));
    let stable = samples.clone().fold(Sum::default(), |sum, one| sum.plus(one.stable));
    if evidence < THRESHOLD || !(is_material(canary) || is_material(present)) {
        return None;
    }
    Some(format!(
        "the canary failed {} of {} messages, stable {} of {} in the same time; evidence {:.0}, \
         {THRESHOLD} is proof",
        canary.failures(),
        canary.messages(),
        stable.failures(),
        stable.messages(),
        evidence.min(1e9),
    ))
}

/// The logarithm of the likelihood ratio against equal error rates, for each ratio.
fn comparative(samples: impl Iterator<Item = FinishedStep>) -> [f64; RATIOS.len()] {
    let mut logs = [0.0; RATIOS.len()];
    for sample in samples {
        let share = sample.weight.share();
        let canary_failures = sample.canary.failures() as f64;
        let all_failures = canary_failures + sample.stable.failures() as f64;
        for (log, ratio) in logs.iter_mut().zip(RATIOS) {
            let expected = (1.0 - share + share * ratio).ln();
            *log += canary_failures * ratio.ln() - all_failures * expected;
        }
    }
    logs
}

/// Whether failures are enough and frequent enough to act on: at least three and at least 1 %.
fn is_material(sum: Sum) -> bool {
    let failures = sum.failures();
    failures >= MIN_FAILURES && failures.saturating_mul(100) >= sum.messages()
}

/// The canary against the limit of the policy, where there is little or no stable traffic.
/// Against an error rate not over the limit it is an e-process by the same reasoning.
fn fixed_rate_failure(
    samples: impl Iterator<Item = FinishedStep>,
    policy: &Policy,
) -> Option<String> {
    let canary = samples
        .filter(|one| one.weight.percent() >= FIXED_RATE_FROM)
        .fold(Sum::default(), |sum, one| sum.plus(one.canary));
    // A limit of nothing at all would make the first failure infinite evidence.
    let limit = f64::from(policy.max_error_basis_points.max(1)) / 10_000.0;
    let failures = canary.failures() as f64;
    let successes = canary.messages().saturating_sub(canary.failures()) as f64;
    let logs = RATIOS.map(|ratio| {
        let alternative = (ratio * limit).min(HIGHEST_ALTERNATIVE);
        if alternative <= limit {
            return f64::NEG_INFINITY;
        }
        let per_success = (-alternative).ln_1p() - (-limit).ln_1p();
        failures * (alternative / limit).ln() + successes * per_success
    });
    let evidence = mixture(logs);
    if evidence < THRESHOLD || canary.failures() < MIN_FAILURES {
        return None;
    }
    Some(format!(
        "the canary failed {} of {} messages at weights from {FIXED_RATE_FROM} % on, over the \
         limit of {} basis points; evidence {:.0}, {THRESHOLD} is proof",
        canary.failures(),
        canary.messages(),
        policy.max_error_basis_points,
        evidence.min(1e9),
    ))
}

/// The even mixture of likelihood ratios that are given as logarithms.
fn mixture(logs: [f64; RATIOS.len()]) -> f64 {
    logs.iter().map(|log| log.exp()).sum::<f64>() / RATIOS.len() as f64
}

//! The judge: counts in, verdict out. Replace `judge` and nothing else to judge differently.
//!
//! Takes the snapshotted policy and the counts of a rollout, cut into segments, as of now and as of
//! looks before. Needs no clock and no memory. Never decides what follows from a verdict.

use kanarie_words::weight::Weight;

use crate::mismatch::{mismatch, real_share};
use crate::numbers::Numbers;
use crate::passing::{Bar, NOT_AS_GOOD, Own};
use crate::policy::Policy;
use crate::proof::{PROOF, evidence, is_controlled};
use crate::segments::Segments;
use crate::tally::{ServingTally, Sum};

/// Everything that is judged of one rollout.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The policy as it was when the rollout started.
    pub policy: &'a Policy,
    /// Every segment of the rollout, as of now.
    pub segments: &'a Segments,
    /// Counts of the present serving, by class.
    pub present: ServingTally,
    /// What they were one agent's deadline ago: stable and canary.
    pub earlier: (Sum, Sum),
    /// What ended for the canary lately.
    pub lately: Sum,
    /// Whether stable suffers too: an outage that says nothing about the canary.
    pub degraded: bool,
    /// How long the step is counted already, in milliseconds.
    pub counted_ms: u64,
}

/// What the counts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Pass, Fail or Inconclusive.
    pub finding: Finding,
    /// Numbers of the present step, and what they are worth.
    pub numbers: Numbers,
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
    /// Not yet: what was answered lately counts once everything asked with it has ended.
    TooYoung,
    /// Not yet: lately the error rate is over the limit.
    OverLimitLately,
    /// Neither can be said: the rate is over the limit, without proof against the canary.
    OverLimit,
    /// Neither can be said: the rate is over the limit on both tracks.
    SharedDegradation,
    /// Nothing can be said: the customers of the tracks are not as many as the weight says.
    SampleRatioMismatch,
}

impl Finding {
    /// Pass, Fail or Inconclusive.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Fail => "Fail",
            Self::TooFew
            | Self::TooYoung
            | Self::OverLimitLately
            | Self::OverLimit
            | Self::SharedDegradation
            | Self::SampleRatioMismatch => "Inconclusive",
        }
    }
}

/// Judges a rollout: Fail by proof from all its segments, else Pass by the counts of the present
/// step alone, else what is missing.
pub fn judge(case: &Case<'_>) -> Verdict {
    let evidence = evidence(case.segments.as_slice(), case.policy);
    let counted = numbers(case, evidence);
    let finding = if evidence >= PROOF as f64 {
        Finding::Fail
    } else if mismatch(case.segments.as_slice(), case.present.serving).is_some() {
        Finding::SampleRatioMismatch
    } else if case.degraded {
        Finding::SharedDegradation
    } else {
        passing(case)
    };
    // What has failed does not wait for messages.
    let missing = if finding == Finding::Fail { 0 } else { counted.missing };
    Verdict { finding, numbers: Numbers { missing, ..counted } }
}

fn passing(case: &Case<'_>) -> Finding {
    let Case { policy, present, earlier, lately, .. } = *case;
    let (bar, weight) = (bar(case), weight(case));
    let share = real_share(case.segments.as_slice(), present.serving);
    let now = (present.stable.sum(), present.canary.sum());
    let as_good = |own: Own| weight < Weight::FULL && own.is_as_good(share);
    let floor = |own: Own| own.sum().messages >= policy.min_messages.max(1);
    let passes = |own: Own| floor(own) && (own.passes(bar) || as_good(own));
    let (young, old) = (Own::of(now, now), Own::of(earlier, now));
    // Where the control is over the limit as well, the canary may be what it excludes.
    let noise = if as_good(old) { NOT_AS_GOOD * rate(now.0) } else { 0.0 };
    let allowed = bar.limit.max(noise as u32);
    if passes(old) {
        if lately.is_over(allowed) { Finding::OverLimitLately } else { Finding::Pass }
    } else if passes(young) {
        Finding::TooYoung
    } else if !floor(young) || !now.1.is_over(bar.limit) {
        Finding::TooFew
    } else if now.0.is_over(bar.limit) {
        Finding::SharedDegradation
    } else {
        Finding::OverLimit
    }
}

fn numbers(case: &Case<'_>, evidence: f64) -> Numbers {
    let Case { policy, present, earlier, counted_ms, .. } = *case;
    let bar = bar(case);
    let now = (present.stable.sum(), present.canary.sum());
    let missing = Own::of(now, now).missing(policy, bar);
    let canary = present.canary.messages();
    let wait = u128::from(missing) * u128::from(counted_ms) / u128::from(canary.max(1)) / 1000;
    Numbers {
        canary: present.canary,
        stable: present.stable,
        // From float to integer is saturating.
        evidence: evidence as u64,
        limit: limit(case),
        certifies: Own::of(earlier, now).certifies(bar.limit),
        certify: bar.certify,
        missing,
        missing_seconds: (canary > 0 && counted_ms > 0)
            .then(|| u64::try_from(wait).unwrap_or(u64::MAX)),
    }
}

fn weight(case: &Case<'_>) -> Weight {
    case.segments.as_slice().last().map_or(Weight::ZERO, |one| one.weight)
}

/// What the step's own rate is held against, and what it is to exclude.
fn bar(case: &Case<'_>) -> Bar {
    let limit = limit(case);
    // What stable has shown is an estimate: a canary that is as good may be a tenth over it.
    let slack = if limit > case.policy.max_error_basis_points { limit / 10 } else { 0 };
    let limit = limit.saturating_add(slack);
    Bar { limit, certify: case.policy.certified(limit) }
}

/// The policy's limit, or, where there is no control, what stable has shown.
fn limit(case: &Case<'_>) -> u32 {
    let last = case.segments.as_slice().last();
    let alone = last.filter(|one| !is_controlled(one.weight.share()));
    alone.map_or(case.policy.max_error_basis_points, |one| one.limit)
}

/// In basis points.
fn rate(sum: Sum) -> f64 {
    sum.failures as f64 * 10_000.0 / (sum.messages as f64).max(1.0)
}

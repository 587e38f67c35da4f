//! The hold of a step: when it began, and the looks that tell what was counted a while ago.
//!
//! Takes moments and sums; gives how long the step has been held, what was counted one agent's deadline
//! ago and what ended lately. Remembers a look only where it will be needed: near the end of the hold.

use kanarie_words::ids::EpochDigest;
use serde::{Deserialize, Serialize};

use crate::bounds::MAX_LOOKS;
use crate::moment::Moment;
use crate::policy::Policy;
use crate::segments::STARTS;
use crate::steps::Step;
use crate::tally::Sum;

/// Shortest time between the look at which a bake passes and the one that promotes.
const BETWEEN_PASSES_MS: u64 = 1_000;
/// Shortest time between two looks that are remembered because a step would pass.
const BETWEEN_LOOKS_MS: u64 = 10_000;
/// Shortest time between two cuts of one serving.
const BETWEEN_CUTS_MS: u64 = 60_000;

/// A hold that runs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// When every live replica had acknowledged the step.
    pub began: Moment,
    /// Digest of the epochs at that time.
    pub epoch: EpochDigest,
    /// Starts of the step that were used up before.
    pub starts_before: u8,
    /// When the present segment was cut.
    pub cut: Moment,
    /// Looks of this serving, newest first, at most `MAX_LOOKS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<Look>,
    /// When the bake was first seen to pass: what ends after it decides whether it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passing: Option<Look>,
    /// When stable was last seen to suffer as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded: Option<Moment>,
}

/// What was counted for the serving at some moment.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Look {
    /// That moment.
    pub at: Moment,
    /// Asked of stable.
    pub stable: Sum,
    /// Asked of the canary.
    pub canary: Sum,
}

/// What the second look of a bake says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// It passes.
    Passed,
    /// It is too early.
    Waits,
    /// There was none, or it failed: now is the first one.
    Again,
}

impl Hold {
    /// Begins now.
    pub(crate) fn begin(now: Moment, epoch: EpochDigest, starts_before: u8) -> Self {
        Self {
            began: now,
            epoch,
            starts_before,
            cut: now,
            looks: Vec::new(),
            passing: None,
            degraded: None,
        }
    }

    /// How much of the hold is left, in milliseconds.
    pub(crate) fn left_ms(&self, step: Step, now: Moment) -> u64 {
        (u64::from(step.hold_seconds) * 1000).saturating_sub(now.millis_since(self.began))
    }

    /// The newest look that is at least so old: before the first one nothing was counted.
    pub(crate) fn ago(&self, now: Moment, age_ms: u64) -> (Sum, Sum) {
        let old = self.looks.iter().find(|look| now.millis_since(look.at) >= age_ms);
        old.map_or_else(Default::default, |look| (look.stable, look.canary))
    }

    /// How long ago the newest look was.
    pub(crate) fn youngest_ms(&self, now: Moment) -> Option<u64> {
        self.looks.first().map(|look| now.millis_since(look.at))
    }

    /// Starts that lie before now and were not used yet, if it is time for a cut.
    pub(crate) fn starts_due(&self, step: Step, used: u8, now: Moment) -> u8 {
        if now.millis_since(self.cut) < BETWEEN_CUTS_MS {
            return 0;
        }
        let hold_ms = (u64::from(step.hold_seconds) * 1000).max(1);
        let passed = now.millis_since(self.began).saturating_mul(u64::from(STARTS)) / hold_ms;
        let passed = u8::try_from(passed).unwrap_or(STARTS).min(STARTS);
        self.starts_before.saturating_add(passed).min(STARTS).saturating_sub(used)
    }

    /// What a bake that passes by its counts comes to. Three failures of the last second are nothing in
    /// the last minute of a busy channel, so a promotion needs a second look: what has ended since the
    /// first one must be within the limit too.
    pub(crate) fn confirms(
        &self,
        policy: &Policy,
        now: Moment,
        canary: Sum,
        limit: u32,
    ) -> Confirmation {
        let Some(first) = &self.passing else { return Confirmation::Again };
        let age = now.millis_since(first.at);
        let is_over = canary.minus(first.canary).is_over(limit);
        // One from before a pause or a silence says nothing of what has just ended.
        if age >= policy.lately_ms() || (is_over && age >= BETWEEN_LOOKS_MS) {
            Confirmation::Again
        } else if is_over || age < BETWEEN_PASSES_MS {
            Confirmation::Waits
        } else {
            Confirmation::Passed
        }
    }

    /// Whether the looks tell what ended lately: after a pause or a silence the last one before it is
    /// older than that, and many good messages lie between.
    pub(crate) fn knows_lately(&self, policy: &Policy, now: Moment, canary: Sum) -> bool {
        let lately = policy.lately_ms();
        let base = self.looks.iter().find(|look| now.millis_since(look.at) >= lately);
        let (at, counted) =
            base.map_or((self.began, Sum::default()), |look| (look.at, look.canary));
        now.millis_since(at) <= 3 * lately || counted == canary
    }

    /// Whether a look of now will be needed: the end of the hold is near, and the last look is too old
    /// to say what ended lately, or `passes_soon` and only time is missing.
    pub(crate) fn wants_look(
        &self,
        policy: &Policy,
        step: Step,
        now: Moment,
        has_changed: bool,
        passes_soon: bool,
    ) -> bool {
        let (left, lately) = (self.left_ms(step, now), policy.lately_ms());
        let age = now.millis_since(self.looks.first().map_or(self.began, |look| look.at));
        // A look comes when it comes: some seconds early it is old enough when the hold ends.
        let is_near = left <= lately.saturating_add(lately / 4);
        let is_old = is_near && age >= lately && has_changed;
        let between = policy.timeout_ms().max(BETWEEN_LOOKS_MS);
        let none_is_young = self.youngest_ms(now).is_none_or(|age| age >= between);
        is_old || (passes_soon && none_is_young && left <= policy.timeout_ms())
    }

    /// Remembers a look of now.
    pub(crate) fn look(&mut self, policy: &Policy, now: Moment, (stable, canary): (Sum, Sum)) {
        self.looks.insert(0, Look { at: now, stable, canary });
        // The youngest one that is old enough is what the present is compared with: older ones go.
        let is_old = |look: &Look| now.millis_since(look.at) >= policy.lately_ms();
        if let Some(base) = self.looks.iter().position(is_old) {
            self.looks.truncate(base + 1);
        }
        if self.looks.len() > MAX_LOOKS {
            self.looks.remove(1);
        }
    }

    /// Whether something was counted since the last look.
    pub(crate) fn has_changed(&self, counted: (Sum, Sum)) -> bool {
        let last = self.looks.first().map_or_else(Default::default, |one| (one.stable, one.canary));
        last != counted
    }
}

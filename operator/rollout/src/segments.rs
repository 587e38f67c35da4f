//! Segments: what was counted between two cuts of a rollout, the memory of the judge.
//!
//! Takes the sums that the store gives for a serving, gives them cut where the policy said beforehand.
//! Integers only, at most `MAX_SEGMENTS`. A segment carries the mass of the starts at its beginning,
//! from which on the canary may be bad; never cuts at anything that was counted.

use std::collections::BTreeMap;

use kanarie_words::weight::Weight;
use serde::{Deserialize, Serialize};

use crate::bounds::MAX_SEGMENTS;
use crate::tally::{ServingTally, Sum};

/// Starts in each step, its beginning among them, from which on the canary may be bad.
pub const STARTS: u8 = 24;
/// Parts of the mixture for each step of the policy: 30 % of them go to the whole rollout, 20 % to
/// the beginnings of steps and 50 % to the starts within them.
const PARTS: u32 = 480;
const PARTS_OF_WHOLE: u32 = 144;
const PARTS_OF_STEP: u32 = 96;
const PARTS_OF_START: u32 = 10;

/// What was counted between two cuts.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// The `serving` under which it was claimed.
    #[serde(rename = "of")]
    pub serving: u64,
    /// Its weight.
    #[serde(rename = "w")]
    pub weight: Weight,
    /// Error rate that the canary is held against where there is no control, in basis points.
    #[serde(rename = "limit")]
    pub limit: u32,
    /// Mass of the starts at its beginning, in parts of `whole`.
    #[serde(rename = "mass")]
    pub mass: u32,
    /// Asked of stable.
    #[serde(rename = "s")]
    pub stable: Sum,
    /// Asked of the canary.
    #[serde(rename = "c")]
    pub canary: Sum,
}

/// The segments of a rollout, oldest first. The last one of each serving is open: what the store
/// counts on top is its own, however late it ends.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Segments {
    list: Vec<Segment>,
    /// Mass that was given away. There is only so much, whatever a person does to the weight.
    spent: u32,
}

/// Where a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// With the rollout, at a weight that a person chose.
    Rollout,
    /// With the rollout and its first step.
    FirstStep,
    /// With a step.
    Step,
    /// So many starts within a step.
    Starts(u8),
    /// Where no step begins: at another weight that a person chose.
    Nothing,
}

impl Segments {
    /// The segments, oldest first.
    pub fn as_slice(&self) -> &[Segment] {
        &self.list
    }

    /// With everything that the store has counted by now, late outcomes of former servings included.
    pub fn with(&self, evidence: &[ServingTally]) -> Self {
        let mut segments = self.clone();
        for tally in evidence {
            let (stable, canary) = segments.known(tally.serving);
            let open = segments.list.iter_mut().rfind(|one| one.serving == tally.serving);
            if let Some(open) = open {
                open.stable = open.stable.plus(tally.stable.sum().minus(stable));
                open.canary = open.canary.plus(tally.canary.sum().minus(canary));
            }
        }
        segments
    }

    /// Begins another segment; too many are made fewer, the oldest first. `steps` is how many the
    /// policy has.
    pub(crate) fn begin(&mut self, begins: Begins, steps: usize, at: (u64, Weight, u32)) {
        let (serving, weight, limit) = at;
        let mass = begins.mass(steps).min(whole(steps).saturating_sub(self.spent));
        self.spent = self.spent.saturating_add(mass);
        let (stable, canary) = (Sum::default(), Sum::default());
        self.list.push(Segment { serving, weight, limit, mass, stable, canary });
        while self.list.len() > MAX_SEGMENTS {
            self.merge_oldest();
        }
    }

    /// Cuts the present segment: so many starts begin here.
    pub fn cut(&mut self, starts: u8, steps: usize) {
        if let Some(&Segment { serving, weight, limit, .. }) = self.list.last() {
            self.begin(Begins::Starts(starts), steps, (serving, weight, limit));
        }
    }

    /// The limit of the last segment at `weight`: frozen when its step began.
    pub(crate) fn limit_at(&self, weight: Weight) -> Option<u32> {
        self.list.iter().rfind(|one| one.weight == weight).map(|one| one.limit)
    }

    /// What stable has shown at weights under 100: under the last serving of each, since one that
    /// started anew is no sample.
    pub(crate) fn stable(&self) -> Sum {
        let last: BTreeMap<Weight, u64> =
            self.list.iter().map(|one| (one.weight, one.serving)).collect();
        let counts = |one: &&Segment| {
            one.weight < Weight::FULL && last.get(&one.weight) == Some(&one.serving)
        };
        self.list.iter().filter(counts).fold(Sum::default(), |sum, one| sum.plus(one.stable))
    }

    /// What is known of a serving: stable and canary.
    pub(crate) fn known(&self, serving: u64) -> (Sum, Sum) {
        let of = self.list.iter().filter(|one| one.serving == serving);
        of.fold((Sum::default(), Sum::default()), |(stable, canary), one| {
            (stable.plus(one.stable), canary.plus(one.canary))
        })
    }

    /// The oldest two neighbours of one serving become one, or else of one weight. The starts between
    /// them are given up, which makes the evidence smaller and never larger. Without such two the
    /// oldest goes.
    fn merge_oldest(&mut self) {
        let one_serving = |pair: &[Segment]| pair[0].serving == pair[1].serving;
        let one_weight = |pair: &[Segment]| pair[0].weight == pair[1].weight;
        let at = self.list.windows(2).position(one_serving);
        let Some(index) = at.or_else(|| self.list.windows(2).position(one_weight)) else {
            self.list.remove(0);
            return;
        };
        let first = self.list.remove(index);
        if let Some(second) = self.list.get_mut(index) {
            second.mass = first.mass;
            second.stable = second.stable.plus(first.stable);
            second.canary = second.canary.plus(first.canary);
        }
    }
}

/// The parts that all masses of a rollout with so many steps add up to.
pub(crate) fn whole(steps: usize) -> u32 {
    PARTS.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

impl Begins {
    fn mass(self, steps: usize) -> u32 {
        let of_whole = whole(steps) / PARTS * PARTS_OF_WHOLE;
        match self {
            Self::Rollout => of_whole,
            Self::FirstStep => of_whole + PARTS_OF_STEP + PARTS_OF_START,
            Self::Step => PARTS_OF_STEP + PARTS_OF_START,
            Self::Starts(starts) => u32::from(starts) * PARTS_OF_START,
            Self::Nothing => 0,
        }
    }
}

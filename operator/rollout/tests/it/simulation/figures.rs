//! What came of the replicates of a cell, and what of it is over a bound beyond doubt.

use crate::simulation::cells::Kind;
use crate::simulation::confidence::{bounds, least_median};
use crate::simulation::pilot::Ending;
use crate::simulation::product::STEPS;
use crate::simulation::world::Played;

/// What came of a cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) all: u64,
    pub(crate) promoted: u64,
    pub(crate) rejected: u64,
    pub(crate) held: u64,
    /// Those that stepped back at least once, whatever became of them.
    pub(crate) stepped_back: u64,
    /// Dead canaries that were promoted with three customers failed in the last minute.
    pub(crate) blind: u64,
    /// How long the promoted ones took, sorted.
    took_ms: Vec<u64>,
    /// Weight when the fault struck, and customers that it had failed when a lower one was obeyed.
    harmed: Vec<(u8, u32)>,
}

impl Figures {
    pub(crate) fn of(played: &[Played]) -> Self {
        let mut figures = Self { all: played.len() as u64, ..Self::default() };
        for one in played {
            match one.ending {
                Some(Ending::Promoted) => {
                    figures.promoted += 1;
                    figures.took_ms.push(one.took_ms);
                }
                Some(Ending::Rejected) => figures.rejected += 1,
                None => figures.held += 1,
            }
            figures.stepped_back += u64::from(one.stepped_back > 0);
            figures.blind += u64::from(one.blind);
            figures.harmed.extend(one.harmed.map(|harmed| (one.struck_at, harmed)));
        }
        figures.took_ms.sort_unstable();
        figures
    }

    /// The median of how long the promoted ones took, in hours.
    pub(crate) fn hours(&self) -> Option<f64> {
        quantile(&self.took_ms, 0.5).map(|ms| ms as f64 / 3_600_000.0)
    }

    /// A quantile of the customers failed, of those that were struck at a weight.
    pub(crate) fn harm(&self, weight: u8, share: f64) -> Option<u32> {
        quantile(&self.harmed_at(weight), share)
    }

    /// Every bound that is broken beyond doubt, in a sentence each.
    pub(crate) fn broken_bounds(&self, kind: Kind, per_minute: u32) -> Vec<String> {
        let mut broken = Vec::new();
        let shares = [
            ("rejected", self.rejected, kind.may_be_rejected()),
            ("promoted", self.promoted, kind.may_be_promoted()),
        ];
        for (word, hits, bound) in shares {
            let (low, high) = bounds(hits, self.all);
            if let Some(bound) = bound.filter(|bound| low > *bound) {
                broken.push(format!(
                    "{hits} of {} {word}: between {:.2} and {:.2} %, and {} % are allowed",
                    self.all,
                    low * 100.0,
                    high * 100.0,
                    bound * 100.0,
                ));
            }
        }
        if self.blind > 0 {
            broken
                .push(format!("{} promoted that had failed three in the last minute", self.blind));
        }
        for (weight, _) in STEPS {
            let harmed = self.harmed_at(weight);
            let least = least_median(harmed.len()).map(|place| harmed[place]);
            let bound = kind.may_be_harmed(weight, per_minute);
            if let (Some(least), Some(bound)) = (least, bound)
                && f64::from(least) > bound
            {
                let median = quantile(&harmed, 0.5).unwrap_or_default();
                broken.push(format!(
                    "a median of {median} customers failed at {weight} %, surely {least} and more, and \
                     {bound:.1} are allowed",
                ));
            }
        }
        broken
            .into_iter()
            .map(|what| format!("{}, {per_minute} a minute: {what}", kind.name()))
            .collect()
    }

    fn harmed_at(&self, weight: u8) -> Vec<u32> {
        let of = self.harmed.iter().filter(|(at, _)| *at == weight);
        let mut of: Vec<u32> = of.map(|(_, harmed)| *harmed).collect();
        of.sort_unstable();
        of
    }
}

fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let place = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(place).copied()
}

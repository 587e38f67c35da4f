//! What the store is known to have of deliveries, so that nothing settled costs it a trip.
//!
//! Takes what the store was told of segments; says whether a report is news to it. Forgets the oldest,
//! which costs a question to the store and no more. Never says of a report that it is no news unless the
//! store has answered one that says as much.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use kanarie_queue::delivery::{Delivery, SegmentReport};

use crate::random;

/// Segments of one generation; two are kept, half a megabyte.
const GENERATION: usize = 16_384;

/// The greatest delivery of each segment, by hashes. Ids come from URLs: nobody who does not know the
/// secret chooses two that meet.
#[derive(Debug)]
pub(super) struct Known {
    /// Hashed before each of them.
    secret: [u8; 16],
    generations: Mutex<[HashMap<u64, Delivery>; 2]>,
}

impl Default for Known {
    fn default() -> Self {
        Self { secret: random::bytes(), generations: Mutex::default() }
    }
}

impl Known {
    /// The store has as much as this report says.
    pub(super) fn learn(&self, report: &SegmentReport) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if young.len() >= GENERATION {
            *old = std::mem::take(young);
        }
        let hash = self.hash(report);
        let before = old.get(&hash).copied().unwrap_or(report.delivery);
        let known = young.entry(hash).or_insert(before);
        *known = report.delivery.max(*known);
    }

    /// Whether the store may not know it.
    pub(super) fn is_news(&self, report: &SegmentReport) -> bool {
        let hash = self.hash(report);
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let known = generations.iter().filter_map(|of| of.get(&hash)).max();
        known.is_none_or(|known| report.delivery > *known)
    }

    fn hash(&self, report: &SegmentReport) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, &report.conversation, &report.intent, report.segment).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use kanarie_queue::delivery::{Delivery, SegmentReport};
    use kanarie_words::ids::ConversationId;

    use super::{GENERATION, Known};

    fn report(segment: u32, word: &str) -> SegmentReport {
        SegmentReport {
            channel: "shop".parse().unwrap(),
            conversation: ConversationId::from_bytes([7; 16]),
            intent: "a1".parse().unwrap(),
            segment,
            delivery: Delivery::reported(word, None).unwrap(),
        }
    }

    #[test]
    fn nobody_knows_which_two_segments_meet() {
        let hash = || Known::default().hash(&report(0, "sent"));
        assert_ne!(hash(), hash());
    }

    #[test]
    fn only_more_than_the_store_has_is_news() {
        let known = Known::default();
        assert!(known.is_news(&report(0, "sent")));
        known.learn(&report(0, "delivered"));
        known.learn(&report(0, "sent"));
        let news = |word| known.is_news(&report(0, word));
        assert_eq!(["sent", "failed", "delivered", "read"].map(news), [false, false, false, true]);
        assert!(known.is_news(&report(1, "sent")));
    }

    #[test]
    fn the_oldest_are_forgotten_and_the_others_are_not() {
        let known = Known::default();
        known.learn(&report(0, "sent"));
        let many = u32::try_from(2 * GENERATION).unwrap();
        (1..=many).for_each(|segment| known.learn(&report(segment, "sent")));
        assert!(known.is_news(&report(0, "sent")) && !known.is_news(&report(many, "sent")));
        let kept: usize = known.generations.lock().unwrap().iter().map(|of| of.len()).sum();
        assert!(kept <= 2 * GENERATION);
    }
}

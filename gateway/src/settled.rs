//! The segments of which the store needs no report any more.
//!
//! Takes segments that the store is known to have, or to want no more; says whether one is among the
//! last many thousands of them. Forgets the oldest, which costs a question to the store and no more.
//! Never says of a segment whose outcome is unknown that it is settled.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use crate::callback::SegmentId;
use crate::random;

/// Segments of one generation; two are kept, half a megabyte.
const GENERATION: usize = 32_768;

/// The segments, as hashes. Ids come from URLs: nobody who does not know the secret chooses two
/// that meet.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Hashed before each of them.
    secret: [u8; 16],
    generations: Mutex<[HashSet<u64>; 2]>,
}

impl Default for Settled {
    fn default() -> Self {
        Self { secret: random::bytes(), generations: Mutex::default() }
    }
}

impl Settled {
    /// The store has the segment's SID, or its reply is gone.
    pub(crate) fn note(&self, id: &SegmentId) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if young.len() >= GENERATION {
            *old = std::mem::take(young);
        }
        young.insert(self.hash(id));
    }

    /// Whether that is known.
    pub(crate) fn knows(&self, id: &SegmentId) -> bool {
        let hash = self.hash(id);
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter().any(|of| of.contains(&hash))
    }

    fn hash(&self, id: &SegmentId) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, id).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use kanarie_words::ids::ConversationId;

    use super::{GENERATION, Settled};
    use crate::callback::SegmentId;

    fn id(segment: u32) -> SegmentId {
        let conversation = ConversationId::from_bytes([7; 16]);
        SegmentId { conversation, intent: "a1".parse().unwrap(), segment }
    }

    #[test]
    fn nobody_knows_which_two_segments_meet() {
        let hash = || Settled::default().hash(&id(0));
        assert_ne!(hash(), hash());
    }

    #[test]
    fn only_what_was_noted_is_settled_and_the_oldest_is_forgotten() {
        let settled = Settled::default();
        settled.note(&id(0));
        assert!(settled.knows(&id(0)) && !settled.knows(&id(1)));
        let many = u32::try_from(2 * GENERATION).unwrap();
        (1..=many).for_each(|segment| settled.note(&id(segment)));
        assert!(!settled.knows(&id(0)) && settled.knows(&id(many)));
        let kept = settled.generations.lock().unwrap().iter().map(|of| of.len()).sum::<usize>();
        assert!(kept <= 2 * GENERATION);
    }
}

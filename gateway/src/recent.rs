//! What is known of each of the last many thousands of segments, so that the store need not be asked.
//!
//! Takes the name of a segment and a value; of two values of one segment the greater counts. Forgets the
//! oldest, which costs a question to the store and no more. Never tells of a segment what was noted of
//! another one but by a chance that nobody can bring about.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::{Mutex, PoisonError};

use crate::random;

/// Values by hashes, `MOST` of one generation; two generations are kept. Ids come from URLs: nobody who
/// does not know the secret chooses two that meet.
#[derive(Debug)]
pub(crate) struct Recent<V, const MOST: usize> {
    /// Hashed before each of them.
    secret: [u8; 16],
    generations: Mutex<[HashMap<u64, V>; 2]>,
}

impl<V, const MOST: usize> Default for Recent<V, MOST> {
    fn default() -> Self {
        Self { secret: random::bytes(), generations: Mutex::default() }
    }
}

impl<V: Copy + Ord, const MOST: usize> Recent<V, MOST> {
    /// At least this is known of the segment.
    pub(crate) fn note(&self, name: &impl Hash, value: V) {
        let hash = self.hash(name);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *generations;
        if young.len() >= MOST {
            *old = std::mem::take(young);
        }
        let before = old.get(&hash).copied().unwrap_or(value);
        let known = young.entry(hash).or_insert(before);
        *known = value.max(*known);
    }

    /// What is known of it.
    pub(crate) fn get(&self, name: &impl Hash) -> Option<V> {
        let hash = self.hash(name);
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter().filter_map(|of| of.get(&hash)).max().copied()
    }

    fn hash(&self, name: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, name).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    const MOST: usize = 1_000;

    #[test]
    fn nobody_knows_which_two_segments_meet() {
        let hash = || Recent::<u8, MOST>::default().hash(&0_u32);
        assert_ne!(hash(), hash());
    }

    #[test]
    fn the_greatest_value_of_a_segment_is_known_and_of_no_other() {
        let recent = Recent::<u8, MOST>::default();
        [2, 3, 1].into_iter().for_each(|value| recent.note(&0_u32, value));
        assert_eq!((recent.get(&0_u32), recent.get(&1_u32)), (Some(3), None));
    }

    #[test]
    fn the_oldest_are_forgotten_and_what_is_noted_again_is_young() {
        let recent = Recent::<u8, MOST>::default();
        recent.note(&0_u32, 3);
        let many = u32::try_from(MOST).unwrap();
        (1..=many).for_each(|segment| recent.note(&segment, 1));
        recent.note(&0_u32, 1);
        assert_eq!(recent.get(&0_u32), Some(3), "it was noted again in time");
        (many..=3 * many).for_each(|segment| recent.note(&segment, 1));
        assert_eq!((recent.get(&0_u32), recent.get(&(3 * many))), (None, Some(1)));
        let kept: usize = recent.generations.lock().unwrap().iter().map(|of| of.len()).sum();
        assert!(kept <= 2 * MOST);
    }
}

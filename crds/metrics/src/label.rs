//! Closed sets of words, each value with its place.
//!
//! Takes nothing, gives an enum its words for a label. Never holds a name or a number.

use kanarie_words::class::Class;
use kanarie_words::track::Track;

/// A closed set of words for one label.
pub trait Label: Copy + 'static {
    /// Every value, in the order of its discriminants.
    const ALL: &'static [Self];
    /// The word on the metric and in the log.
    fn as_str(self) -> &'static str;
    /// Place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Its words stand where it does: counts, labels and logs say the same.
impl Label for Class {
    const ALL: &'static [Self] = &Class::ALL;
    fn as_str(self) -> &'static str {
        Class::as_str(self)
    }
    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Track {
    const ALL: &'static [Self] = &Track::ALL;
    fn as_str(self) -> &'static str {
        Track::as_str(self)
    }
    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Label, Track};

    fn finds_its_place<A: Label>() {
        let places: Vec<usize> = A::ALL.iter().map(|value| value.index()).collect();
        assert_eq!(places, (0..A::ALL.len()).collect::<Vec<_>>());
    }

    #[test]
    fn a_label_finds_its_own_place() {
        finds_its_place::<Class>();
        finds_its_place::<Track>();
    }
}

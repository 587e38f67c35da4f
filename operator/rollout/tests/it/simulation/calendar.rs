//! What happens when.
//!
//! Takes events with their times; gives them in the order of time, and of coming where times are equal.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Its place in the order, which is its time and its number in one, and what it is.
#[derive(Clone, Copy, Debug)]
struct Entry<T>(u64, T);

/// Events still to come: few, since what customers will write is no event here.
#[derive(Clone, Debug)]
pub(crate) struct Calendar<T> {
    events: BinaryHeap<Entry<T>>,
    sequence: u64,
}

/// The next one is the greatest; no two have the same place.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Entry<T> {}

/// The time of what has this place in the order.
pub(crate) fn time_of(place: u64) -> u64 {
    place >> 32
}

impl<T> Calendar<T> {
    pub(crate) fn new() -> Self {
        Self { events: BinaryHeap::new(), sequence: 0 }
    }

    pub(crate) fn put(&mut self, at: u64, event: T) {
        let place = self.place(at);
        self.events.push(Entry(place, event));
    }

    /// The place in the order of something that happens then and is put nowhere.
    pub(crate) fn place(&mut self, at: u64) -> u64 {
        self.sequence += 1;
        // Days are short in milliseconds.
        at.min(u64::from(u32::MAX)) << 32 | self.sequence
    }

    /// The place of the next event in the order; after everything else if there is none.
    pub(crate) fn next(&self) -> u64 {
        self.events.peek().map_or(u64::MAX, |entry| entry.0)
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        self.events.pop().map(|Entry(place, event)| (time_of(place), event))
    }
}

#[test]
fn events_come_in_the_order_of_their_times() {
    let mut draws = crate::simulation::draws::Draws::new(1, 1);
    let (mut calendar, mut now) = (Calendar::new(), 0);
    let mut open = Vec::new();
    for number in 0..20_000_u64 {
        for _ in 0..draws.between(0, 3) {
            let mean = [10.0, 2_000.0, 900_000.0][draws.between(0, 3) as usize];
            let at = now + draws.gap(mean);
            calendar.put(at, number);
            open.push((at, number));
        }
        if let Some((at, number)) = calendar.take() {
            let least = open.iter().map(|(at, _)| *at).min().unwrap();
            assert_eq!(at, least);
            now = at;
            let index = open.iter().position(|one| *one == (at, number)).unwrap();
            open.swap_remove(index);
        }
    }
}

//! What happens when: a ring of short slots for the next minutes and a heap for what is later.
//!
//! Takes events with their times; gives them in the order of time, and of coming where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SLOT_MS: u64 = 512;
const SLOTS: u64 = 512;

/// Its time, its number, and what it is.
type Entry<T> = (u32, u32, T);

/// Events still to come.
#[derive(Debug)]
pub(crate) struct Calendar<T> {
    /// The present slot, the next event last.
    present: Vec<Entry<T>>,
    slot: u64,
    ring: Vec<Vec<Entry<T>>>,
    far: BinaryHeap<Reverse<Entry<T>>>,
    in_ring: usize,
    sequence: u32,
}

impl<T: Copy + Ord> Calendar<T> {
    pub(crate) fn new() -> Self {
        Self {
            present: Vec::new(),
            slot: 0,
            ring: (0..SLOTS).map(|_| Vec::new()).collect(),
            far: BinaryHeap::new(),
            in_ring: 0,
            sequence: 0,
        }
    }

    /// Never earlier than what was given last.
    pub(crate) fn put(&mut self, at: u64, event: T) {
        self.sequence += 1;
        let slot = at / SLOT_MS;
        // Days are short in milliseconds.
        let entry = (u32::try_from(at).unwrap_or(u32::MAX), self.sequence, event);
        if slot <= self.slot {
            let before = self.present.partition_point(|other| *other > entry);
            self.present.insert(before, entry);
        } else if slot < self.slot + SLOTS {
            self.ring[(slot % SLOTS) as usize].push(entry);
            self.in_ring += 1;
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// The time of the next event.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        while self.present.is_empty() {
            if self.in_ring == 0 {
                let Reverse((at, ..)) = self.far.peek()?;
                // Nothing is in between.
                self.slot = u64::from(*at) / SLOT_MS - 1;
            }
            self.turn();
        }
        self.present.last().map(|(at, ..)| u64::from(*at))
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        self.next_at()?;
        self.present.pop().map(|(at, _, event)| (u64::from(at), event))
    }

    /// Goes on to the next slot.
    fn turn(&mut self) {
        self.slot += 1;
        let index = (self.slot % SLOTS) as usize;
        std::mem::swap(&mut self.present, &mut self.ring[index]);
        self.in_ring -= self.present.len();
        while let Some(Reverse((at, ..))) = self.far.peek()
            && u64::from(*at) / SLOT_MS <= self.slot
        {
            self.present.extend(self.far.pop().map(|Reverse(entry)| entry));
        }
        self.present.sort_unstable_by(|one, other| other.cmp(one));
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

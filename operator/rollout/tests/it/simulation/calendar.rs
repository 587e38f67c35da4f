//! What happens when: a ring of short slots for the next minutes and a heap for what is later.
//!
//! Takes events with their times; gives them in the order of time, and of coming where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SLOT_MS: u64 = 256;
const SLOTS: u64 = 1_024;
const NOTHING: u32 = u32::MAX;

/// Its time and its number in one, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry<T>(u64, T);

/// Events still to come.
#[derive(Clone, Debug)]
pub(crate) struct Calendar<T> {
    /// The present slot, the next event last.
    present: Vec<Entry<T>>,
    slot: u64,
    /// The first entry of each slot; they and the free ones are chains, so that they stay together.
    ring: Vec<u32>,
    chained: Vec<(Entry<T>, u32)>,
    free: u32,
    in_ring: usize,
    far: BinaryHeap<Reverse<Entry<T>>>,
    sequence: u64,
}

impl<T> Entry<T> {
    fn at(&self) -> u64 {
        self.0 >> 32
    }
}

impl<T: Copy + Ord> Calendar<T> {
    pub(crate) fn new() -> Self {
        Self {
            present: Vec::new(),
            slot: 0,
            ring: vec![NOTHING; SLOTS as usize],
            chained: Vec::new(),
            free: NOTHING,
            in_ring: 0,
            far: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Never earlier than what was given last.
    pub(crate) fn put(&mut self, at: u64, event: T) {
        self.sequence += 1;
        let slot = at / SLOT_MS;
        // Days are short in milliseconds.
        let entry = Entry(at.min(u64::from(u32::MAX)) << 32 | self.sequence, event);
        if slot <= self.slot {
            let before = self.present.partition_point(|other| other.0 > entry.0);
            self.present.insert(before, entry);
        } else if slot < self.slot + SLOTS {
            self.chain((slot % SLOTS) as usize, entry);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// The time of the next event.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        while self.present.is_empty() {
            if self.in_ring == 0 {
                let Reverse(entry) = self.far.peek()?;
                // Nothing is in between.
                self.slot = entry.at() / SLOT_MS - 1;
            }
            self.turn();
        }
        self.present.last().map(Entry::at)
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        self.next_at()?;
        self.present.pop().map(|entry| (entry.at(), entry.1))
    }

    fn chain(&mut self, slot: usize, entry: Entry<T>) {
        self.in_ring += 1;
        let (first, free) = (self.ring[slot], self.free);
        if let Some(place) = self.chained.get_mut(free as usize) {
            self.ring[slot] = free;
            self.free = std::mem::replace(place, (entry, first)).1;
        } else {
            self.ring[slot] = self.chained.len() as u32;
            self.chained.push((entry, first));
        }
    }

    /// Goes on to the next slot.
    fn turn(&mut self) {
        self.slot += 1;
        let first = &mut self.ring[(self.slot % SLOTS) as usize];
        while let Some((entry, next)) = self.chained.get_mut(*first as usize) {
            self.present.push(*entry);
            let taken = std::mem::replace(first, *next);
            *next = std::mem::replace(&mut self.free, taken);
            self.in_ring -= 1;
        }
        while let Some(Reverse(entry)) = self.far.peek()
            && entry.at() / SLOT_MS <= self.slot
        {
            self.present.extend(self.far.pop().map(|Reverse(entry)| entry));
        }
        self.present.sort_unstable_by_key(|entry| Reverse(entry.0));
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

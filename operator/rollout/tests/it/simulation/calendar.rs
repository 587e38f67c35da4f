//! What happens when: a ring of short slots for the next half minute and a heap for what is later.
//!
//! Takes events with their times; gives them in the order of time, and of coming where times are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SLOT_MS: u64 = 64;
const SLOTS: u64 = 512;
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
    /// A bit for each slot in which something is.
    full: Vec<u64>,
    chained: Vec<(Entry<T>, u32)>,
    free: u32,
    in_ring: usize,
    far: BinaryHeap<Reverse<Entry<T>>>,
    sequence: u64,
}

/// The time of what has this place in the order.
pub(crate) fn time_of(number: u64) -> u64 {
    number >> 32
}

impl<T> Entry<T> {
    fn at(&self) -> u64 {
        time_of(self.0)
    }
}

impl<T: Copy + Ord> Calendar<T> {
    pub(crate) fn new() -> Self {
        Self {
            present: Vec::new(),
            slot: 0,
            ring: vec![NOTHING; SLOTS as usize],
            full: vec![0; SLOTS as usize / 64],
            chained: Vec::new(),
            free: NOTHING,
            in_ring: 0,
            far: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// Never earlier than what was given last.
    pub(crate) fn put(&mut self, at: u64, event: T) {
        let entry = Entry(self.number(at), event);
        let slot = at / SLOT_MS;
        if slot <= self.slot {
            let before = self.present.partition_point(|other| other.0 > entry.0);
            self.present.insert(before, entry);
        } else if slot < self.slot + SLOTS {
            self.chain((slot % SLOTS) as usize, entry);
        } else {
            self.far.push(Reverse(entry));
        }
    }

    /// The place in the order of something that happens then and is put nowhere.
    pub(crate) fn number(&mut self, at: u64) -> u64 {
        self.sequence += 1;
        // Days are short in milliseconds.
        at.min(u64::from(u32::MAX)) << 32 | self.sequence
    }

    /// The place of the next event in the order; after everything else if there is none.
    pub(crate) fn next(&mut self) -> u64 {
        if self.present.is_empty() {
            self.turn();
        }
        self.present.last().map_or(u64::MAX, |entry| entry.0)
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        self.next();
        self.present.pop().map(|entry| (entry.at(), entry.1))
    }

    fn chain(&mut self, slot: usize, entry: Entry<T>) {
        self.in_ring += 1;
        self.full[slot / 64] |= 1 << (slot % 64);
        let (first, free) = (self.ring[slot], self.free);
        if let Some(place) = self.chained.get_mut(free as usize) {
            self.ring[slot] = free;
            self.free = std::mem::replace(place, (entry, first)).1;
        } else {
            self.ring[slot] = self.chained.len() as u32;
            self.chained.push((entry, first));
        }
    }

    /// Goes on to the next slot in which something is.
    fn turn(&mut self) {
        let far = self.far.peek().map(|Reverse(entry)| entry.at() / SLOT_MS);
        let Some(slot) = self.next_full().into_iter().chain(far).min() else { return };
        self.slot = slot;
        let place = (slot % SLOTS) as usize;
        self.full[place / 64] &= !(1 << (place % 64));
        let first = &mut self.ring[place];
        while let Some((entry, next)) = self.chained.get_mut(*first as usize) {
            self.present.push(*entry);
            let taken = std::mem::replace(first, *next);
            *next = std::mem::replace(&mut self.free, taken);
            self.in_ring -= 1;
        }
        if far.is_some_and(|far| far <= slot) {
            while let Some(Reverse(entry)) = self.far.peek()
                && entry.at() / SLOT_MS <= slot
            {
                self.present.extend(self.far.pop().map(|Reverse(entry)| entry));
            }
        }
        if self.present.len() > 1 {
            self.present.sort_unstable_by_key(|entry| Reverse(entry.0));
        }
    }

    /// The next slot of the ring in which something is.
    fn next_full(&self) -> Option<u64> {
        if self.in_ring == 0 {
            return None;
        }
        let (first, words) = (self.slot + 1, self.full.len());
        let (word, bit) = ((first % SLOTS) as usize / 64, first % 64);
        let rest = self.full[word] >> bit;
        if rest != 0 {
            return Some(first + u64::from(rest.trailing_zeros()));
        }
        // Once around, the beginning of the first word last.
        let begins = |ahead: &usize| self.full[(word + ahead) % words] != 0;
        let ahead = (1..=words).find(begins)?;
        let bits = self.full[(word + ahead) % words];
        Some(first - bit + ahead as u64 * 64 + u64::from(bits.trailing_zeros()))
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

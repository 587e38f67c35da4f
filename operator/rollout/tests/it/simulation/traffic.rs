//! Who writes when: the messages of one seed in their order, drawn once for every rollout in their midst.
//!
//! Takes settings and a seed; gives message after message, for ever. Knows nothing of gateways: whatever
//! becomes of a message, the customers write the same.

use std::cell::RefCell;
use std::rc::Rc;

use crate::simulation::calendar::Calendar;
use crate::simulation::draws::{Draws, Tail};
use crate::simulation::setting::{MINUTE_MS, Setting};
use crate::simulation::world::BEGINS_MS;

/// Messages that are drawn at once.
pub(crate) const AT_ONCE: usize = 512;

/// A message of a customer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message {
    pub(crate) at: u32,
    /// The place of the customer, which another one takes after his last message.
    pub(crate) place: u32,
    pub(crate) bucket: u16,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// The traffic of one seed, in each of the settings that were asked for.
#[derive(Debug)]
pub(crate) struct Towns {
    pub(crate) seed: u64,
    known: RefCell<Vec<Town>>,
}

/// Traffic that many rollouts share.
#[derive(Clone, Debug)]
pub(crate) struct Town(Rc<RefCell<Traffic>>);

/// Customers and what they have written so far.
#[derive(Debug)]
struct Traffic {
    per_minute: f64,
    once: bool,
    broken: usize,
    draws: Draws,
    tail: Tail,
    /// Somebody arrives, or the customer of this place writes again.
    events: Calendar<Option<u32>>,
    customers: Vec<Customer>,
    free: Vec<u32>,
    messages: Vec<Rc<[Message]>>,
}

/// A customer who has something to say.
#[derive(Clone, Copy, Debug)]
struct Customer {
    bucket: u16,
    /// Messages still to write; those who are broken write for ever.
    left: Option<u16>,
}

impl Towns {
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, known: RefCell::default() }
    }

    /// The traffic of this setting.
    pub(crate) fn town(&self, setting: &Setting) -> Town {
        let mut known = self.known.borrow_mut();
        if let Some(town) = known.iter().find(|town| town.0.borrow().is_of(setting)) {
            return town.clone();
        }
        let town = Town(Rc::new(RefCell::new(Traffic::new(setting, self.seed))));
        known.push(town.clone());
        town
    }
}

impl Town {
    /// So many messages, the first of which has this number.
    pub(crate) fn messages(&self, number: usize) -> Rc<[Message]> {
        let mut traffic = self.0.borrow_mut();
        while number / AT_ONCE >= traffic.messages.len() {
            let messages = (0..AT_ONCE).filter_map(|_| traffic.next()).collect();
            traffic.messages.push(messages);
        }
        traffic.messages[number / AT_ONCE].clone()
    }

    /// The customers who are there from the beginning: their places are the first ones.
    pub(crate) fn broken(&self) -> Vec<u16> {
        let traffic = self.0.borrow();
        traffic.customers[..traffic.broken].iter().map(|customer| customer.bucket).collect()
    }
}

impl Traffic {
    fn new(setting: &Setting, seed: u64) -> Self {
        let Setting { per_minute, once, broken, .. } = *setting;
        let mut traffic = Self {
            per_minute,
            once,
            broken,
            draws: Draws::new(seed, 1),
            tail: Tail::new(),
            events: Calendar::new(),
            customers: Vec::new(),
            free: Vec::new(),
            messages: Vec::new(),
        };
        traffic.events.put(0, None);
        let mut draws = Draws::new(seed, 3);
        for place in 0..broken as u32 {
            let bucket = draws.between(0, 10_000) as u16;
            traffic.customers.push(Customer { bucket, left: None });
            let first = BEGINS_MS + draws.between(0, 60 * MINUTE_MS);
            traffic.events.put(first, Some(place));
        }
        traffic
    }

    fn is_of(&self, setting: &Setting) -> bool {
        (self.per_minute, self.once, self.broken)
            == (setting.per_minute, setting.once, setting.broken)
    }

    fn next(&mut self) -> Option<Message> {
        match self.events.take()? {
            (at, None) => Some(self.arrives(at)),
            (at, Some(place)) => Some(self.writes(at, place, false)),
        }
    }

    fn arrives(&mut self, at: u64) -> Message {
        let messages = if self.once { 1 } else { self.tail.draw(&mut self.draws) };
        let mean = if self.once { 1.0 } else { 2.352 };
        let gap = self.draws.gap(MINUTE_MS as f64 * mean / self.per_minute);
        let bucket = self.draws.between(0, 10_000) as u16;
        let customer = Customer { bucket, left: Some(messages) };
        let place = self.free.pop().unwrap_or(self.customers.len() as u32);
        match self.customers.get_mut(place as usize) {
            Some(free) => *free = customer,
            None => self.customers.push(customer),
        }
        self.events.put(at + gap, None);
        self.writes(at, place, true)
    }

    fn writes(&mut self, at: u64, place: u32, first: bool) -> Message {
        let Customer { bucket, left } = &mut self.customers[place as usize];
        let minutes = if left.is_none() { 15.0 } else { 2.0 };
        *left = left.map(|left| left - 1);
        let last = *left == Some(0);
        let message = Message { at: at as u32, place, bucket: *bucket, first, last };
        if last {
            self.free.push(place);
        } else {
            let gap = self.draws.gap(minutes * MINUTE_MS as f64).max(3_000);
            self.events.put(at + gap, Some(place));
        }
        message
    }
}

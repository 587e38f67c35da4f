//! A model of the gateway and its customers, event by event: who writes when, who is asked, how it ends
//! and what is counted.
//!
//! Takes a setting, a town and what the gateways are told; gives the counts, and what the rollout cost.
//! The town draws who writes, so that every pilot sees the same customers.

use std::collections::VecDeque;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::simulation::breaker::Breaker;
use crate::simulation::calendar::{Calendar, time_of};
use crate::simulation::draws::Draws;
use crate::simulation::pilot::{Ending, Route};
use crate::simulation::setting::{Begins, Fault, MINUTE_MS, Person, Setting};
use crate::simulation::store::{Standing, Store};
use crate::simulation::traffic::{AT_ONCE, Message, Town, Towns};

/// Customers write before the rollout begins, so that it does not begin with an empty town.
pub(crate) const BEGINS_MS: u64 = 10 * MINUTE_MS;
/// Gateways of the channel.
pub(crate) const REPLICAS: usize = 2;
/// The agent's deadline where nothing else is said.
pub(crate) const TIMEOUT_MS: u64 = MINUTE_MS;

/// How a rollout went.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Played {
    pub(crate) ending: Option<Ending>,
    /// How long it took, or the horizon.
    pub(crate) took_ms: u64,
    /// How often the weight fell while the rollout went on.
    pub(crate) stepped_back: u32,
    /// Weight when the fault began.
    pub(crate) struck_at: u8,
    /// Customers whom the fault had failed on the canary when a lower weight was obeyed; none if it never
    /// fell.
    pub(crate) harmed: Option<u32>,
    /// Customers whom it failed on the canary in all.
    pub(crate) harmed_in_all: u32,
    /// Whether a dead canary was promoted with three failed customers in the last minute.
    pub(crate) blind: bool,
}

/// A customer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Customer {
    /// Tells him from every other one, also from those in whose place he is.
    pub(crate) name: u32,
    pub(crate) bucket: u16,
    /// Whether he has nothing more to say.
    silent: bool,
    pub(crate) broken: bool,
    pub(crate) harmed: bool,
    /// Whether a turn of his is underway, and whether he wrote meanwhile.
    pub(crate) busy: bool,
    pub(crate) waiting: bool,
    /// How he stands with which serving.
    pub(crate) serving: u64,
    pub(crate) standing: Standing,
    pub(crate) turn: Turn,
}

/// A turn of a customer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) began: u64,
    pub(crate) serving: u64,
    pub(crate) replica: u8,
    pub(crate) counted: bool,
    pub(crate) failed_on_canary: bool,
    pub(crate) tries: u8,
    pub(crate) probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// An attempt ends: on the canary or not, well or not, hung or not.
    Ends {
        customer: u32,
        on_canary: bool,
        well: bool,
        hung: bool,
    },
    Retries(u32),
    Probes(u8),
    Obeys(u8, u32, Option<u8>),
}

/// A replica of the gateway.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replica {
    pub(crate) route: Route,
    pub(crate) breaker: Breaker,
    /// Customers whose turn waits for stable.
    pub(crate) parked: VecDeque<u32>,
    pub(crate) probe_at: u64,
}

/// A customer who will write again: who he is, and where that is in the order of events.
#[derive(Clone, Copy, Debug, Default)]
struct Stay {
    index: u32,
    writes: u64,
}

/// Everything that goes on.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) setting: Setting,
    pub(crate) now: u64,
    town: Town,
    /// The next message among the ones that were drawn with it, its number, and its place in the order
    /// of events.
    messages: Rc<[Message]>,
    number: usize,
    writes: u64,
    /// Where the next customer who arrives is in that order, and who stays, by place.
    arrives: u64,
    stays: Vec<Stay>,
    pub(crate) outcomes: Draws,
    events: Calendar<Event>,
    pub(crate) customers: Vec<Customer>,
    free: Vec<u32>,
    /// Customers that have come.
    came: u32,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) store: Store,
    /// When the fault begins and ends.
    pub(crate) fault: (u64, u64),
    pub(crate) played: Played,
    /// Failures of a dead canary that ended lately.
    pub(crate) lately: VecDeque<(u64, u32)>,
    weight: u8,
    /// The highest one that was asked for, and when that was.
    pub(crate) highest_weight: (u8, u64),
    /// The serving under which the weight fell while the fault was there.
    falls: Option<u64>,
}

impl World {
    pub(crate) fn new(setting: &Setting, towns: &Towns, route: Route) -> Self {
        let replica = Replica { route, ..Replica::default() };
        let mut world = Self {
            setting: setting.clone(),
            now: 0,
            town: towns.town(setting),
            messages: Rc::default(),
            number: 0,
            writes: 0,
            arrives: 0,
            stays: Vec::new(),
            outcomes: Draws::new(towns.seed, 2),
            events: Calendar::new(),
            customers: Vec::new(),
            free: Vec::new(),
            came: 0,
            replicas: vec![replica; REPLICAS],
            store: Store::default(),
            fault: (u64::MAX, u64::MAX),
            played: Played::default(),
            lately: VecDeque::new(),
            weight: 0,
            highest_weight: (0, 0),
            falls: None,
        };
        world.suffers(setting.fault);
        world.arrives = world.events.place(0);
        for bucket in world.town.broken() {
            let index = world.comes(Customer { bucket, broken: true, ..Customer::default() });
            world.stays.push(Stay { index, writes: world.events.place(0) });
        }
        world.messages = world.town.messages(0);
        world.writes = world.arrives;
        world
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.events.put(at, event);
    }

    /// Has this fault from now on.
    pub(crate) fn suffers(&mut self, fault: Fault) {
        self.setting.fault = fault;
        let (highest, since) = self.highest_weight;
        match fault.begins {
            Begins::After(ms) => self.strikes(BEGINS_MS + ms),
            Begins::AtWeight(weight, ms) | Begins::EachAtWeight(weight, ms)
                if weight == highest =>
            {
                self.strikes(since + ms);
            }
            Begins::Never | Begins::AtWeight(..) | Begins::EachAtWeight(..) => {}
        }
    }

    /// The time of what happens next.
    pub(crate) fn next_at(&mut self) -> u64 {
        time_of(self.events.next().min(self.writes))
    }

    /// What is next happens.
    pub(crate) fn happens(&mut self) {
        if self.writes < self.events.next() {
            self.now = time_of(self.writes);
            self.is_written(self.messages[self.number % AT_ONCE]);
        } else if let Some((at, event)) = self.events.take() {
            self.now = at;
            self.happened(event);
        }
    }

    fn strikes(&mut self, at: u64) {
        self.fault = (at, at.saturating_add(self.setting.fault.lasts_ms));
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Ends { customer, on_canary: true, well, hung } => {
                self.canary_ends(customer, well, hung);
            }
            Event::Ends { customer, on_canary: false, well, hung } => {
                self.stable_ends(customer, well, hung);
            }
            Event::Retries(customer) => self.asks_stable(customer, true),
            Event::Probes(replica) => self.probes(replica),
            Event::Obeys(replica, serving, weight) => {
                let serving = u64::from(serving);
                let replica = &mut self.replicas[usize::from(replica)];
                if serving > replica.route.serving {
                    replica.route = Route { serving, weight };
                }
                self.note_fall();
            }
        }
    }

    /// Somebody writes.
    fn is_written(&mut self, message: Message) {
        let Message { place, bucket, first, last, .. } = message;
        let place = place as usize;
        if self.stays.len() <= place {
            self.stays.resize(place + 1, Stay::default());
        }
        if first {
            self.stays[place].index = self.comes(Customer { bucket, ..Customer::default() });
            self.arrives = self.events.place(0);
        }
        let index = self.stays[place].index;
        let customer = &mut self.customers[index as usize];
        customer.silent = last;
        if customer.busy {
            customer.waiting = true;
        } else {
            self.turns(index);
        }
        if last {
            self.leaves(index);
        } else {
            self.stays[place].writes = self.events.place(0);
        }
        self.number += 1;
        if self.number.is_multiple_of(AT_ONCE) {
            self.messages = self.town.messages(self.number);
        }
        let Message { at, place, first, .. } = self.messages[self.number % AT_ONCE];
        let order = if first { self.arrives } else { self.stays[place as usize].writes };
        self.writes = u64::from(at) << 32 | order;
    }

    /// A customer who was not there before.
    fn comes(&mut self, customer: Customer) -> u32 {
        let customer = Customer { name: self.came, ..customer };
        self.came += 1;
        if let Some(index) = self.free.pop() {
            self.customers[index as usize] = customer;
            return index;
        }
        self.customers.push(customer);
        self.customers.len() as u32 - 1
    }

    /// A customer who has nothing more to say is forgotten.
    pub(crate) fn leaves(&mut self, index: u32) {
        let customer = &self.customers[index as usize];
        if customer.silent && !customer.busy {
            self.free.push(index);
        }
    }

    /// The gateways are told.
    pub(crate) fn follow(&mut self, before: Route, route: Route, ending: Option<Ending>) {
        if let Some(ending) = ending {
            self.played.ending = Some(ending);
            self.played.took_ms = self.now - BEGINS_MS;
            let dead = self.setting.fault.canary >= 1.0 && self.setting.fault.stable == 0.0;
            self.played.blind = ending == Ending::Promoted && dead && self.is_blind();
        }
        if route == before {
            return;
        }
        for replica in 0..REPLICAS as u8 {
            let delay = self.outcomes.between(50, 900);
            self.at(self.now + delay, Event::Obeys(replica, route.serving as u32, route.weight));
        }
        let weight = route.weight.unwrap_or(0);
        match self.setting.fault.begins {
            Begins::AtWeight(at, ms) if at == weight && self.fault.0 == u64::MAX => {
                self.strikes(self.now + ms);
            }
            Begins::EachAtWeight(at, ms) if at == weight && at != self.weight => {
                self.strikes(self.now + ms);
            }
            _ => {}
        }
        let promoted = self.played.ending == Some(Ending::Promoted);
        if weight < self.weight && !promoted {
            self.played.stepped_back +=
                u32::from(route.weight.is_some() && self.setting.person != Person::Moves);
            if self.now >= self.fault.0 && self.falls.is_none() {
                self.falls = Some(route.serving);
            }
        }
        self.weight = weight;
        if weight > self.highest_weight.0 {
            self.highest_weight = (weight, self.now);
        }
    }

    /// Whether a lower weight is in force now.
    fn note_fall(&mut self) {
        let serving = self.falls.unwrap_or(u64::MAX);
        let obeyed = self.replicas.iter().all(|replica| replica.route.serving >= serving);
        if obeyed && self.played.harmed.is_none() {
            self.played.harmed = Some(self.played.harmed_in_all);
        }
    }

    /// Whether a canary that fails everybody has failed three customers in the last minute.
    fn is_blind(&self) -> bool {
        let since = self.now.saturating_sub(TIMEOUT_MS.max(MINUTE_MS));
        let recent = self.lately.iter().filter(|(at, _)| *at >= since);
        let mut customers: Vec<u32> = recent.map(|(_, customer)| *customer).collect();
        customers.sort_unstable();
        customers.dedup();
        customers.len() >= 3
    }

    pub(crate) fn is_over(&self) -> bool {
        match self.played.ending {
            Some(Ending::Promoted) => true,
            Some(Ending::Rejected) => {
                self.replicas.iter().all(|replica| replica.route.weight.is_none())
            }
            None => false,
        }
    }

    pub(crate) fn gone(mut self) -> Played {
        if self.played.ending.is_none() {
            self.played.took_ms = self.setting.horizon_ms;
        }
        self.played
    }

    /// The weight when the fault first hit somebody.
    pub(crate) fn struck(&mut self, weight: u8) {
        if self.played.struck_at == 0 {
            self.played.struck_at = weight;
        }
    }
}

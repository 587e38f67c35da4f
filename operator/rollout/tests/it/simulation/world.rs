//! A model of the gateway and its customers, event by event: who writes when, who is asked, how it ends
//! and what is counted.
//!
//! Takes a setting, a seed and what the gateways are told; gives the counts, and what the rollout cost.
//! Traffic has a stream of chance of its own, so that every pilot sees the same customers.

use std::collections::VecDeque;

use crate::simulation::breaker::Breaker;
use crate::simulation::calendar::Calendar;
use crate::simulation::draws::{Draws, Tail};
use crate::simulation::pilot::{Ending, Route};
use crate::simulation::setting::{Begins, Fault, MINUTE_MS, Person, Setting};
use crate::simulation::store::{Standing, Store};

/// Customers write before the rollout begins, so that it does not begin with an empty town.
pub(crate) const BEGINS_MS: u64 = 10 * MINUTE_MS;
/// Gateways of the channel.
pub(crate) const REPLICAS: usize = 2;
/// The agent's deadline where nothing else is said.
pub(crate) const TIMEOUT_MS: u64 = MINUTE_MS;

/// How a rollout went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    pub(crate) bucket: u16,
    /// Messages still to write.
    left: u16,
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
    Arrives,
    Writes(u32),
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

/// Everything that goes on.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) setting: Setting,
    pub(crate) now: u64,
    traffic: Draws,
    tail: Tail,
    pub(crate) outcomes: Draws,
    events: Calendar<Event>,
    pub(crate) customers: Vec<Customer>,
    free: Vec<u32>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) store: Store,
    /// When the fault begins and ends.
    pub(crate) fault: (u64, u64),
    pub(crate) played: Played,
    /// Failures of a dead canary that ended lately.
    pub(crate) lately: VecDeque<(u64, u32)>,
    weight: u8,
    /// The highest one that was asked for.
    pub(crate) highest_weight: u8,
    /// The serving under which the weight fell while the fault was there.
    falls: Option<u64>,
}

impl World {
    pub(crate) fn new(setting: &Setting, seed: u64, route: Route) -> Self {
        let replica = Replica { route, ..Replica::default() };
        let mut world = Self {
            setting: setting.clone(),
            now: 0,
            traffic: Draws::new(seed, 1),
            tail: Tail::new(),
            outcomes: Draws::new(seed, 2),
            events: Calendar::new(),
            customers: Vec::new(),
            free: Vec::new(),
            replicas: vec![replica; REPLICAS],
            store: Store::default(),
            fault: (u64::MAX, u64::MAX),
            played: Played::default(),
            lately: VecDeque::new(),
            weight: 0,
            highest_weight: 0,
            falls: None,
        };
        world.suffers(setting.fault);
        world.at(0, Event::Arrives);
        let mut broken = Draws::new(seed, 3);
        for _ in 0..setting.broken {
            let bucket = broken.between(0, 10_000) as u16;
            let customer = Customer { bucket, left: u16::MAX, broken: true, ..Customer::default() };
            world.customers.push(customer);
            let first = BEGINS_MS + broken.between(0, 60 * MINUTE_MS);
            world.at(first, Event::Writes(world.customers.len() as u32 - 1));
        }
        world
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.events.put(at, event);
    }

    /// Has this fault from now on.
    pub(crate) fn suffers(&mut self, fault: Fault) {
        self.setting.fault = fault;
        if let Begins::After(ms) = fault.begins {
            self.strikes(BEGINS_MS + ms);
        }
    }

    /// The time of what happens next.
    pub(crate) fn next_at(&mut self) -> Option<u64> {
        self.events.next_at()
    }

    /// What is next happens, if there is anything.
    pub(crate) fn happens(&mut self) -> bool {
        let Some((at, event)) = self.events.take() else { return false };
        self.now = at;
        self.happened(event);
        true
    }

    fn strikes(&mut self, at: u64) {
        self.fault = (at, at.saturating_add(self.setting.fault.lasts_ms));
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Arrives => self.arrives(),
            Event::Writes(customer) => self.writes(customer),
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

    fn arrives(&mut self) {
        let messages = if self.setting.once { 1 } else { self.tail.draw(&mut self.traffic) };
        let mean = if self.setting.once { 1.0 } else { 2.352 };
        let gap = self.traffic.gap(MINUTE_MS as f64 * mean / self.setting.per_minute);
        let bucket = self.traffic.between(0, 10_000) as u16;
        let customer = Customer { bucket, left: messages, ..Customer::default() };
        let index = match self.free.pop() {
            Some(index) => {
                self.customers[index as usize] = customer;
                index
            }
            None => {
                self.customers.push(customer);
                self.customers.len() as u32 - 1
            }
        };
        self.at(self.now + gap, Event::Arrives);
        self.writes(index);
    }

    fn writes(&mut self, index: u32) {
        let customer = &mut self.customers[index as usize];
        customer.left -= u16::from(!customer.broken);
        let (again, broken) = (customer.left > 0, customer.broken);
        if customer.busy {
            customer.waiting = true;
        } else {
            self.turns(index);
        }
        if again {
            let gap = if broken { 15.0 } else { 2.0 } * MINUTE_MS as f64;
            let gap = self.traffic.gap(gap).max(3_000);
            self.at(self.now + gap, Event::Writes(index));
        } else {
            self.leaves(index);
        }
    }

    /// A customer who has nothing more to say is forgotten.
    pub(crate) fn leaves(&mut self, index: u32) {
        let customer = &self.customers[index as usize];
        if customer.left == 0 && !customer.busy {
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
        self.highest_weight = self.highest_weight.max(weight);
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
        let told = self.replicas.iter().all(|replica| replica.route.weight.is_none());
        match self.played.ending {
            Some(Ending::Promoted) => true,
            Some(Ending::Rejected) => told,
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

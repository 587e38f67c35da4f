//! The gateway's side of the world: a turn asks the canary or stable, counts its first attempt, and asks
//! stable when the canary failed.

use crate::simulation::breaker::{Change, Permission};
use crate::simulation::setting::MINUTE_MS;
use crate::simulation::store::{Class, Standing};
use crate::simulation::world::{Customer, Event, REPLICAS, Turn, World};

/// How long a message is asked about.
const PATIENCE_MS: u64 = 15 * MINUTE_MS;
/// How long a failure takes that is told at once.
const REFUSED_MS: u64 = 100;

impl World {
    /// A turn of a customer begins.
    pub(crate) fn turns(&mut self, index: u32) {
        let replica = (self.outcomes.next() >> 60) as usize % REPLICAS;
        let route = self.replicas[replica].route;
        // Without a canary nothing is counted.
        let Some(weight) = route.weight else { return };
        let share = f64::from(weight) * 100.0 * self.setting.share;
        // Everybody and nobody stay what they are, whatever the hash does.
        let share = if weight == 100 { 10_000.0 } else { share };
        let customer = &mut self.customers[index as usize];
        customer.busy = true;
        customer.turn = Turn {
            began: self.now,
            serving: route.serving,
            replica: replica as u8,
            ..Turn::default()
        };
        if f64::from(customer.bucket) < share {
            self.asks_canary(index, weight);
        } else {
            self.asks_stable(index, false);
        }
    }

    fn asks_canary(&mut self, index: u32, weight: u8) {
        let fault = self.setting.fault;
        let struck = self.is_struck();
        let rate = if struck { fault.canary } else { 0.0 };
        let (well, hung) = self.draw(index, rate);
        if struck {
            self.struck(weight);
        }
        let customer = &mut self.customers[index as usize];
        if !well && struck && !customer.harmed {
            customer.harmed = true;
            self.played.harmed_in_all += 1;
        }
        let took = self.took(well, hung, struck, self.setting.timeouts_ms.0);
        self.at(self.now + took, Event::Ends { customer: index, on_canary: true, well, hung });
    }

    /// Asks stable, or waits for it.
    pub(crate) fn asks_stable(&mut self, index: u32, waited: bool) {
        let turn = self.customers[index as usize].turn;
        let replica = &mut self.replicas[usize::from(turn.replica)];
        match replica.breaker.permit(waited, self.now) {
            Permission::Go { probe } => {
                self.customers[index as usize].turn.probe = probe;
                let struck = self.is_struck();
                let rate = if struck { self.setting.fault.stable } else { 0.0 };
                let (well, hung) = self.draw(index, rate);
                let took = self.took(well, hung, struck && rate > 0.0, self.setting.timeouts_ms.1);
                let ends = Event::Ends { customer: index, on_canary: false, well, hung };
                self.at(self.now + took, ends);
            }
            Permission::Wait { until } => {
                self.count(index, false, Class::Unavailable);
                self.park(index, until);
            }
        }
    }

    fn is_struck(&self) -> bool {
        (self.fault.0..self.fault.1).contains(&self.now)
    }

    /// Whether an attempt goes well, and whether it hangs.
    fn draw(&mut self, index: u32, rate: f64) -> (bool, bool) {
        if self.customers[index as usize].broken {
            return (false, false);
        }
        let by_fault = rate > 0.0 && self.outcomes.chance(rate);
        let well = !by_fault && !self.outcomes.chance(self.setting.base);
        (well, by_fault && self.setting.fault.hangs)
    }

    fn took(&mut self, well: bool, hung: bool, struck: bool, timeout_ms: u64) -> u64 {
        if hung {
            timeout_ms
        } else if !well && struck {
            REFUSED_MS
        } else {
            (500 + self.outcomes.gap(1_500.0)).min(timeout_ms - 1)
        }
    }

    pub(crate) fn canary_ends(&mut self, index: u32, well: bool, hung: bool) {
        if well {
            self.count(index, true, Class::Success);
            return self.ends(index);
        }
        self.count(index, true, if hung { Class::Timeout } else { Class::Http });
        if self.setting.fault.canary >= 1.0 && self.now >= self.fault.0 {
            let name = self.customers[index as usize].name;
            self.lately.push_back((self.now, name));
            if self.lately.len() > 64 {
                self.lately.pop_front();
            }
        }
        self.customers[index as usize].turn.failed_on_canary = true;
        self.asks_stable(index, false);
    }

    pub(crate) fn stable_ends(&mut self, index: u32, well: bool, hung: bool) {
        let Customer { turn, name, .. } = self.customers[index as usize];
        let replica = &mut self.replicas[usize::from(turn.replica)];
        let change = replica.breaker.record(name, turn.probe, well, self.now);
        if change == Change::Closed {
            self.wake(turn.replica);
        }
        if well {
            if turn.failed_on_canary {
                self.rescued(index);
            } else {
                self.count(index, false, Class::Success);
            }
            return self.ends(index);
        }
        self.count(index, false, if hung { Class::Timeout } else { Class::Http });
        if self.now - turn.began >= PATIENCE_MS {
            return self.ends(index);
        }
        let turn = &mut self.customers[index as usize].turn;
        turn.tries = turn.tries.saturating_add(1);
        let pause = (1_000_u64 << turn.tries.min(7).saturating_sub(1)).min(MINUTE_MS);
        let replica = &self.replicas[usize::from(turn.replica)];
        if replica.breaker.is_open() {
            self.park(index, replica.probe_at);
        } else {
            self.at(self.now + pause, Event::Retries(index));
        }
    }

    fn rescued(&mut self, index: u32) {
        let customer = &mut self.customers[index as usize];
        let route = self.replicas[usize::from(customer.turn.replica)].route;
        if customer.serving == route.serving && route.weight.is_some() {
            self.store.rescue(route.serving, &mut customer.standing);
        }
    }

    /// Counts the first attempt of a turn.
    fn count(&mut self, index: u32, on_canary: bool, class: Class) {
        let customer = &mut self.customers[index as usize];
        if customer.turn.counted {
            return;
        }
        customer.turn.counted = true;
        if customer.serving != customer.turn.serving {
            (customer.serving, customer.standing) = (customer.turn.serving, Standing::Unknown);
        }
        self.store.count(customer.serving, on_canary, class, &mut customer.standing);
    }

    /// The turn is over; what was written meanwhile is the next one.
    fn ends(&mut self, index: u32) {
        let customer = &mut self.customers[index as usize];
        customer.busy = false;
        if std::mem::take(&mut customer.waiting) {
            self.turns(index);
        }
        self.leaves(index);
    }

    /// Waits for stable with everybody else.
    fn park(&mut self, index: u32, until: u64) {
        let number = self.customers[index as usize].turn.replica;
        let replica = &mut self.replicas[usize::from(number)];
        replica.parked.push_back(index);
        if replica.probe_at <= self.now {
            replica.probe_at = until.max(self.now + 1_000);
            let at = replica.probe_at;
            self.at(at, Event::Probes(number));
        }
    }

    /// One of those who wait asks whether stable is back.
    pub(crate) fn probes(&mut self, number: u8) {
        let replica = &mut self.replicas[usize::from(number)];
        if let Some(index) = replica.parked.pop_front() {
            self.asks_stable(index, true);
        }
        let replica = &mut self.replicas[usize::from(number)];
        if !replica.parked.is_empty() && replica.probe_at <= self.now {
            replica.probe_at = self.now + 5_000;
            self.at(self.now + 5_000, Event::Probes(number));
        }
    }

    /// Stable is back.
    fn wake(&mut self, number: u8) {
        let parked = std::mem::take(&mut self.replicas[usize::from(number)].parked);
        for index in parked {
            let pause = self.outcomes.between(0, 1_000);
            self.at(self.now + pause, Event::Retries(index));
        }
    }
}

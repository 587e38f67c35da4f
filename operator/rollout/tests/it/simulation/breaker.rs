//! The gateway's breaker before stable's agent, as `gateway/src/outbound/agent/breaker.rs` has it: when
//! an agent that fails is left alone, and when it is tried again.

use std::collections::VecDeque;

const IN_A_ROW: usize = 5;
const CUSTOMERS: usize = 3;
const WINDOW: usize = 20;
const FIRST_PAUSE_MS: u64 = 5_000;
const LONGEST_PAUSE_MS: u64 = 15_000;

/// The breaker of one replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaker {
    recent: VecDeque<(u32, bool)>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: u64,
    earliest: u64,
    pause: u64,
    probing: bool,
}

/// Whether a call may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    Go {
        probe: bool,
    },
    /// Not now; it is worth asking again at this time.
    Wait {
        until: u64,
    },
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Closed,
}

impl Breaker {
    pub(crate) fn permit(&mut self, waited: bool, now: u64) -> Permission {
        let Some(open) = &mut self.open else { return Permission::Go { probe: false } };
        let due = if waited { open.earliest } else { open.until };
        if now < due {
            return Permission::Wait { until: open.until };
        }
        if open.probing {
            return Permission::Wait { until: open.until.max(now + FIRST_PAUSE_MS) };
        }
        open.probing = true;
        Permission::Go { probe: true }
    }

    /// When a message that waits may try, if it has to.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn record(&mut self, customer: u32, probe: bool, well: bool, now: u64) -> Change {
        match &mut self.open {
            Some(_) if well => {
                *self = Self::default();
                Change::Closed
            }
            Some(open) => {
                if probe && open.probing {
                    open.probing = false;
                    open.pause = (open.pause * 2).min(LONGEST_PAUSE_MS);
                    open.until = now + open.pause;
                    open.earliest = now + FIRST_PAUSE_MS;
                }
                Change::None
            }
            None => {
                self.count(customer, well, now);
                Change::None
            }
        }
    }

    fn count(&mut self, customer: u32, well: bool, now: u64) {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back((customer, well));
        if well {
            return;
        }
        let in_a_row = self.recent.iter().rev().take_while(|(_, well)| !well);
        let failed = self.recent.iter().filter(|(_, well)| !well);
        let is_full = self.recent.len() == WINDOW;
        if are_many(in_a_row, IN_A_ROW) || is_full && are_many(failed, WINDOW / 2 + 1) {
            let until = now + FIRST_PAUSE_MS;
            self.open =
                Some(Open { until, earliest: until, pause: FIRST_PAUSE_MS, probing: false });
        }
    }
}

/// Whether there are so many failures, and of several customers.
fn are_many<'a>(failures: impl Iterator<Item = &'a (u32, bool)>, least: usize) -> bool {
    let mut customers = [u32::MAX; CUSTOMERS];
    let (mut distinct, mut all) = (0, 0);
    for (customer, _) in failures {
        all += 1;
        if distinct < CUSTOMERS && !customers[..distinct].contains(customer) {
            customers[distinct] = *customer;
            distinct += 1;
        }
    }
    all >= least && distinct >= CUSTOMERS
}

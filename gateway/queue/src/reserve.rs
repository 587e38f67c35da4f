//! The outbound pace of a sender: a generic cell rate with booking ahead (I16).
//!
//! Takes a sender and its rate; gives the wait before its next send. It is the one verb that a
//! repetition changes: it may waste a slot, never grant one too many. Its state is no row: a store
//! that starts again begins with a full burst.

use kanarie_words::Millis;
use kanarie_words::ids::RouteHash;

use crate::queue::Queue;
use crate::verb::Verb;

/// Sends that may leave at once.
const BURST: u64 = 8;

/// How far ahead a send may be booked, in microseconds.
const HORIZON_US: u64 = 2_000_000;

/// Books one send of `sender` at `per_second`, or says when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Account and sender, hashed: no number stands in the name of a key.
    pub sender: RouteHash,
    /// Sends per second.
    pub per_second: u32,
}

/// The answer to a reservation of the outbound pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Booked: send after so many milliseconds.
    After(u64),
    /// Too far ahead, nothing is booked: try again after so many milliseconds.
    Busy(u64),
}

impl Verb for Reserve {
    type Answer = Reserved;

    fn apply(self, queue: &mut Queue, now: Millis) -> Reserved {
        let Self { sender, per_second } = self;
        let now_us = now.saturating_mul(1_000);
        let interval = (1_000_000 / u64::from(per_second.max(1))).max(1);
        let tolerance = BURST * interval;
        // A clock that stepped back must not block the sender until it has caught up.
        let latest = now_us.saturating_add(HORIZON_US + tolerance);
        let booked = queue.paces.get(&sender).copied().unwrap_or(0).clamp(now_us, latest);
        let next = booked.saturating_add(interval);
        let wait = next.saturating_sub(now_us.saturating_add(tolerance));
        if wait > HORIZON_US {
            queue.paces.insert(sender, booked);
            return Reserved::Busy((wait - HORIZON_US).div_ceil(1_000));
        }
        queue.paces.insert(sender, next);
        Reserved::After(wait.div_ceil(1_000))
    }
}

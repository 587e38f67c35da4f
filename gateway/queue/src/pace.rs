//! A pace: a generic cell rate with booking ahead.
//!
//! Takes a rate, a number of sends and the time; gives their wait, or says when to try again. A value
//! of its own, so that a replica which is alone keeps it without a store. Never reads a clock.

use kanarie_words::Millis;

/// Sends that may leave at once.
const BURST: u64 = 8;

/// Sends that one reservation books at most: as many as may leave at once.
pub const MOST: u32 = BURST as u32;

/// How far ahead a send may be booked, in microseconds.
const HORIZON_US: u64 = 2_000_000;

/// The pace of one sender: when its bookings so far have passed, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booked(u64);

/// The answer to a reservation of the outbound pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Booked: they may all be sent after so many milliseconds.
    After(u64),
    /// Too far ahead, nothing is booked: try again after so many milliseconds.
    Busy(u64),
}

impl Booked {
    /// Books so many sends, or says when to try again.
    pub fn book(&mut self, now: Millis, per_second: u32, count: u32) -> Reserved {
        let now_us = now.saturating_mul(1_000);
        let interval = (1_000_000 / u64::from(per_second.max(1))).max(1);
        let tolerance = BURST * interval;
        // A clock that stepped back must not block the sender until it has caught up.
        let latest = now_us.saturating_add(HORIZON_US + tolerance);
        self.0 = self.0.clamp(now_us, latest);
        let next = self.0.saturating_add(u64::from(count.clamp(1, MOST)) * interval);
        let wait = next.saturating_sub(now_us.saturating_add(tolerance));
        if wait > HORIZON_US {
            return Reserved::Busy((wait - HORIZON_US).div_ceil(1_000));
        }
        self.0 = next;
        Reserved::After(wait.div_ceil(1_000))
    }
}

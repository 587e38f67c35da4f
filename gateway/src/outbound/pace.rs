//! The pace of a sender, kept by this replica alone or booked with the store by each of several.
//!
//! Takes a sender and its rate, gives the wait before its next send. Books ahead when sends come close
//! together, so that the store is asked at most once in 50 ms for a sender: what is not used by then
//! is lost. Never lets a send go that is not booked.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kanarie_queue::pace::{Booked, MOST, Reserved};
use kanarie_words::ids::RouteHash;
use tokio::time::Instant;

/// How long a booking is good, and the shortest time between two.
const GOOD: Duration = Duration::from_millis(50);

/// The senders of this process.
pub(crate) struct Senders {
    began: Instant,
    senders: Mutex<HashMap<RouteHash, Sender>>,
}

/// One sender.
#[derive(Default)]
struct Sender {
    /// Kept here while no other replica lives.
    alone: Booked,
    /// The last booking with the store.
    shared: Option<Booking>,
}

/// Sends that were booked with the store.
#[derive(Clone, Copy)]
struct Booking {
    asked: Instant,
    size: u32,
    left: u32,
    from: Instant,
}

/// Whether a send of several replicas is booked already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// It is, and may go after so long.
    After(Duration),
    /// The store is to be asked for so many.
    Ask(u32),
}

impl Senders {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, senders: Mutex::default() }
    }

    /// Books a send here: no other replica sends.
    pub(crate) fn alone(&self, sender: &RouteHash, per_second: u32, now: Instant) -> Reserved {
        let millis = u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX);
        self.with(sender, |of| of.alone.book(millis, per_second, 1))
    }

    /// A send of the last booking, or how many to ask the store for.
    pub(crate) fn shared(&self, sender: &RouteHash, now: Instant) -> Slot {
        self.with(sender, |of| {
            let Some(last) = of.shared.as_mut().filter(|last| now < last.asked + GOOD) else {
                return Slot::Ask(1);
            };
            if last.left == 0 {
                let more = last.size.saturating_mul(2).min(MOST);
                // One asks for more; whoever comes meanwhile asks for his own.
                of.shared = None;
                return Slot::Ask(more);
            }
            last.left -= 1;
            Slot::After(last.from.saturating_duration_since(now))
        })
    }

    /// The store has booked sends that were asked for at `asked`, all of them from `from` on; one goes
    /// to whoever asked.
    pub(crate) fn booked(&self, sender: &RouteHash, size: u32, asked: Instant, from: Instant) {
        let booking = Booking { asked, size, left: size.saturating_sub(1), from };
        let is_more = |last: Booking| last.left <= booking.left || last.asked + GOOD <= asked;
        self.with(sender, |of| {
            if of.shared.is_none_or(is_more) {
                of.shared = Some(booking);
            }
        });
    }

    fn with<T>(&self, sender: &RouteHash, change: impl FnOnce(&mut Sender) -> T) -> T {
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        change(senders.entry(sender.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_queue::pace::{MOST, Reserved};
    use kanarie_words::ids::RouteHash;
    use tokio::time::Instant;

    use super::{GOOD, Senders, Slot};

    fn sender() -> RouteHash {
        "sender".parse().unwrap()
    }

    #[test]
    fn a_replica_that_is_alone_keeps_the_pace_by_itself() {
        let now = Instant::now();
        let senders = Senders::new(now);
        let waits = (0..10).map(|_| senders.alone(&sender(), 10, now)).collect::<Vec<_>>();
        assert_eq!(waits[7..], [0, 100, 200].map(Reserved::After));
        assert_eq!(senders.alone(&"other".parse().unwrap(), 10, now), Reserved::After(0));
        let later = now + Duration::from_millis(300);
        assert_eq!(senders.alone(&sender(), 10, later), Reserved::After(0));
    }

    #[test]
    fn sends_that_come_rarely_are_booked_one_by_one() {
        let now = Instant::now();
        let senders = Senders::new(now);
        for nth in 0..3 {
            let at = now + GOOD * nth;
            assert_eq!(senders.shared(&sender(), at), Slot::Ask(1));
            senders.booked(&sender(), 1, at, at);
        }
    }

    #[test]
    fn sends_that_come_close_together_are_booked_eight_at_a_time_at_the_most() {
        let now = Instant::now();
        let senders = Senders::new(now);
        let mut asked = Vec::new();
        for _ in 0..40 {
            if let Slot::Ask(count) = senders.shared(&sender(), now) {
                asked.push(count);
                senders.booked(&sender(), count, now, now);
            }
        }
        assert_eq!(asked, [1, 2, 4, MOST, MOST, MOST, MOST, MOST]);
    }

    #[test]
    fn of_those_that_come_at_once_a_single_one_asks_for_more() {
        let now = Instant::now();
        let senders = Senders::new(now);
        senders.booked(&sender(), 1, now, now);
        let asked: Vec<_> = (0..3).map(|_| senders.shared(&sender(), now)).collect();
        assert_eq!(asked, [Slot::Ask(2), Slot::Ask(1), Slot::Ask(1)]);
        [2, 1, 1].into_iter().for_each(|size| senders.booked(&sender(), size, now, now));
        assert_eq!(senders.shared(&sender(), now), Slot::After(Duration::ZERO), "one is left");
    }

    #[test]
    fn what_was_booked_waits_for_its_time_and_is_lost_after_fifty_milliseconds() {
        let now = Instant::now();
        let senders = Senders::new(now);
        let millis = Duration::from_millis;
        senders.booked(&sender(), 4, now, now + millis(30));
        let later = now + millis(10);
        assert_eq!(senders.shared(&sender(), later), Slot::After(millis(20)));
        let late = now + millis(49);
        assert_eq!(senders.shared(&sender(), late), Slot::After(Duration::ZERO));
        assert_eq!(senders.shared(&sender(), now + GOOD), Slot::Ask(1));
    }
}

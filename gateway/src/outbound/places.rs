//! The places for the turns of this process: so many at once, and never more of one channel than it
//! leaves free. Alone it has half of them; however many channels hang, another finds some. A channel
//! whose agent has room for few has as many.
//!
//! Takes claimed heads, gives each a place, or a pause when its channel has its share. A turn that
//! sleeps gives its place back meanwhile. Never claims, and never puts a head back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kanarie_words::ids::ChannelUid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::outbound::limit::{Limit, Sign};
use crate::outbound::returns::Returns;

/// Every place, and who has them.
pub(crate) struct Places {
    turns: u32,
    free: Arc<Semaphore>,
    seats: Mutex<Seats>,
}

/// The places that are taken.
#[derive(Default)]
struct Seats {
    taken: u32,
    channels: HashMap<ChannelUid, Channel>,
}

/// A place that is free for whoever is claimed next.
pub(crate) struct Free(OwnedSemaphorePermit);

/// A place that a turn has taken.
pub(crate) struct Seat {
    places: Arc<Places>,
    channel: ChannelUid,
    taken: Mutex<Option<OwnedSemaphorePermit>>,
}

/// What one channel has.
#[derive(Default)]
struct Channel {
    places: u32,
    returns: Returns,
    limit: Option<Limit>,
}

impl Places {
    /// So many places.
    pub(crate) fn new(turns: u32) -> Self {
        let free = Arc::new(Semaphore::new(turns as usize));
        Self { turns, free, seats: Mutex::default() }
    }

    /// Waits for a free place.
    pub(crate) async fn free(&self) -> Option<Free> {
        Arc::clone(&self.free).acquire_owned().await.ok().map(Free)
    }

    /// Gives a free place to a head of `channel`, or the pause after which it is claimed again.
    pub(crate) fn seat(
        self: &Arc<Self>,
        free: Free,
        channel: &ChannelUid,
        now: Instant,
    ) -> Result<Seat, Duration> {
        let mut seats = self.seats();
        if seats.take(channel, self.turns) {
            Ok(self.seated(free, channel))
        } else {
            Err(seats.channels.entry(channel.clone()).or_default().returns.book(now))
        }
    }

    /// The same at once, and without a pause to book; none when there is no place for this channel.
    pub(crate) fn seat_at_once(self: &Arc<Self>, channel: &ChannelUid) -> Option<Seat> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok().map(Free)?;
        self.seats().take(channel, self.turns).then(|| self.seated(free, channel))
    }

    /// Whether a place is free: while none is, somebody may wait for one.
    pub(crate) fn has_free(&self) -> bool {
        self.free.available_permits() > 0
    }

    fn seated(self: &Arc<Self>, free: Free, channel: &ChannelUid) -> Seat {
        let taken = Mutex::new(Some(free.0));
        Seat { places: Arc::clone(self), channel: channel.clone(), taken }
    }

    /// Learns how much room the agent of a channel has.
    pub(crate) fn learn(&self, channel: &ChannelUid, sign: Sign, now: Instant) {
        let mut seats = self.seats();
        if let Some(of_channel) = seats.channels.get_mut(channel) {
            of_channel.limit = Limit::after(of_channel.limit, sign, of_channel.places, now);
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// Takes one of so many places for a channel, unless it has its share.
    fn take(&mut self, channel: &ChannelUid, turns: u32) -> bool {
        let (places, limit) =
            self.channels.get(channel).map_or((0, None), |of| (of.places, of.limit));
        let has_share = places + self.taken >= turns;
        if has_share || limit.is_some_and(|limit| !limit.allows(places)) {
            return false;
        }
        self.channels.entry(channel.clone()).or_default().places += 1;
        self.taken += 1;
        true
    }
}

impl Seat {
    /// Gives the place back until `sleep` is over. Then the turn takes one again, even above the
    /// share of its channel, or goes on without when there is none: it has a reply to send, and what
    /// it still does is short.
    pub(crate) async fn rest<T>(&self, sleep: impl Future<Output = T>) -> T {
        drop(self.leave());
        let slept = sleep.await;
        if let Ok(permit) = Arc::clone(&self.places.free).try_acquire_owned() {
            let mut seats = self.places.seats();
            seats.taken += 1;
            seats.channels.entry(self.channel.clone()).or_default().places += 1;
            drop(seats);
            *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        }
        slept
    }

    /// Whether the turn has it now: one that slept may go on without.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Passes the place on to a head of a channel, or gives the pause after which that is claimed
    /// again.
    pub(crate) fn pass_on(self, channel: &ChannelUid, now: Instant) -> Result<Self, Duration> {
        let places = Arc::clone(&self.places);
        let free = self.leave();
        drop(self);
        match free.or_else(|| Arc::clone(&places.free).try_acquire_owned().ok()) {
            Some(permit) => places.seat(Free(permit), channel, now),
            None => {
                let mut seats = places.seats();
                Err(seats.channels.entry(channel.clone()).or_default().returns.book(now))
            }
        }
    }

    /// Gives the place up; whoever calls may still pass it on.
    fn leave(&self) -> Option<OwnedSemaphorePermit> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let mut seats = self.places.seats();
        seats.taken = seats.taken.saturating_sub(1);
        if let Some(channel) = seats.channels.get_mut(&self.channel) {
            channel.places = channel.places.saturating_sub(1);
            let is_over = channel.limit.is_none() && channel.returns.is_over(Instant::now());
            if channel.places == 0 && is_over {
                seats.channels.remove(&self.channel);
            }
        }
        Some(taken)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;
    use kanarie_words::ids::ChannelUid;
    use tokio::time::Instant;

    use super::{Places, Seat};
    use crate::outbound::limit::Sign;

    fn channel(name: &str) -> ChannelUid {
        name.parse().unwrap()
    }

    /// A place for a head of this channel, if there is one.
    fn seat(places: &Arc<Places>, name: &str) -> Option<Seat> {
        let free = places.free().now_or_never()??;
        places.seat(free, &channel(name), Instant::now()).ok()
    }

    #[test]
    fn a_channel_has_at_most_half_of_the_places() {
        let places = Arc::new(Places::new(4));
        let held: Vec<_> = ["a", "a", "a", "b", "b", "b"].map(|name| seat(&places, name)).into();
        let seated: Vec<bool> = held.iter().map(Option::is_some).collect();
        assert_eq!(seated, [true, true, false, true, false, false]);
    }

    #[test]
    fn channels_that_hang_leave_places_for_another() {
        let places = Arc::new(Places::new(2_000));
        let held: Vec<_> =
            (0..8_000).filter_map(|turn| seat(&places, ["a", "b", "c", "d"][turn % 4])).collect();
        assert_eq!(held.len(), 1_600, "a fifth each");
        assert!(seat(&places, "e").is_some());
    }

    #[test]
    fn a_place_is_given_back_and_of_a_single_one_everybody_may_have_it() {
        let places = Arc::new(Places::new(1));
        let first = seat(&places, "a");
        assert!(first.is_some() && seat(&places, "a").is_none());
        drop(first);
        assert!(seat(&places, "b").is_some());
        assert!(places.seats().channels.is_empty(), "nothing is kept of who left");
    }

    #[test]
    fn a_channel_has_as_many_places_as_its_agent_has_room_for() {
        let (places, now) = (Arc::new(Places::new(2_000)), Instant::now());
        let mut held: Vec<_> = (0..100).filter_map(|_| seat(&places, "a")).collect();
        places.learn(&channel("a"), Sign::Busy, now);
        assert!(seat(&places, "a").is_none() && seat(&places, "b").is_some());
        held.truncate(49);
        assert!(seat(&places, "a").is_some());
        places.learn(&channel("a"), Sign::Away, now);
        held.extend((0..100).filter_map(|_| seat(&places, "a")));
        assert_eq!(held.len(), 149);
    }

    #[test]
    fn a_place_is_passed_on_to_a_head_of_any_channel_that_may_have_it() {
        let (places, now) = (Arc::new(Places::new(2)), Instant::now());
        let (first, second) = (seat(&places, "a").unwrap(), seat(&places, "b").unwrap());
        let first = first.pass_on(&channel("a"), now).ok().unwrap();
        assert!(first.pass_on(&channel("b"), now).is_err(), "b has its share");
        assert!(places.has_free(), "what is not passed on is free");
        let passed = second.pass_on(&channel("c"), now).ok().unwrap();
        assert!(seat(&places, "c").is_none() && seat(&places, "b").is_some());
        drop(passed);
    }

    #[test]
    fn a_place_is_had_at_once_or_not_at_all() {
        let places = Arc::new(Places::new(2));
        let held = places.seat_at_once(&channel("a"));
        assert!(held.is_some() && places.seat_at_once(&channel("a")).is_none());
        let other = places.seat_at_once(&channel("b"));
        assert!(other.is_some() && !places.has_free());
        assert!(places.seat_at_once(&channel("c")).is_none());
    }

    #[tokio::test]
    async fn a_turn_that_sleeps_gives_its_place_back_and_takes_one_again() {
        let places = Arc::new(Places::new(1));
        let sleeper = seat(&places, "a").unwrap();
        sleeper.rest(async { assert!(seat(&places, "b").is_some()) }).await;
        assert!(seat(&places, "b").is_none());
        drop(sleeper);
        assert!(seat(&places, "b").is_some());
    }

    #[tokio::test]
    async fn a_turn_that_wakes_goes_on_though_no_place_is_free() {
        let places = Arc::new(Places::new(1));
        let sleeper = seat(&places, "a").unwrap();
        let other = sleeper.rest(async { seat(&places, "b") }).await;
        drop(sleeper);
        assert!(seat(&places, "c").is_none());
        drop(other);
        assert!(seat(&places, "c").is_some());
    }
}

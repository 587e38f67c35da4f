//! The places for the turns of this process: so many at once, and never more of one channel than it
//! leaves free. Alone it has half of them, and those that hang leave some to the next. A channel whose
//! stable agent has room for few questions gets no more.
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

/// Heads of one shard that a place takes in a row while no other is free: then it goes to whoever waits
/// for one.
const IN_A_ROW: u8 = 4;

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
    /// Heads that it was taken for in a row.
    in_a_row: u8,
}

/// A question to stable that is out.
pub(crate) struct InFlight {
    places: Arc<Places>,
    channel: ChannelUid,
}

/// What one channel has.
#[derive(Default)]
struct Channel {
    places: u32,
    returns: Returns,
    /// Questions that stable is being asked, and the most of them.
    in_flight: u32,
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

    /// Gives a free place to a head of `channel`, or the pause after which it is claimed again. One
    /// that has its reply asks nobody.
    pub(crate) fn seat(
        self: &Arc<Self>,
        free: Free,
        channel: &ChannelUid,
        has_reply: bool,
        now: Instant,
    ) -> Result<Seat, Duration> {
        let mut seats = self.seats();
        if seats.take(channel, self.turns, has_reply, now) {
            Ok(self.seated(free, channel))
        } else {
            Err(seats.channels.entry(channel.clone()).or_default().returns.book(now))
        }
    }

    /// The same at once for a message that just came, and without a pause to book; none when there is
    /// no place for this channel.
    pub(crate) fn seat_at_once(
        self: &Arc<Self>,
        channel: &ChannelUid,
        now: Instant,
    ) -> Option<Seat> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok().map(Free)?;
        let is_taken = self.seats().take(channel, self.turns, false, now);
        is_taken.then(|| self.seated(free, channel))
    }

    /// Whether a place is free: while none is, somebody may wait for one.
    pub(crate) fn has_free(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.seats().taken
    }

    fn seated(self: &Arc<Self>, free: Free, channel: &ChannelUid) -> Seat {
        let taken = Mutex::new(Some(free.0));
        Seat { places: Arc::clone(self), channel: channel.clone(), taken, in_a_row: 1 }
    }

    /// Counts a question to stable until it is dropped.
    pub(crate) fn ask(self: &Arc<Self>, channel: &ChannelUid) -> InFlight {
        self.seats().channels.entry(channel.clone()).or_default().in_flight += 1;
        InFlight { places: Arc::clone(self), channel: channel.clone() }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Gives the place back until `sleep` is over. Then the turn takes one again, or goes on without
    /// when there is none for its channel: it has a reply to send, and what it still does is short.
    pub(crate) async fn rest<T>(&self, sleep: impl Future<Output = T>) -> T {
        drop(self.leave());
        let slept = sleep.await;
        if let Ok(permit) = Arc::clone(&self.places.free).try_acquire_owned()
            && self.places.seats().take(&self.channel, self.places.turns, true, Instant::now())
        {
            *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        }
        slept
    }

    /// Whether it may be passed on to the next head of its shard: a turn that slept may have gone on
    /// without, and somebody may have waited for it long enough.
    pub(crate) fn may_pass_on(&self) -> bool {
        let is_taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        is_taken && (self.in_a_row < IN_A_ROW || self.places.has_free())
    }

    /// Passes the place on to a head of a channel, or gives the pause after which that is claimed
    /// again.
    pub(crate) fn pass_on(
        self,
        channel: &ChannelUid,
        has_reply: bool,
        now: Instant,
    ) -> Result<Self, Duration> {
        let places = Arc::clone(&self.places);
        let in_a_row = self.in_a_row.saturating_add(1);
        let free = self.leave();
        drop(self);
        match free.or_else(|| Arc::clone(&places.free).try_acquire_owned().ok()) {
            Some(permit) => {
                let mut seat = places.seat(Free(permit), channel, has_reply, now)?;
                seat.in_a_row = in_a_row;
                Ok(seat)
            }
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
        seats.change(&self.channel, |channel| channel.places = channel.places.saturating_sub(1));
        Some(taken)
    }
}

impl InFlight {
    /// Learns from the answer how much room the agent has.
    pub(crate) fn learn(&self, sign: Sign, now: Instant) {
        self.places.seats().change(&self.channel, |channel| {
            channel.limit = Limit::after(channel.limit, sign, channel.in_flight, now);
        });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut seats = self.places.seats();
        seats.change(&self.channel, |channel| {
            channel.in_flight = channel.in_flight.saturating_sub(1)
        });
    }
}

impl Seats {
    /// Takes a place for a channel, unless it has as many as are free, or its agent no room for the
    /// question of one without a reply.
    fn take(&mut self, channel: &ChannelUid, turns: u32, has_reply: bool, now: Instant) -> bool {
        let of_channel = self.channels.entry(channel.clone()).or_default();
        let limit = of_channel.limit.filter(|_| !has_reply);
        let is_limited = limit.is_some_and(|limit| !limit.allows(of_channel.in_flight, now));
        let has_place = of_channel.places + self.taken < turns && !is_limited;
        if has_place {
            of_channel.places += 1;
            self.taken += 1;
        }
        has_place
    }

    /// Changes what a channel has; forgets one that has nothing.
    fn change(&mut self, channel: &ChannelUid, change: impl FnOnce(&mut Channel)) {
        let Some(of_channel) = self.channels.get_mut(channel) else { return };
        change(of_channel);
        let now = Instant::now();
        let Channel { places, in_flight, returns, limit } = of_channel;
        let is_free = limit.is_none_or(|limit| limit.is_over(now)) && returns.is_over(now);
        if *places == 0 && *in_flight == 0 && is_free {
            self.channels.remove(channel);
        }
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
        places.seat(free, &channel(name), false, Instant::now()).ok()
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
        let mut in_flight: Vec<_> = (0..100).map(|_| places.ask(&channel("a"))).collect();
        in_flight[0].learn(Sign::Busy(now), now);
        assert!(seat(&places, "a").is_none() && seat(&places, "b").is_some());
        let free = places.free().now_or_never().flatten().unwrap();
        assert!(places.seat(free, &channel("a"), true, now).is_ok(), "it has its reply");
        in_flight.truncate(49);
        assert!(seat(&places, "a").is_some());
        assert!(seat(&places, "a").is_some(), "a canary's turns count for nothing");
    }

    #[test]
    fn a_place_is_passed_on_to_a_head_of_any_channel_that_may_have_it() {
        let (places, now) = (Arc::new(Places::new(2)), Instant::now());
        let (first, second) = (seat(&places, "a").unwrap(), seat(&places, "b").unwrap());
        let first = first.pass_on(&channel("a"), false, now).ok().unwrap();
        assert!(first.pass_on(&channel("b"), false, now).is_err(), "b has its share");
        assert!(places.has_free(), "what is not passed on is free");
        let passed = second.pass_on(&channel("c"), false, now).ok().unwrap();
        assert!(seat(&places, "c").is_none() && seat(&places, "b").is_some());
        drop(passed);
    }

    #[test]
    fn a_place_is_passed_on_three_times_while_no_other_is_free() {
        let (places, now) = (Arc::new(Places::new(2)), Instant::now());
        let mut held = seat(&places, "a").unwrap();
        let other = seat(&places, "b").unwrap();
        for _ in 0..3 {
            assert!(held.may_pass_on());
            held = held.pass_on(&channel("a"), false, now).ok().unwrap();
        }
        assert!(!held.may_pass_on(), "somebody may wait");
        drop(other);
        assert!(held.may_pass_on());
    }

    #[test]
    fn a_place_is_had_at_once_or_not_at_all() {
        let (places, now) = (Arc::new(Places::new(2)), Instant::now());
        let held = places.seat_at_once(&channel("a"), now);
        assert!(held.is_some() && places.seat_at_once(&channel("a"), now).is_none());
        let other = places.seat_at_once(&channel("b"), now);
        assert!(other.is_some() && !places.has_free());
        assert!(places.seat_at_once(&channel("c"), now).is_none());
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
    async fn turns_that_wake_take_no_more_than_their_share() {
        let places = Arc::new(Places::new(4));
        let sleeper = seat(&places, "a").unwrap();
        let others = sleeper.rest(async { [seat(&places, "a"), seat(&places, "a")] }).await;
        assert!(others.iter().all(Option::is_some));
        assert!(seat(&places, "b").is_some(), "the sleeper went on without");
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

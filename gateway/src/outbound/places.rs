//! The places for the turns of this process: so many at once, and at most half of them of one channel.
//!
//! Takes claimed heads, gives each a place, or a pause when its channel has its share. A turn that
//! sleeps gives its place back meanwhile. Never claims, and never puts a head back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kanarie_words::ids::ChannelUid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::outbound::returns::Returns;

/// Every place, and who has them.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// Most places of one channel.
    share: u32,
    channels: Mutex<HashMap<ChannelUid, Channel>>,
}

/// A place that is free for whoever is claimed next.
pub(crate) struct Free(OwnedSemaphorePermit);

/// The place of a turn.
pub(crate) struct Place {
    places: Arc<Places>,
    channel: ChannelUid,
    taken: Mutex<Option<OwnedSemaphorePermit>>,
}

/// What one channel has.
#[derive(Default)]
struct Channel {
    places: u32,
    returns: Returns,
}

impl Places {
    /// So many places.
    pub(crate) fn new(turns: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(turns as usize)),
            share: turns.div_ceil(2),
            channels: Mutex::default(),
        }
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
    ) -> Result<Place, Duration> {
        let mut channels = self.channels();
        let of_channel = channels.entry(channel.clone()).or_default();
        if of_channel.places >= self.share {
            return Err(of_channel.returns.book(now));
        }
        of_channel.places += 1;
        let taken = Mutex::new(Some(free.0));
        Ok(Place { places: Arc::clone(self), channel: channel.clone(), taken })
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelUid, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Gives the place back until `sleep` is over. Then the turn takes one again, or goes on without
    /// when there is none: it has a reply to send, and what it still does is short.
    pub(crate) async fn rest<T>(&self, sleep: impl Future<Output = T>) -> T {
        self.leave();
        let slept = sleep.await;
        if let Ok(permit) = Arc::clone(&self.places.free).try_acquire_owned() {
            self.places.channels().entry(self.channel.clone()).or_default().places += 1;
            *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
        }
        slept
    }

    fn leave(&self) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take();
        if taken.is_none() {
            return;
        }
        let mut channels = self.places.channels();
        if let Some(channel) = channels.get_mut(&self.channel) {
            channel.places = channel.places.saturating_sub(1);
            if channel.places == 0 && channel.returns.is_over(Instant::now()) {
                channels.remove(&self.channel);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt as _;
    use kanarie_words::ids::ChannelUid;
    use tokio::time::Instant;

    use super::{Place, Places};

    fn channel(name: &str) -> ChannelUid {
        name.parse().unwrap()
    }

    /// A place for a head of this channel, if there is one.
    fn seat(places: &Arc<Places>, name: &str) -> Option<Place> {
        let free = places.free().now_or_never()??;
        places.seat(free, &channel(name), Instant::now()).ok()
    }

    #[test]
    fn a_channel_has_at_most_half_of_the_places() {
        let places = Arc::new(Places::new(4));
        let held: Vec<_> = ["a", "a", "a", "b", "b", "b"].map(|name| seat(&places, name)).into();
        let seated: Vec<bool> = held.iter().map(Option::is_some).collect();
        assert_eq!(seated, [true, true, false, true, true, false]);
    }

    #[test]
    fn a_place_is_given_back_and_of_a_single_one_everybody_may_have_it() {
        let places = Arc::new(Places::new(1));
        let first = seat(&places, "a");
        assert!(first.is_some() && seat(&places, "a").is_none());
        drop(first);
        assert!(seat(&places, "b").is_some());
        assert!(places.channels().is_empty(), "nothing is kept of who left");
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

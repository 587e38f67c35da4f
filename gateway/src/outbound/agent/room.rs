//! The memory for all answers that are being read at once, in this process.
//!
//! Takes what a reader holds, gives it a place when that is more than a little. A place is as large
//! as the most that a reader can hold and is taken in one step, so nobody holds a part while
//! waiting for the rest. One channel has at most half of the places: agents of others that answer
//! at length and slowly do not stop it. Never counts what is passed over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kanarie_words::ids::ChannelUid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::outbound::agent::answer::Failure;

/// What each reader may hold without a place.
const LITTLE: usize = 16 * 1024;
/// The most that a reader holds: two texts of 128,000 bytes and one that is being read, a question
/// as JSON, a decoder.
const PLACE: usize = 512 * 1024;
/// Memory of all places.
const BUDGET: usize = 64 * 1024 * 1024;

/// The places.
#[derive(Debug)]
pub(crate) struct Rooms {
    all: Arc<Semaphore>,
    of_each: usize,
    channels: Mutex<HashMap<ChannelUid, Arc<Semaphore>>>,
}

/// What one reader may hold, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    rooms: &'a Rooms,
    channel: &'a ChannelUid,
    deadline: Instant,
    place: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Rooms {
    /// A little for each reader of an answer to `channel`; more of it has `deadline` to come.
    pub(crate) fn room<'a>(&'a self, channel: &'a ChannelUid, deadline: Instant) -> Room<'a> {
        Room { rooms: self, channel, deadline, place: None }
    }

    fn with_places(places: usize) -> Self {
        let of_each = places.div_ceil(2);
        Self { all: Arc::new(Semaphore::new(places)), of_each, channels: Mutex::default() }
    }

    fn of(&self, channel: &ChannelUid) -> Arc<Semaphore> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.retain(|_, places| Arc::strong_count(places) > 1);
        let places = channels.entry(channel.clone());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(self.of_each))))
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self::with_places(BUDGET / PLACE)
    }
}

impl Room<'_> {
    /// Goes on with so many bytes held; waits for a place when they are more than a little.
    pub(crate) async fn hold(&mut self, bytes: usize) -> Result<(), Failure> {
        if self.place.is_some() || bytes <= LITTLE {
            return Ok(());
        }
        // Its own channel's first: who waits there holds nothing of the others'.
        let (own, all) = (self.rooms.of(self.channel), Arc::clone(&self.rooms.all));
        let both =
            async { Some((own.acquire_owned().await.ok()?, all.acquire_owned().await.ok()?)) };
        self.place = timeout_at(self.deadline, both).await.map_err(|_| Failure::Deadline)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_words::ids::ChannelUid;
    use tokio::time::Instant;

    use super::{LITTLE, Rooms};
    use crate::outbound::agent::answer::Failure;

    fn channel(uid: &str) -> ChannelUid {
        uid.parse().unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_little_is_free_and_more_waits_for_a_place_until_its_deadline() {
        let (rooms, a, b) = (Rooms::with_places(1), channel("a"), channel("b"));
        let mut first = rooms.room(&a, soon());
        assert_eq!(first.hold(LITTLE + 1).await, Ok(()));
        let mut second = rooms.room(&b, soon());
        assert_eq!(second.hold(LITTLE).await, Ok(()));
        assert_eq!(second.hold(LITTLE + 1).await, Err(Failure::Deadline));
        drop(first);
        let mut third = rooms.room(&b, soon());
        assert_eq!(third.hold(LITTLE + 1).await, Ok(()));
        assert_eq!(third.hold(usize::MAX).await, Ok(()), "it has its place");
    }

    #[tokio::test(start_paused = true)]
    async fn one_channel_has_half_of_the_places() {
        let (rooms, a, b) = (Rooms::with_places(4), channel("a"), channel("b"));
        let mut of_a: Vec<_> = (0..3).map(|_| rooms.room(&a, soon())).collect();
        assert_eq!(of_a[0].hold(LITTLE + 1).await, Ok(()));
        assert_eq!(of_a[1].hold(LITTLE + 1).await, Ok(()));
        assert_eq!(of_a[2].hold(LITTLE + 1).await, Err(Failure::Deadline));
        assert_eq!(rooms.room(&b, soon()).hold(LITTLE + 1).await, Ok(()));
    }
}

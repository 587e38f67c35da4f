//! The memory for all answers that are being read at once, in this process.
//!
//! Takes how much of an answer has come, gives its reader a place when that is more than a little. A
//! place is as large as the most that a reader and its connection hold and is taken in one step, so
//! nobody holds a part while waiting for the rest. One namespace has no more places than are free, so
//! whatever it does the next one finds some, and few of its readers wait for one. Says how long was
//! waited, for that is not the agent's time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::outbound::agent::answer::Failure;

/// What may come to each reader without a place.
const LITTLE: usize = 16 * 1024;
/// The most that a reader holds: texts of 128,000 bytes, one being read and copied and up to four
/// kept, a decoder; and two chunks of 408 KiB, the one in hand and the one that its connection has
/// read ahead.
const PLACE: usize = 2 * 1024 * 1024;
/// Memory of all places.
const BUDGET: usize = 64 * 1024 * 1024;
/// Longest wait for a place.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Readers of one namespace that wait at most: each holds what its connection has read.
const WAITING: usize = 16;

/// The places.
#[derive(Debug)]
pub(crate) struct Rooms(Mutex<Table>);

/// What one reader may hold, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    rooms: &'a Rooms,
    namespace: &'a str,
    has_place: bool,
}

#[derive(Debug)]
struct Table {
    free: usize,
    namespaces: HashMap<String, Namespace>,
}

#[derive(Debug, Default)]
struct Namespace {
    held: usize,
    freed: Arc<Notify>,
}

impl Rooms {
    /// A little for each reader of an answer to a channel of `namespace`.
    pub(crate) fn room<'a>(&'a self, namespace: &'a str) -> Room<'a> {
        Room { rooms: self, namespace, has_place: false }
    }

    fn with_places(free: usize) -> Self {
        Self(Mutex::new(Table { free, namespaces: HashMap::new() }))
    }

    /// Takes a place, or says what rings when it is worth trying again; nothing when too many wait.
    fn take(&self, namespace: &str) -> Result<(), Option<Arc<Notify>>> {
        let mut table = self.table();
        let free = table.free;
        let entry = table.namespaces.entry(namespace.to_owned()).or_default();
        if entry.held >= free {
            // Whoever waits has one.
            let are_many = Arc::strong_count(&entry.freed) > WAITING;
            return Err((!are_many).then(|| Arc::clone(&entry.freed)));
        }
        entry.held += 1;
        // There may be one for the next as well: one ring stands for several places.
        entry.freed.notify_one();
        table.free -= 1;
        Ok(())
    }

    fn give_back(&self, namespace: &str) {
        let mut table = self.table();
        table.free += 1;
        if let Some(entry) = table.namespaces.get_mut(namespace) {
            entry.held = entry.held.saturating_sub(1);
        }
        table.namespaces.retain(|_, entry| entry.held > 0 || Arc::strong_count(&entry.freed) > 1);
        // One more is free for each of them.
        table.namespaces.values().for_each(|entry| entry.freed.notify_one());
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self::with_places(BUDGET / PLACE)
    }
}

impl Room<'_> {
    /// Goes on when so many bytes have come; waits for a place when they are more than a little.
    /// Gives how long it waited.
    pub(crate) async fn hold(&mut self, bytes: usize) -> Result<Duration, Failure> {
        if self.has_place || bytes <= LITTLE {
            return Ok(Duration::ZERO);
        }
        let began = Instant::now();
        let (rooms, namespace) = (self.rooms, self.namespace);
        let taken = async {
            while let Err(freed) = rooms.take(namespace) {
                freed.ok_or(Failure::NoMemory)?.notified().await;
            }
            Ok(())
        };
        timeout(LONGEST_WAIT, taken).await.unwrap_or(Err(Failure::NoMemory))?;
        self.has_place = true;
        Ok(began.elapsed())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.has_place {
            self.rooms.give_back(self.namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep, timeout};

    use super::{LITTLE, Room, Rooms, WAITING};
    use crate::outbound::agent::answer::Failure;

    const MUCH: usize = LITTLE + 1;

    /// Rooms of a namespace that have a place, until it gets no more.
    async fn all<'a>(rooms: &'a Rooms, namespace: &'a str) -> Vec<Room<'a>> {
        let mut all = Vec::new();
        loop {
            let mut room = rooms.room(namespace);
            match room.hold(MUCH).await {
                Ok(_) => all.push(room),
                Err(failure) => {
                    assert_eq!(failure, Failure::NoMemory);
                    return all;
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_little_is_free_and_more_waits_for_a_place() {
        let rooms = Rooms::with_places(1);
        let mut first = rooms.room("a");
        assert_eq!(first.hold(MUCH).await, Ok(Duration::ZERO));
        assert_eq!(first.hold(usize::MAX).await, Ok(Duration::ZERO), "it has its place");
        let mut second = rooms.room("b");
        assert_eq!(second.hold(LITTLE).await, Ok(Duration::ZERO));
        let (waited, ()) = tokio::join!(second.hold(MUCH), async {
            sleep(Duration::from_secs(3)).await;
            drop(first);
        });
        assert_eq!(waited, Ok(Duration::from_secs(3)));
        assert_eq!(rooms.room("a").hold(MUCH).await, Err(Failure::NoMemory));
        drop(second);
        assert!(rooms.table().namespaces.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_has_as_many_places_as_it_leaves() {
        let rooms = Rooms::with_places(64);
        let one = all(&rooms, "a").await;
        let two = all(&rooms, "b").await;
        assert_eq!((one.len(), two.len()), (32, 16));
        assert_eq!(rooms.room("c").hold(MUCH).await, Ok(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_rung_for_every_place_that_comes_back() {
        let rooms = Rooms::with_places(8);
        let mut of_a = all(&rooms, "a").await;
        let of_b = all(&rooms, "b").await;
        assert_eq!((of_a.len(), of_b.len()), (4, 2));
        let (mut c, mut d) = (rooms.room("c"), rooms.room("c"));
        let (mut e, mut f) = (rooms.room("c"), rooms.room("b"));
        assert_eq!(c.hold(MUCH).await, Ok(Duration::ZERO));
        let (d, e, f, ()) = tokio::join!(d.hold(MUCH), e.hold(MUCH), f.hold(MUCH), async {
            sleep(Duration::from_secs(1)).await;
            of_a.clear();
        });
        assert!(d.is_ok() && e.is_ok() && f.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn few_readers_of_a_namespace_wait() {
        let rooms = Rooms::with_places(2);
        let _first = all(&rooms, "a").await;
        let mut readers: Vec<_> = (0..40).map(|_| rooms.room("a")).collect();
        let waited = futures::future::join_all(readers.iter_mut().map(|room| async {
            let began = Instant::now();
            assert_eq!(room.hold(MUCH).await, Err(Failure::NoMemory));
            began.elapsed()
        }));
        let refused = waited.await.iter().filter(|waited| waited.is_zero()).count();
        assert_eq!(refused, 40 - WAITING);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stops_waiting_takes_no_ring_with_it() {
        let rooms = Rooms::with_places(2);
        let first = all(&rooms, "a").await;
        let (mut impatient, mut patient) = (rooms.room("a"), rooms.room("a"));
        let (gone, waited, ()) = tokio::join!(
            timeout(Duration::from_secs(1), impatient.hold(MUCH)),
            patient.hold(MUCH),
            async {
                sleep(Duration::from_secs(2)).await;
                drop(first);
            },
        );
        assert!(gone.is_err());
        assert_eq!(waited, Ok(Duration::from_secs(2)));
    }
}

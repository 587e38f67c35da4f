//! The store of one machine: the message machine over a database in a directory.
//!
//! Takes verbs; gives their answers only once the rows they changed are durable. One thread owns
//! machine and database; verbs that wait while it commits share its next commit. If a commit fails
//! nothing is answered as done: the machine is thrown away and read back from the database, and
//! until that has worked every verb is answered `Unavailable` at once. If the disk itself failed that is
//! the end of it: the process has to be started anew. Never shares a directory with
//! another process. Heartbeats are memory: whoever sends them lives and dies with this store.

mod ageing;
mod compaction;
mod database;
mod disk;
mod held;
pub mod open_error;
pub mod opening;
mod replicas;
mod room;
mod told;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kanarie_queue::verb::Verb;
use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ReplicaName, StoreKey};
use redb::StorageBackend;

use crate::clock::WallClock;
use crate::store::embedded::database::{Opener, Seed, Source};
use crate::store::embedded::open_error::EmbeddedOpenError;
use crate::store::embedded::opening::Opening;
use crate::store::embedded::replicas::Replicas;
use crate::store::embedded::room::Room;
use crate::store::embedded::writer::Writer;
use crate::store::error::StoreError;
use crate::store::fleet::{Acknowledgement, Heard, Heartbeat, ReplicaState};

/// The store of one machine.
pub struct EmbeddedStore {
    writer: Writer,
    replicas: Mutex<Replicas>,
    clock: WallClock,
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is made if it does not exist.
    pub fn open(directory: &Path, clock: WallClock) -> Result<Self, EmbeddedOpenError> {
        Self::open_within(directory, None, clock, &Arc::default())
    }

    /// Opens it within so many bytes of memory, while somebody else is told how far that is.
    pub fn open_within(
        directory: &Path,
        memory: Option<u64>,
        clock: WallClock,
        opening: &Arc<Opening>,
    ) -> Result<Self, EmbeddedOpenError> {
        let opener = database::in_directory(directory, opening)?;
        let room = Room::new(room::of_directory(directory));
        Self::with_opener(opener, room, memory, clock, opening)
    }

    /// Opens the store over storage of the caller, who is asked for it again after each failure.
    /// For tests of failing disks.
    pub fn over<B: StorageBackend>(
        storage: impl Fn() -> B + Send + 'static,
        clock: WallClock,
    ) -> Result<Self, EmbeddedOpenError> {
        let room = Room::new(Box::new(|| None));
        Self::with_opener(database::over(storage), room, None, clock, &Arc::default())
    }

    /// A store that forgets everything when it is dropped. For tests; no flag leads here.
    pub fn in_memory(clock: WallClock) -> Result<Self, EmbeddedOpenError> {
        Self::over(redb::backends::InMemoryBackend::new, clock)
    }

    fn with_opener(
        opener: Opener,
        room: Room,
        memory: Option<u64>,
        clock: WallClock,
        opening: &Arc<Opening>,
    ) -> Result<Self, EmbeddedOpenError> {
        let mut random = [0; 32 + 32 * 8];
        getrandom::fill(&mut random)
            .map_err(|error| EmbeddedOpenError::Random(error.to_string()))?;
        let seed = Seed::from_random(&random);
        let source = Source { opener, seed, memory, opening: Arc::clone(opening) };
        let writer = Writer::start(source, room, Arc::clone(&clock))?;
        Ok(Self { writer, replicas: Mutex::default(), clock })
    }

    /// Runs a verb; what it changed is durable when this returns.
    pub(super) async fn run<V: Verb>(&self, verb: V) -> Result<V::Answer, StoreError> {
        self.writer.run(move |queue, now| queue.run(now, verb)).await
    }

    pub(super) async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Heard, StoreError> {
        if self.key().await? != heartbeat.key {
            return Ok(Heard::OtherKey);
        }
        let now = (self.clock)();
        let mut accounts = self.accounts();
        accounts.beat(now, heartbeat);
        let live = accounts.heard(now).iter().filter(|of| of.is_live(now)).count() as u64;
        let asked = accounts.asked(now);
        Ok(Heard::Done { asked, live })
    }

    pub(super) async fn note_asked(&self) -> Result<(), StoreError> {
        self.ping().await?;
        self.accounts().note_asked((self.clock)());
        Ok(())
    }

    pub(super) async fn goodbye(&self, replica: ReplicaName) -> Result<(), StoreError> {
        self.accounts().forget(&replica);
        Ok(())
    }

    pub(super) async fn heard(&self) -> Result<(Millis, Vec<ReplicaState>), StoreError> {
        self.ping().await?;
        let now = (self.clock)();
        Ok((now, self.accounts().heard(now)))
    }

    pub(super) async fn acknowledged(
        &self,
        replica: ReplicaName,
        channels: Option<Vec<ChannelUid>>,
    ) -> Result<Vec<Acknowledgement>, StoreError> {
        self.ping().await?;
        let now = (self.clock)();
        Ok(self.accounts().acknowledged(now, &replica, channels.as_deref()))
    }

    pub(super) async fn key(&self) -> Result<StoreKey, StoreError> {
        let key = self.writer.run(|queue, _| queue.key());
        Ok(key.await?.expect("the writer gives the machine its key at the start"))
    }

    pub(super) async fn broken(&self) {
        self.writer.broken().await;
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.writer.run(|_, _| ()).await
    }

    /// The replicas' own accounts; a panic between two of their fields leaves them as good as before.
    fn accounts(&self) -> MutexGuard<'_, Replicas> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

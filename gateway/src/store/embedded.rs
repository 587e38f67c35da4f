//! The store of one machine: the message machine over a database in a directory.
//!
//! Takes verbs; gives their answers only once the rows they changed are durable. One thread owns
//! machine and database; verbs that wait while it commits share its next commit. If a commit fails
//! nothing is answered as done: the machine is thrown away and read back from the database, and
//! until that has worked every verb is answered `Unavailable` at once. Never shares a directory with
//! another process. Heartbeats are memory: whoever sends them lives and dies with this store.

mod database;
mod replicas;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kanarie_queue::load::LoadError;
use kanarie_queue::queue::Queue;
use kanarie_queue::send::Attempt;
use kanarie_queue::types::{
    Admission, Admit, Buried, Claimed, Committed, ConversationId, DeadLetters, Evidence, Intent,
    Lease, Marked, Millis, Nonce, Owned, Reserved,
};
use redb::StorageBackend;
use sha2::{Digest, Sha256};

use self::database::{Opener, Seed};
use self::replicas::Replicas;
use self::writer::Writer;
use crate::clock::Clock;
use crate::store::{Answer, ChannelCounts, Heartbeat, ReplicaState, Store};

/// The store of one machine.
pub struct EmbeddedStore {
    writer: Writer,
    replicas: Mutex<Replicas>,
    clock: Clock,
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody has it open.
    #[error("the store is in use by another process: stop that one or give this one its own path")]
    InUse,
    /// The directory is missing and cannot be made, or cannot be written.
    #[error("the store's directory {} cannot be used: make it writable", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A newer version has written it.
    #[error(
        "the store was written by a newer version (rows {found}, this one reads up to {reads}): run that version or start with an empty path"
    )]
    Newer {
        /// The version that it found.
        found: u64,
        /// The newest that this program reads.
        reads: u64,
    },
    /// The rows are not what they must be.
    #[error("the store is damaged: restore it or start with an empty path")]
    Damaged(#[from] LoadError),
    /// The database cannot be opened or read.
    #[error("the store cannot be opened: look after its disk")]
    Database(#[from] redb::Error),
    /// The database failed in a way that it does not describe.
    #[error("the store's database stopped with: {0}")]
    Panicked(String),
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is made if it does not exist.
    pub fn open(directory: &Path, clock: Clock) -> Result<Self, OpenError> {
        Self::with_opener(database::in_directory(directory)?, clock)
    }

    /// Opens the store over storage of the caller, who is asked for it again after each failure.
    /// For tests of failing disks.
    pub fn over<B: StorageBackend>(
        storage: impl Fn() -> B + Send + 'static,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        Self::with_opener(database::over(storage), clock)
    }

    /// A store that forgets everything when it is dropped. For tests; no flag leads here.
    pub fn in_memory(clock: Clock) -> Result<Self, OpenError> {
        Self::over(redb::backends::InMemoryBackend::new, clock)
    }

    fn with_opener(opener: Opener, clock: Clock) -> Result<Self, OpenError> {
        let mut random = [0; 32 + 32 * 8];
        getrandom::fill(&mut random).map_err(|error| OpenError::Random(error.to_string()))?;
        let seed = Seed::from_random(&random);
        let writer = Writer::start(opener, seed, Arc::clone(&clock))?;
        Ok(Self { writer, replicas: Mutex::default(), clock })
    }

    fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&mut Queue, Millis) -> T + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(self.writer.run(verb))
    }

    /// The replicas' own accounts; a panic between two of their fields leaves them as good as before.
    fn accounts(&self) -> MutexGuard<'_, Replicas> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for EmbeddedStore {
    fn admit(&self, admit: Admit) -> Answer<'_, Admission> {
        self.run(|queue, now| queue.admit(now, admit))
    }

    fn claim(&self, shard: u8, nonce: Nonce, lease_ms: u64) -> Answer<'_, Claimed> {
        self.run(move |queue, now| queue.claim(now, shard, nonce, lease_ms))
    }

    fn extend(
        &self,
        leases: Vec<(ConversationId, Nonce)>,
        lease_ms: u64,
    ) -> Answer<'_, Vec<ConversationId>> {
        self.run(move |queue, now| queue.extend(now, &leases, lease_ms))
    }

    fn keep_run(&self, lease: Lease, run: Option<String>) -> Answer<'_, Owned> {
        self.run(move |queue, now| queue.keep_run(now, &lease, run))
    }

    fn end_attempt(
        &self,
        lease: Lease,
        evidence: Evidence,
        failed_on: Option<String>,
    ) -> Answer<'_, Owned> {
        self.run(move |queue, now| queue.end_attempt(now, &lease, &evidence, failed_on))
    }

    fn commit_reply(
        &self,
        lease: Lease,
        intent: Intent,
        evidence: Option<Evidence>,
    ) -> Answer<'_, Committed> {
        self.run(move |queue, now| queue.commit_reply(now, &lease, intent, evidence.as_ref()))
    }

    fn mark_sending(
        &self,
        lease: Lease,
        intent: String,
        segment: u32,
        attempt: String,
        expected: Option<String>,
    ) -> Answer<'_, Marked> {
        let post = Attempt { intent, segment, attempt };
        self.run(move |queue, now| queue.mark_sending(now, &lease, &post, expected.as_deref()))
    }

    fn unmark(
        &self,
        lease: Lease,
        intent: String,
        segment: u32,
        attempt: String,
    ) -> Answer<'_, Owned> {
        let post = Attempt { intent, segment, attempt };
        self.run(move |queue, now| queue.unmark(now, &lease, &post))
    }

    fn mark_sent(
        &self,
        conversation: ConversationId,
        intent: String,
        segment: u32,
        sid: String,
    ) -> Answer<'_, bool> {
        self.run(move |queue, now| queue.mark_sent(now, &conversation, &intent, segment, &sid))
    }

    fn complete(&self, lease: Lease, evidence: Option<Evidence>) -> Answer<'_, Owned> {
        self.run(move |queue, now| queue.complete(now, &lease, evidence.as_ref()))
    }

    fn retry(&self, lease: Lease, delay_ms: u64, counted: bool) -> Answer<'_, Owned> {
        self.run(move |queue, now| queue.retry(now, &lease, delay_ms, counted))
    }

    fn release(&self, lease: Lease) -> Answer<'_, Owned> {
        self.run(move |queue, now| queue.release(now, &lease))
    }

    fn bury(&self, lease: Lease, class: String) -> Answer<'_, Buried> {
        self.run(move |queue, now| queue.bury(now, &lease, &class))
    }

    fn reserve(&self, sender: String, per_second: u32) -> Answer<'_, Reserved> {
        self.run(move |queue, now| queue.reserve(now, &sender, per_second))
    }

    fn sweep(&self, shard: u8) -> Answer<'_, ()> {
        self.run(move |queue, now| queue.sweep(now, shard))
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> Answer<'_, ()> {
        Box::pin(async move {
            self.ping().await?;
            self.accounts().beat((self.clock)(), heartbeat);
            Ok(())
        })
    }

    fn replicas(&self) -> Answer<'_, (Millis, Vec<ReplicaState>)> {
        Box::pin(async move {
            self.ping().await?;
            let now = (self.clock)();
            Ok((now, self.accounts().live(now)))
        })
    }

    fn acknowledged(
        &self,
        replica: String,
        channels: Option<Vec<String>>,
    ) -> Answer<'_, Vec<(String, u64, String)>> {
        Box::pin(async move {
            self.ping().await?;
            let now = (self.clock)();
            Ok(self.accounts().acknowledged(now, &replica, channels.as_deref()))
        })
    }

    fn counts(&self, channels: Vec<String>) -> Answer<'_, (String, ChannelCounts)> {
        self.run(move |queue, _| (digest(queue), queue.counts(&channels)))
    }

    fn dead_letters(&self) -> Answer<'_, Vec<DeadLetters>> {
        self.run(|queue, _| queue.dead_letters())
    }

    fn key(&self) -> Answer<'_, [u8; 32]> {
        self.run(|queue, _| queue.key().expect("the writer gives the machine its key at the start"))
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.run(|_, _| ())
    }
}

fn digest(queue: &Queue) -> String {
    use std::fmt::Write as _;
    let mut hash = Sha256::new();
    for epoch in queue.epochs() {
        hash.update(epoch.as_bytes());
        hash.update(b" ");
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

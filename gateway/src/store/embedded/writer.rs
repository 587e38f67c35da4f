//! The thread that owns machine and database.
//!
//! Takes verbs from a bounded channel, applies all that wait, writes the changed rows in one durable
//! transaction and then answers. After a failure it reads the machine back from the database before
//! it takes another verb; whoever asks meanwhile hears so at once. Never goes on over a disk that failed:
//! it says so, and the process has to end. When it has answered, and the file is much longer than its rows
//! need, it makes it shorter before it takes another verb.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kanarie_queue::expire::ExpireLeases;
use kanarie_queue::queue::Queue;
use kanarie_queue::rows::Row;
use kanarie_words::Millis;
use redb::Database;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::WallClock;
use crate::store::embedded::ageing::Ageing;
use crate::store::embedded::compaction::Compaction;
use crate::store::embedded::database::{self, NotWritten, Opened, Source};
use crate::store::embedded::held::Held;
use crate::store::embedded::open_error::EmbeddedOpenError;
use crate::store::embedded::room::Room;
use crate::store::embedded::told::Told;
use crate::store::error::StoreError;

/// Verbs that wait at most, and so share one commit: more would only make each wait longer.
const BATCH: usize = 256;

/// Between two tries to open a database that failed.
const REOPEN: Duration = Duration::from_millis(200);

/// The calling side of the thread; ends it when dropped.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    failure: Failure,
    broken: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

/// Why verbs are not taken at present.
type Failure = Arc<Mutex<Option<StoreError>>>;

/// A verb with the way back to its caller.
trait Job: Send {
    /// Applies the verb.
    fn apply(&mut self, queue: &mut Queue, now: Millis);
    /// Answers, once what it changed is durable or is not.
    fn answer(self: Box<Self>, written: Result<(), StoreError>);
}

struct Call<T, F> {
    verb: Option<F>,
    value: Option<T>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

/// What the thread owns.
struct Loop {
    jobs: mpsc::Receiver<Box<dyn Job>>,
    failure: Failure,
    broken: watch::Sender<bool>,
    source: Source,
    room: Room,
    clock: WallClock,
    held: Held,
    /// Whether anything of this process is in the file, the ends of the former one's leases with it.
    has_written: bool,
    ageing: Ageing,
    /// What was last said about its room.
    told: Told,
    compaction: Compaction,
}

impl Writer {
    /// Opens the database, ends the leases of the process that had it before, starts the thread.
    pub(super) fn start(
        source: Source,
        room: Room,
        clock: WallClock,
    ) -> Result<Self, EmbeddedOpenError> {
        let mut compaction = Compaction::default();
        let mut opened = open(&source, &mut compaction, &clock)?;
        end_leases(&mut opened.queue, &clock);
        let (sender, jobs) = mpsc::channel(BATCH);
        let failure = Failure::default();
        let (broken, is_broken) = watch::channel(false);
        let mut work = Loop {
            jobs,
            failure: Arc::clone(&failure),
            broken,
            source,
            room,
            clock,
            held: Held::default(),
            has_written: false,
            ageing: Ageing::default(),
            told: Told::default(),
            compaction,
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work.run(opened))
            .map_err(|error| EmbeddedOpenError::Database(redb::Error::Io(error)))?;
        Ok(Self { jobs: Some(sender), failure, broken: is_broken, thread: Some(thread) })
    }

    /// Waits until the disk has failed: nothing is answered any more.
    pub(super) async fn broken(&self) {
        let mut broken = self.broken.clone();
        if broken.wait_for(|broken| *broken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs a verb and waits until what it changed is durable.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&mut Queue, Millis) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        if let Some(failure) = failure_of(&self.failure) {
            return Err(failure);
        }
        let (caller, answer) = oneshot::channel();
        let call = Call { verb: Some(verb), value: None, caller };
        let gone = || StoreError::Unavailable("it is closed".to_owned());
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Box::new(call)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread ends when nobody can send any more; it closes the database on its way out.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Loop {
    fn run(&mut self, opened: Opened) {
        let mut opened = opened;
        while let Some(mut batch) = self.next_batch() {
            let left = match self.write(&mut opened, &mut batch) {
                Ok(()) => {
                    self.has_written = true;
                    answer(batch, &Ok(()));
                    let now = (self.clock)();
                    let left = self.compaction.between_verbs(opened, &self.source, now);
                    left.map_err(NotWritten::from)
                }
                Err(failure) => {
                    // Known before it is told: who asks again at once hears the same.
                    *lock(&self.failure) = Some(failure.error().clone());
                    answer(batch, &Err(failure.error().clone()));
                    // Closing may fail like any other use of it; the file is read anew in any case.
                    let _ = database::guarded(move || drop(opened));
                    Err(failure)
                }
            };
            let left = left.map_or_else(|failure| self.recover(failure), Some);
            let Some(left) = left else { return };
            opened = left;
        }
        // Nobody asks any more, so nobody can be told of a failure.
        let _ = database::write(&opened.database, &self.held.all());
    }

    /// The store as the file says, after a failure; nothing when the disk has failed or nobody is left.
    fn recover(&mut self, failure: NotWritten) -> Option<Opened> {
        *lock(&self.failure) = Some(failure.error().clone());
        // The machine that is read anew knows nothing of these.
        self.held.all();
        if let NotWritten::Disk(_) = failure {
            self.give_up();
            return None;
        }
        let reopened = self.reopen()?;
        *lock(&self.failure) = None;
        Some(reopened)
    }

    /// Answers nothing more, and tells whoever can end the process.
    fn give_up(&mut self) {
        self.broken.send_replace(true);
        self.refuse_waiting();
    }

    fn next_batch(&mut self) -> Option<Vec<Box<dyn Job>>> {
        let mut batch = vec![self.jobs.blocking_recv()?];
        while batch.len() < BATCH {
            let Ok(job) = self.jobs.try_recv() else { break };
            batch.push(job);
        }
        Some(batch)
    }

    fn write(&mut self, opened: &mut Opened, batch: &mut [Box<dyn Job>]) -> Result<(), NotWritten> {
        let Opened { database, queue, bytes } = opened;
        let now = (self.clock)();
        let is_short = self.room.is_short(now);
        queue.close(is_short);
        let applied = database::guarded(|| {
            batch.iter_mut().for_each(|job| job.apply(queue, now));
            queue.take_changes()
        });
        let rows = applied.map_err(|_| {
            NotWritten::Refused(StoreError::Unavailable("a verb failed".to_owned()))
        })?;
        self.told.tell(queue, is_short, now);
        // Deleted first: what had outlived its time may be written anew.
        let mut all = self.outlived(database, now)?;
        all.extend(self.held.due(rows, now));
        if !all.is_empty() {
            *bytes = bytes.saturating_add_signed(database::write(database, &all)?);
        }
        Ok(())
    }

    /// Rows that have outlived their time, found in the file as it is before this batch.
    fn outlived(&mut self, database: &Database, now: Millis) -> Result<Vec<Row>, NotWritten> {
        let over = database::guarded(|| self.ageing.over(database, now));
        let panicked = |panic| NotWritten::Refused(StoreError::Unavailable(panic));
        over.map_err(panicked)?.map_err(NotWritten::from)
    }

    /// Opens the database until that works; none when nobody is left to answer.
    fn reopen(&mut self) -> Option<Opened> {
        loop {
            match open(&self.source, &mut self.compaction, &self.clock) {
                Ok(mut opened) => {
                    if !self.has_written {
                        end_leases(&mut opened.queue, &self.clock);
                    }
                    return Some(opened);
                }
                Err(EmbeddedOpenError::Database(error)) if database::is_disk_failure(&error) => {
                    *lock(&self.failure) = Some(error.into());
                    self.give_up();
                    return None;
                }
                Err(error) => *lock(&self.failure) = Some(error.into()),
            }
            if !self.refuse_waiting() {
                return None;
            }
            std::thread::park_timeout(REOPEN);
        }
    }

    /// Answers those who asked just before the failure was known. False when nobody can ask any
    /// more.
    fn refuse_waiting(&mut self) -> bool {
        loop {
            match self.jobs.try_recv() {
                Ok(job) => {
                    let failure = failure_of(&self.failure);
                    job.answer(failure.map_or(Ok(()), Err));
                }
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }
}

/// Opens the database, with a file no longer than it need be.
fn open(
    source: &Source,
    compaction: &mut Compaction,
    clock: &WallClock,
) -> Result<Opened, EmbeddedOpenError> {
    let now = clock();
    compaction.at_the_start(database::open(source, now)?, source, now)
}

/// The file is locked, so whoever held a lease is dead. Written with the first verb.
fn end_leases(queue: &mut Queue, clock: &WallClock) {
    queue.run(clock(), ExpireLeases { holder: None });
}

fn answer(batch: Vec<Box<dyn Job>>, written: &Result<(), StoreError>) {
    for job in batch {
        job.answer(written.clone());
    }
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: FnOnce(&mut Queue, Millis) -> T + Send,
{
    fn apply(&mut self, queue: &mut Queue, now: Millis) {
        self.value = self.verb.take().map(|verb| verb(queue, now));
    }

    fn answer(self: Box<Self>, written: Result<(), StoreError>) {
        let unapplied = || StoreError::Unavailable("the verb was not applied".to_owned());
        let Self { value, caller, .. } = *self;
        // A caller that went away does not want to know.
        let _ = caller.send(written.and_then(|()| value.ok_or_else(unapplied)));
    }
}

fn failure_of(failure: &Failure) -> Option<StoreError> {
    lock(failure).clone()
}

fn lock(failure: &Failure) -> std::sync::MutexGuard<'_, Option<StoreError>> {
    failure.lock().unwrap_or_else(PoisonError::into_inner)
}

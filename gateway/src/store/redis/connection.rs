//! The supervised connection: a few lanes to one server, each watched by a task of its own.
//!
//! Takes commands; gives answers, or within the deadline the reason there is none. A lane that
//! fails leaves the rotation at once and is pinged; two silences, a break, READONLY or LOADING
//! replace it. While no lane is in the rotation every command is refused immediately: that is the
//! breaker. Never gives up, never queues commands for a server that is away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value, cmd};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use crate::store::error::StoreError;
use crate::store::redis::address::Address;
use crate::store::redis::failure::{Trouble, classify, describe};
use crate::store::redis::handshake::{self, Failed};
use crate::store::redis::promise::Promises;
use crate::store::redis::unfit::Unfit;
use crate::store::redis::verdict::Verdict;

/// Sockets to the server: several batch their writes independently, which halves the 99th
/// percentile against one; the server has one thread, so more gain nothing.
const LANES: usize = 4;

/// Wait before the first attempt to replace a lane; doubles up to a beat.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// Beats between two pings of a lane that nobody had trouble with.
const CALM: u32 = 10;

/// Silences in a row after which a lane is replaced.
const SILENCES: u32 = 2;

/// A connection to the store, shared by all callers.
pub(super) struct Connection {
    lanes: Vec<Arc<Lane>>,
    next: AtomicUsize,
    beat: Duration,
    /// Ends the supervisors with the connection.
    _supervisors: JoinSet<()>,
}

impl Connection {
    /// Connects every lane once. A server that is away is no error: the supervisors go on. One that
    /// must not be used is. `beat` is the deadline of a command, the time between pings and the
    /// longest wait before the next attempt to connect.
    pub(super) async fn open(
        address: Address,
        beat: Duration,
        promises: Arc<Promises>,
    ) -> Result<Self, Unfit> {
        let address = Arc::new(address);
        let verdict = Arc::new(Verdict::default());
        let mut lanes = Vec::with_capacity(LANES);
        let mut supervisors = JoinSet::new();
        let connect = |_| handshake::connect(&address, beat, &promises);
        for first in join_all((0..LANES).map(connect)).await {
            // One report is enough: by then the lane is out of the rotation and nobody uses it.
            let (report, reports) = mpsc::channel(1);
            let live = ArcSwapOption::empty();
            let lane = Arc::new(Lane { live, report, reason: Mutex::default() });
            let supervisor = Supervisor {
                lane: Arc::clone(&lane),
                reports,
                address: Arc::clone(&address),
                promises: Arc::clone(&promises),
                verdict: Arc::clone(&verdict),
                beat,
            };
            let first = match first {
                Err(Failed::Unfit(unfit)) => return Err(unfit),
                Err(Failed::Away(reason)) => {
                    tracing::warn!(server = %address.name, %reason, "the store is away");
                    lane.explain(reason);
                    None
                }
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    lane.live.store(Some(Arc::clone(&connection)));
                    Some(connection)
                }
            };
            supervisors.spawn(supervisor.run(first));
            lanes.push(lane);
        }
        Ok(Self { lanes, next: AtomicUsize::new(0), beat, _supervisors: supervisors })
    }

    /// Sends a command, with the script that it runs, on a lane of the rotation. When the connection
    /// breaks it may be sent once more on another lane: every verb may be repeated.
    pub(super) async fn send(
        &self,
        command: &Cmd,
        script: Option<&Script>,
        at_once: bool,
    ) -> Result<Value, StoreError> {
        let deadline = tokio::time::Instant::now() + self.beat;
        let mut broken = None;
        for _ in 0..1 + usize::from(at_once) {
            let Some((lane, live)) = self.pick() else { break };
            let answer = timeout_at(deadline, ask(&live, command, script)).await;
            let error = match answer.unwrap_or_else(|_| Err(silence())) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let trouble = Trouble::of(&error);
            if let Some(trouble) = trouble {
                lane.suspect(&live, trouble, &error);
            }
            if trouble != Some(Trouble::Broken) {
                return Err(classify(&error));
            }
            broken = Some(classify(&error));
        }
        Err(broken.unwrap_or_else(|| self.refusal()))
    }

    /// Lanes in the rotation.
    pub(super) fn lanes_up(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.live.load().is_some()).count()
    }

    fn pick(&self) -> Option<(&Lane, Arc<MultiplexedConnection>)> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.lanes.len())
            .filter_map(|turn| self.lanes.get(start.wrapping_add(turn) % self.lanes.len()))
            .find_map(|lane| Some((lane.as_ref(), lane.live.load_full()?)))
    }

    /// The answer of the open breaker.
    fn refusal(&self) -> StoreError {
        let reason = self.lanes.first().map(|lane| lane.reason()).unwrap_or_default();
        StoreError::Unavailable(reason)
    }
}

/// Asks on one connection. A server that does not know the script is given it first.
async fn ask(
    connection: &MultiplexedConnection,
    command: &Cmd,
    script: Option<&Script>,
) -> RedisResult<Value> {
    let mut connection = connection.clone();
    let answer = connection.send_packed_command(command).await.and_then(Value::extract_error);
    match (answer, script) {
        (Err(error), Some(script))
            if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
        {
            script.load_async(&mut connection).await?;
            connection.send_packed_command(command).await.and_then(Value::extract_error)
        }
        (answer, _) => answer,
    }
}

fn silence() -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

/// One socket's place in the rotation.
struct Lane {
    /// The connection, while it is in the rotation.
    live: ArcSwapOption<MultiplexedConnection>,
    /// Wakes the supervisor.
    report: mpsc::Sender<Trouble>,
    /// Why it is not in the rotation, for people.
    reason: Mutex<String>,
}

impl Lane {
    /// Takes a connection out of the rotation, unless it was already, and wakes the supervisor.
    fn suspect(
        &self,
        connection: &Arc<MultiplexedConnection>,
        trouble: Trouble,
        error: &RedisError,
    ) {
        let present = Some(Arc::clone(connection));
        let before = self.live.compare_and_swap(&present, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, connection)) {
            self.explain(describe(error));
            // Full means that a report is waiting already.
            let _ = self.report.try_send(trouble);
        }
    }

    fn explain(&self, reason: String) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps one lane alive for ever.
struct Supervisor {
    lane: Arc<Lane>,
    reports: mpsc::Receiver<Trouble>,
    address: Arc<Address>,
    promises: Arc<Promises>,
    verdict: Arc<Verdict>,
    beat: Duration,
}

impl Supervisor {
    async fn run(mut self, first: Option<Arc<MultiplexedConnection>>) {
        let mut backoff = FIRST_BACKOFF;
        let mut present = first;
        loop {
            if let Some(connection) = present.take() {
                if self.watch(&connection).await {
                    backoff = FIRST_BACKOFF;
                }
                self.lane.live.store(None);
                let reason = self.lane.reason();
                tracing::warn!(server = %self.address.name, %reason, "a connection to the store is replaced");
            }
            sleep(backoff.min(self.beat)).await;
            backoff = backoff.saturating_mul(2).min(self.beat);
            match handshake::connect(&self.address, self.beat, &self.promises).await {
                Ok(connection) => {
                    tracing::info!(server = %self.address.name, "connected to the store");
                    self.verdict.accept(&self.address.name);
                    // A report that came late is about the connection before this one.
                    let _ = self.reports.try_recv();
                    present = Some(self.publish(connection));
                }
                Err(Failed::Away(reason)) => self.lane.explain(reason),
                Err(Failed::Unfit(unfit)) => {
                    self.lane.explain(unfit.to_string());
                    self.verdict.refuse(unfit);
                }
            }
        }
    }

    fn publish(&self, connection: MultiplexedConnection) -> Arc<MultiplexedConnection> {
        let connection = Arc::new(connection);
        self.lane.live.store(Some(Arc::clone(&connection)));
        connection
    }

    /// Pings the connection every few beats, each beat while it does not answer, or as soon as somebody
    /// had trouble with it, until it must be replaced. True when it answered at least once.
    async fn watch(&mut self, connection: &Arc<MultiplexedConnection>) -> bool {
        let mut answered = false;
        let mut silences = 0;
        loop {
            let pause = if silences == 0 { self.beat * CALM } else { self.beat };
            match timeout(pause, self.reports.recv()).await {
                Ok(Some(Trouble::Silent)) => silences += 1,
                Ok(_) => return answered,
                Err(_) => {}
            }
            let ping = timeout(self.beat, ask(connection, &cmd("PING"), None)).await;
            match ping.unwrap_or_else(|_| Err(silence())) {
                Ok(_) => {
                    answered = true;
                    silences = 0;
                    if self.lane.live.load().is_none() {
                        self.lane.live.store(Some(Arc::clone(connection)));
                    }
                }
                Err(error) => {
                    self.lane.live.store(None);
                    self.lane.explain(describe(&error));
                    silences += 1;
                    if Trouble::of(&error) != Some(Trouble::Silent) || silences >= SILENCES {
                        return answered;
                    }
                }
            }
        }
    }
}

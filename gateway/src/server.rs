//! The accept loop of both ports: HTTP/1.1 with a time and a size for everything a client sends.
//!
//! Takes a listener and a router, serves until told to stop, then lets what is being answered be
//! answered. A header, an idle connection, a body and an answer have their own time; a body has a
//! size; connections have a bound, and a new one takes the place of the oldest, and its descriptor where
//! there is no other. Never buffers more of a body than its cap.

pub mod body;
pub mod files;
pub mod limits;
pub mod peer;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::events::{Event, emit};
use crate::labels::CloseReason;
use crate::server::limits::ClientLimits;
use crate::server::peer::Peer;
use crate::server::stream::{Late, Phase, TimedStream};
use crate::stop::stopped;

/// Serves `router` on `listener` until `shutdown` says true, then drains.
pub async fn run(
    listener: TcpListener,
    router: Router,
    limits: ClientLimits,
    mut shutdown: watch::Receiver<bool>,
) {
    let places = Places::new(limits.connections);
    let mut connections = JoinSet::new();
    // A failure is said once, not ten times a second.
    let mut failing = false;
    loop {
        let accepted = async {
            let accepted = listener.accept().await;
            // Until there is a place further clients wait in the listener's backlog.
            (accepted, places.take().await)
        };
        let (accepted, place) = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                failing = false;
                let wanted = Arc::clone(&places.wanted);
                let peer = Peer(address);
                let serving = serve(stream, peer, router.clone(), limits, wanted, shutdown.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    emit(Event::AcceptFailed { error: error.to_string() });
                }
                if !(is_out_of_files(&error) && places.free_one(&mut connections).await) {
                    // Accepting at once again would only burn the CPU.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drain(connections, limits.drain).await;
}

/// The places of connections. Whoever held all of them could keep everybody else out by saying
/// something once a minute; so a new client is given the place of the oldest.
struct Places {
    free: Arc<Semaphore>,
    /// Wakes the connection that waits longest, to end after what it is being answered.
    wanted: Arc<Notify>,
}

impl Places {
    fn new(connections: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(connections)), wanted: Arc::default() }
    }

    /// The next free place.
    async fn take(&self) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.free).acquire_owned();
        let mut free = std::pin::pin!(free);
        if let Some(place) = free.as_mut().now_or_never() {
            return place.ok();
        }
        loop {
            self.wanted.notify_one();
            // The one that was asked may be in the middle of a slow request: then another one.
            if let Ok(place) = tokio::time::timeout(ASK_NEXT, free.as_mut()).await {
                // Nobody may be left to ask: then the question must not meet the new client.
                let _ = self.wanted.notified().now_or_never();
                return place.ok();
            }
        }
    }

    /// Asks the oldest connection to end, for its descriptor; whether one has ended.
    async fn free_one(&self, connections: &mut JoinSet<()>) -> bool {
        self.wanted.notify_one();
        let ended = tokio::time::timeout(ASK_NEXT, connections.join_next()).await;
        let _ = self.wanted.notified().now_or_never();
        matches!(ended, Ok(Some(_)))
    }
}

/// Whether neither this process nor the machine has a descriptor left.
fn is_out_of_files(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

/// Rest after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for a connection to end before the next one is asked to.
const ASK_NEXT: Duration = Duration::from_millis(20);
/// Most header fields of a request.
const MAX_HEADERS: usize = 64;
/// Most bytes of a header, and of the buffer that reads bodies.
const BUFFER_BYTES: usize = 32 * 1024;

async fn serve(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    limits: ClientLimits,
    wanted: Arc<Notify>,
    mut shutdown: watch::Receiver<bool>,
) {
    // Answers are one small write: waiting to fill a packet only delays them. A failure costs time,
    // not correctness.
    let _ = stream.set_nodelay(true);
    let phase = Phase::default();
    let stream = TimedStream::new(TokioIo::new(stream), &limits, phase.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        phase.advance();
        request.extensions_mut().insert(peer);
        let (router, phase) = (router.clone(), phase.clone());
        async move {
            let response = router.oneshot(request.map(Body::new)).await;
            phase.advance();
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let ends = async {
        tokio::select! {
            () = stopped(&mut shutdown) => None,
            () = wanted.notified() => Some(CloseReason::Crowded),
        }
    };
    let (served, asked) = tokio::select! {
        served = connection.as_mut() => (served, None),
        asked = ends => {
            connection.as_mut().graceful_shutdown();
            (connection.await, asked)
        }
    };
    if let Some(reason) = served.err().and_then(|error| lateness(&error)).or(asked) {
        emit(Event::ConnectionClosed { reason });
    }
}

/// Why a connection ended if its client was too slow; every other end is the client's own.
fn lateness(error: &hyper::Error) -> Option<CloseReason> {
    let cause = std::error::Error::source(error);
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match cause.and_then(std::io::Error::get_ref).and_then(|late| late.downcast_ref()) {
        Some(Late::Header) => Some(CloseReason::SlowHeader),
        Some(Late::Answer) => Some(CloseReason::SlowAnswer),
        None => error.is_timeout().then_some(CloseReason::SlowHeader),
    }
}

async fn drain(mut connections: JoinSet<()>, limit: Duration) {
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limit, all).await.is_err() {
        for _ in 0..connections.len() {
            emit(Event::ConnectionClosed { reason: CloseReason::Drained });
        }
        connections.shutdown().await;
    }
}

//! A connection that gives its client a limited time for each request's header, and for taking what
//! it is answered.
//!
//! Takes a stream, gives the same stream with an error once a header has begun and is not complete
//! in time, or once the client takes nothing for too long. A header's time runs from its first byte
//! (for the first request: from the connection) until the request is handed over; a body is the
//! server's to limit.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

use crate::server::limits::ClientLimits;

/// How far a connection is, shared between it and its handler: even while it waits for a request,
/// odd while one is answered. A number, so that a whole exchange between two reads is noticed.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase(Arc<AtomicU64>);

/// A stream under the rule above.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    phase: Phase,
    header_time: Duration,
    answer_time: Duration,
    /// Runs while a header is incomplete, for the phase in which that header began.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
    /// Runs while the client takes nothing of what is written.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What a client was too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Late {
    /// A header.
    #[error("the header took too long")]
    Header,
    /// An answer.
    #[error("the client took nothing of its answer for too long")]
    Answer,
}

impl Phase {
    /// A request was handed over, or its answer is ready.
    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl<S> TimedStream<S> {
    /// Starts the time of the first header.
    pub(super) fn new(stream: S, limits: &ClientLimits, phase: Phase) -> Self {
        let (header_time, answer_time) = (limits.header, limits.answer);
        let deadline = Some((phase.now(), Box::pin(sleep(header_time))));
        Self { stream, phase, header_time, answer_time, deadline, stalled: None }
    }

    /// Whether the header that is being read is late.
    fn is_late(&mut self, ctx: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(ctx).is_ready())
    }

    /// What became of a write, with an error once nothing was taken for the answer's time: a client
    /// that sends requests and reads no answer would keep its connection for ever.
    fn taken(
        &mut self,
        written: Poll<io::Result<usize>>,
        ctx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let time = self.answer_time;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(time)));
        stalled.as_mut().poll(ctx).map(|()| Err(late(Late::Answer)))
    }
}

impl<S: Read + Unpin> Read for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let phase = this.phase.now();
        this.deadline.take_if(|(begun_in, _)| *begun_in != phase);
        let read = Pin::new(&mut this.stream).poll_read(ctx, cursor);
        if read.is_ready() && phase.is_multiple_of(2) && this.deadline.is_none() {
            this.deadline = Some((phase, Box::pin(sleep(this.header_time))));
        }
        // A client that sends a byte now and then is late all the same.
        if this.is_late(ctx) { Poll::Ready(Err(late(Late::Header))) } else { read }
    }
}

impl<S: Write + Unpin> Write for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(ctx, bytes);
        self.taken(written, ctx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(ctx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(ctx, slices);
        self.taken(written, ctx)
    }
}

fn late(late: Late) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, late)
}

//! The bodies of Twilio's API: one that is posted with its last byte held back, one that is read.
//!
//! Takes a form, gives a body that tells whether its last byte left: a POST that failed before that
//! was provably not processed. Takes an answer, gives its bytes up to a limit.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use reqwest::Response;
use tokio::time::{Sleep, sleep};

/// Whether the last byte of a body was given to the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastByte(Arc<AtomicBool>);

impl LastByte {
    /// Whether whoever reads the connection may have the whole body.
    pub(crate) fn left(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A body whose last byte follows the others after a pause.
///
/// The other end may have closed a kept connection while the request was on its way. Then it says so
/// within the pause, it never had the whole request, and nothing can have come of it.
pub(crate) struct HeldBack {
    /// The bytes before the last one, until they are given out.
    start: Bytes,
    last: Bytes,
    pause: Duration,
    sleeping: Option<Pin<Box<Sleep>>>,
    left: LastByte,
}

impl HeldBack {
    /// A body that holds its last byte back for `pause`; tells `left` when it goes.
    pub(crate) fn new(body: Bytes, pause: Duration, left: LastByte) -> Self {
        let mut start = body;
        let last = start.split_off(start.len().saturating_sub(1));
        Self { start, last, pause, sleeping: None, left }
    }
}

impl Body for HeldBack {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if !self.start.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.start)))));
        }
        if self.last.is_empty() {
            return Poll::Ready(None);
        }
        if !self.pause.is_zero() {
            let pause = self.pause;
            let sleeping = self.sleeping.get_or_insert_with(|| Box::pin(sleep(pause)));
            std::task::ready!(sleeping.as_mut().poll(cx));
        }
        self.left.0.store(true, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.last)))))
    }

    fn is_end_stream(&self) -> bool {
        self.start.is_empty() && self.last.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.start.len() + self.last.len()) as u64)
    }
}

/// The body of an answer, unless it breaks off or has more than `most` bytes.
pub(crate) async fn read(response: &mut Response, most: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > most {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

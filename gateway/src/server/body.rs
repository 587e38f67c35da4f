//! Reads the bodies of requests, each within its time and size and all of them within one budget.
//!
//! Takes a body, gives its bytes with the room they take, which is free again when they are dropped.
//! The first bytes of a body, as many as a webhook has, always have room: connections are bounded. What
//! a body has beyond them shares one budget, so whoever sends as much as he may keeps out only others
//! who do. Never holds more than it has taken room for, and never waits for room.

use std::ops::Deref;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::limits::ClientLimits;

/// Reads a body within its time and size.
///
/// # Errors
/// When it is too large, announced or not, too slow, or broken off, or there is no room for it.
pub async fn read_body(
    body: Body,
    limits: &ClientLimits,
    budget: &BodyBudget,
) -> Result<HeldBody, BodyError> {
    if body.size_hint().lower() > limits.body_bytes as u64 {
        return Err(BodyError::TooLarge);
    }
    let collected = collect(body, limits.body_bytes, budget);
    let collected = tokio::time::timeout(limits.body, collected).await;
    collected.unwrap_or(Err(BodyError::TooSlow))
}

/// Room for what bodies have beyond their first bytes; clones share it.
#[derive(Clone, Debug)]
pub struct BodyBudget(Arc<Semaphore>);

/// The bytes of a body, and the room they take.
#[derive(Debug)]
pub struct HeldBody {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Over the cap.
    #[error("the body is over the cap")]
    TooLarge,
    /// Not complete in time.
    #[error("the body did not come in time")]
    TooSlow,
    /// Broken off by the client.
    #[error("the body broke off")]
    Broken,
    /// All bodies together are as large as they may be.
    #[error("there is no room for the body")]
    NoRoom,
}

/// Bytes of a body that always have room. A webhook of Twilio has fewer; with 4,096 connections that
/// is 32 MiB at most.
pub const FREE_BYTES: usize = 8 * 1024;
/// Bytes that bodies may have together beyond those.
const SHARED_BYTES: usize = 32 << 20;
/// Bytes that a body is given room for at first.
const FIRST_BYTES: usize = 1024;

impl BodyBudget {
    /// A budget of so many bytes.
    pub fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Bytes that are not taken.
    pub fn left(&self) -> usize {
        self.0.available_permits()
    }
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self::of(SHARED_BYTES)
    }
}

impl HeldBody {
    fn empty() -> Self {
        Self { bytes: Vec::new(), room: None }
    }

    /// Adds what came. Frames that are kept until the last one cost the buffer each of them came in:
    /// a client that sends a byte a chunk would make us keep forty times the cap.
    fn extend(&mut self, data: &[u8], cap: usize, budget: &BodyBudget) -> Result<(), BodyError> {
        let needed = self.bytes.len() + data.len();
        if needed > cap {
            return Err(BodyError::TooLarge);
        }
        let held = self.bytes.capacity();
        if needed > held {
            // Twice as much each time, so that bytes which come one by one are not copied each time.
            let wanted = needed.max((held * 2).max(FIRST_BYTES).min(cap));
            self.take_room(wanted, budget)?;
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    /// Takes room for a body of so many bytes, besides what it has already.
    fn take_room(&mut self, bytes: usize, budget: &BodyBudget) -> Result<(), BodyError> {
        let taken = self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.saturating_sub(FREE_BYTES).saturating_sub(taken);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| BodyError::TooLarge)?;
        let room = Arc::clone(&budget.0).try_acquire_many_owned(more);
        let room = room.map_err(|_| BodyError::NoRoom)?;
        match &mut self.room {
            Some(taken) => taken.merge(room),
            None => self.room = Some(room),
        }
        Ok(())
    }
}

impl Deref for HeldBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

async fn collect(mut body: Body, cap: usize, budget: &BodyBudget) -> Result<HeldBody, BodyError> {
    let mut held = HeldBody::empty();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        held.extend(&data, cap, budget)?;
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::{Body, Bytes};
    use futures::future::join_all;
    use futures::{StreamExt as _, stream};

    use super::{BodyBudget, BodyError, FREE_BYTES, read_body};
    use crate::server::limits::ClientLimits;

    const CAP: usize = 64 * 1024;

    /// A body that sends so many bytes in pieces and then nothing more, without an end.
    fn stuck(bytes: usize, piece: usize) -> Body {
        let pieces = (0..bytes / piece).map(move |_| Ok::<_, std::io::Error>(vec![b'x'; piece]));
        Body::from_stream(stream::iter(pieces).chain(stream::pending()))
    }

    async fn read(body: Body, budget: &BodyBudget) -> Result<usize, BodyError> {
        let held = read_body(body, &ClientLimits::default(), budget).await?;
        Ok(held.len())
    }

    #[tokio::test(start_paused = true)]
    async fn hostile_clients_hold_no_more_than_the_budget_and_keep_no_webhook_out() {
        let budget = BodyBudget::of(10 * CAP);
        for piece in [1, 1_000, CAP / 2] {
            let held = tokio::spawn({
                let budget = budget.clone();
                async move {
                    let bodies = (0..24).map(|_| read(stuck(CAP / piece * piece, piece), &budget));
                    join_all(bodies).await
                }
            });
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(budget.left() < CAP, "they hold all they can: {} are left", budget.left());
            assert_eq!(read(Body::from(vec![b'x'; CAP]), &budget).await, Err(BodyError::NoRoom));
            assert_eq!(read(Body::from(vec![b'x'; FREE_BYTES]), &budget).await, Ok(FREE_BYTES));
            let ends = held.await.unwrap();
            let holding = ends.iter().filter(|end| **end == Err(BodyError::TooSlow)).count();
            let beyond = CAP - FREE_BYTES;
            assert!(holding > 0 && holding * beyond <= 10 * CAP, "{holding} held a whole body");
            assert_eq!(budget.left(), 10 * CAP, "what is dropped is free again");
        }
    }

    #[tokio::test]
    async fn a_body_takes_the_room_of_its_buffer_until_it_is_dropped() {
        let budget = BodyBudget::of(CAP);
        for piece in [1, 7, 4_096] {
            let pieces = (0..CAP / piece).map(move |_| Ok::<_, std::io::Error>(vec![b'x'; piece]));
            let body = Body::from_stream(stream::iter(pieces));
            let held = read_body(body, &ClientLimits::default(), &budget).await.unwrap();
            assert!(CAP - budget.left() >= held.bytes.capacity() - FREE_BYTES, "{piece}");
            drop(held);
            assert_eq!(budget.left(), CAP);
        }
        let held = read_body(Body::from(Bytes::new()), &ClientLimits::default(), &budget).await;
        assert!(held.unwrap().is_empty());
    }
}

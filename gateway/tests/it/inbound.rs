//! The inbound line from request to answer, over a store in memory: what each request is answered
//! and what it leaves in the queue.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod callbacks;
mod gateway;
mod messages;
mod places;
mod refused;
mod strangers;

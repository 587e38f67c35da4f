//! The outbound pace of a sender, as a verb (I16).
//!
//! Takes a sender and its rate; gives the wait before its next sends. It is the one verb that a
//! repetition changes: it may waste a slot, never grant one too many. Its state is no row: a store
//! that starts again begins with a full burst.

use kanarie_words::Millis;
use kanarie_words::ids::RouteHash;

use crate::pace::Reserved;
use crate::queue::Queue;
use crate::verb::Verb;

/// Books some sends of `sender` at `per_second`, or says when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Account and sender, hashed: no number stands in the name of a key.
    pub sender: RouteHash,
    /// Sends per second.
    pub per_second: u32,
    /// How many of them, [`MOST`](crate::pace::MOST) at most.
    pub count: u32,
}

impl Verb for Reserve {
    type Answer = Reserved;

    fn apply(self, queue: &mut Queue, now: Millis) -> Reserved {
        let Self { sender, per_second, count } = self;
        queue.paces.entry(sender).or_default().book(now, per_second, count)
    }
}

//! The way from the first line to the second past the queue: a message that comes alone is worked on
//! by whoever brings it.
//!
//! Takes the turns of this process, once they run; gives a place for a message that is about to be
//! admitted. Knows nothing of turns but that. While the second line does not run there is no place,
//! and the message is queued. Never keeps the second line alive.

use std::sync::{Arc, OnceLock, Weak};

use kanarie_queue::claim::Head;
use kanarie_queue::lease::NewLease;
use kanarie_words::ids::{ChannelUid, ConversationId};

/// The second line, as the first one sees it.
pub trait Turns: Send + Sync {
    /// Keeps a place for a message of this conversation; none when it should wait for its turn.
    fn keep_place(
        &self,
        channel: &ChannelUid,
        conversation: &ConversationId,
    ) -> Option<Box<dyn KeptPlace>>;
}

/// A place that is kept while a message is admitted. Dropped without a word of the store, it gives
/// the lease back that nobody heard of.
pub trait KeptPlace: Send {
    /// The lease to ask the store for.
    fn lease(&self) -> NewLease;

    /// The store has leased the message: its turn begins.
    fn begin(self: Box<Self>, head: Head);

    /// The store has answered, and leased nothing.
    fn leave(self: Box<Self>);
}

/// The two lines' knowledge of each other. Cheap to clone.
#[derive(Clone, Default)]
pub struct Handover(Arc<OnceLock<Weak<dyn Turns>>>);

impl Handover {
    /// From now on there are turns, as long as somebody holds them.
    pub fn open(&self, turns: &Arc<impl Turns + 'static>) {
        let turns: Weak<dyn Turns> = Arc::downgrade(turns) as Weak<dyn Turns>;
        // A second line that is started twice keeps its first turns.
        let _ = self.0.set(turns);
    }

    /// Keeps a place for a message of this conversation, if there is one.
    pub fn keep_place(
        &self,
        channel: &ChannelUid,
        conversation: &ConversationId,
    ) -> Option<Box<dyn KeptPlace>> {
        self.0.get()?.upgrade()?.keep_place(channel, conversation)
    }
}

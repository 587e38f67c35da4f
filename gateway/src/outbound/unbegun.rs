//! A lease of this process on which no turn works yet.
//!
//! Takes a lease that the store has given, or may have given; ends when a turn begins with it, or
//! when the store says that it gave none. Dropped before, it is given back, so that nobody waits for
//! its end. Holds up a stop meanwhile, as a turn does.

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::claim::{Head, Release};
use kanarie_queue::lease::Lease;
use kanarie_words::ids::{ChannelUid, ConversationId, Nonce};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::outbound::context::Worker;
use crate::outbound::underway::OneUnderway;

/// Pauses before the tries to give one back.
const GIVE_BACK: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(4)];

/// A lease that waits for its turn.
pub(crate) struct Unbegun {
    worker: Arc<Worker>,
    lease: Option<Lease>,
    underway: Option<OneUnderway>,
}

impl Unbegun {
    /// The lease of a message that is about to be admitted.
    pub(crate) fn wanted(
        worker: &Arc<Worker>,
        channel: &ChannelUid,
        conversation: &ConversationId,
        nonce: &Nonce,
    ) -> Self {
        let (channel, conversation, nonce) = (channel.clone(), conversation.clone(), nonce.clone());
        let lease = Some(Lease { channel, conversation, nonce });
        Self { worker: Arc::clone(worker), lease, underway: Some(worker.turns.begin()) }
    }

    /// The lease of a head that was claimed.
    pub(crate) fn of(worker: &Arc<Worker>, head: &Head) -> Self {
        Self::wanted(worker, &head.channel, &head.conversation, &head.nonce)
    }

    /// Its turn begins, or there is no lease.
    pub(crate) fn end(mut self) {
        self.lease = None;
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        let (Some(lease), Ok(runtime)) = (self.lease.take(), Handle::try_current()) else { return };
        let (worker, underway) = (Arc::clone(&self.worker), self.underway.take());
        runtime.spawn(async move {
            give_back(&worker, lease).await;
            drop(underway);
        });
    }
}

/// Gives back a lease that nobody heard of, if there is one, and rings for it. After a few tries it is
/// left to its end.
async fn give_back(worker: &Worker, lease: Lease) {
    for pause in GIVE_BACK {
        // The call that may have given it may still be under way.
        sleep(pause).await;
        if worker.ctx.store.run(Release { lease: lease.clone() }).await.is_ok() {
            break;
        }
    }
    worker.ring(lease.conversation.shard());
}

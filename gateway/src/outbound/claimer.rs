//! A claimer: takes the conversations of one shard, one turn each.
//!
//! Takes rings of the doorbell and the time; starts turns while there are slots. A claim whose answer
//! was lost is repeated with its nonce, not lost. Claims nothing before the routes are loaded, nor
//! while the store has not heard this replica.

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::claim::{Claim, Claimed, Head};
use kanarie_words::ids::{Nonce, SHARDS};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::context::Worker;
use crate::outbound::lease::LEASE_MS;
use crate::outbound::turn;
use crate::random;
use crate::stop::stopped;

/// Longest time between two looks at a shard.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);

/// Claims the conversations of one shard.
pub(crate) struct Claimer {
    worker: Arc<Worker>,
    slots: Arc<Semaphore>,
    cut_off: watch::Receiver<bool>,
    shard: u8,
    /// Kept until it is answered: a claim whose answer was lost is claimed again, not lost.
    nonce: Nonce,
}

impl Claimer {
    pub(crate) fn new(
        worker: &Arc<Worker>,
        slots: &Arc<Semaphore>,
        cut_off: &watch::Receiver<bool>,
        shard: u8,
    ) -> Self {
        Self {
            worker: Arc::clone(worker),
            slots: Arc::clone(slots),
            cut_off: cut_off.clone(),
            shard,
            nonce: Nonce::from_bytes(random::bytes()),
        }
    }

    /// Claims until told to stop.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        // Shards start at different moments, so that a sweep is no burst.
        let mut pause = SWEEP * u32::from(self.shard) / u32::from(SHARDS);
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => return,
                () = self.worker.ctx.doorbell.rung(self.shard) => {}
                () = sleep(pause) => {}
            }
            pause = self.claim_all(&mut shutdown).await;
        }
    }

    /// Claims until there is nothing more; gives the time until the next look. A claim that was
    /// sent is waited for, or its lease would have to run out.
    async fn claim_all(&mut self, shutdown: &mut watch::Receiver<bool>) -> Duration {
        let sweep = random::jittered(SWEEP);
        loop {
            let slot = tokio::select! {
                biased;
                () = stopped(shutdown) => return sweep,
                slot = Arc::clone(&self.slots).acquire_owned() => slot,
            };
            let Some(slot) = slot.ok().filter(|_| self.worker.may_claim()) else { return sweep };
            let began = Instant::now();
            let (shard, nonce) = (self.shard, self.nonce.clone());
            let claim = Claim { shard, nonce, lease_ms: LEASE_MS };
            match self.worker.ctx.store.run(claim).await {
                Ok(Claimed::Head(claim)) => {
                    self.nonce = Nonce::from_bytes(random::bytes());
                    let (worker, cut_off) = (Arc::clone(&self.worker), self.cut_off.clone());
                    tokio::spawn(work(worker, *claim, began, cut_off, slot));
                }
                Ok(Claimed::Nothing { next_in_ms }) => {
                    let next = next_in_ms.map_or(SWEEP, Duration::from_millis);
                    return sweep.min(next.max(Duration::from_millis(1)));
                }
                Err(error) => {
                    emit(OutboundEvent::StoreFailed { error: error.to_string() });
                    return sweep;
                }
            }
        }
    }
}

/// A turn in its slot.
async fn work(
    worker: Arc<Worker>,
    claim: Head,
    began: Instant,
    cut_off: watch::Receiver<bool>,
    slot: OwnedSemaphorePermit,
) {
    let shard = claim.conversation.shard();
    turn::run(Arc::clone(&worker), claim, began, cut_off).await;
    drop(slot);
    // The conversation may have another message, and its shard another conversation.
    worker.ctx.doorbell.ring(shard);
}

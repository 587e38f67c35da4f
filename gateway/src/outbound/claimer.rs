//! A claimer: takes the conversations of one shard, one turn each.
//!
//! Takes rings of the doorbell and the time; starts turns while there are places. A claim whose answer
//! was lost is repeated with its nonce, not lost. Claims nothing before the routes are loaded, nor
//! while the store has not heard this replica.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::claim::{Claim, Claimed, Extend, Head};
use kanarie_words::ids::{Nonce, SHARDS};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::context::Worker;
use crate::outbound::lease::{LEASE_MS, Leases};
use crate::outbound::work::Workshop;
use crate::random;
use crate::stop::stopped;
use crate::store::error::StoreError;

/// Time until a shard is looked at again after trouble, and the longest while calls of other replicas
/// would not be heard.
const SWEEP: Duration = Duration::from_millis(250);

/// Longest time between two looks of the fleet at a shard. Whoever leaves something ready rings, or calls
/// the others, and each claimer knows when the next thing is due: so this finds only what a replica left
/// that died, what a lost call was for, and what a clock made due that jumped.
const SAFETY: Duration = Duration::from_secs(6);

/// Time until a shard is looked at again, by itself, in which full channels have messages: a place
/// that gets free rings, and so does a message of another channel.
const CROWDED: Duration = Duration::from_secs(1);

/// Claims the conversations of one shard.
pub(crate) struct Claimer {
    worker: Arc<Worker>,
    workshop: Workshop,
    shard: u8,
    call: Call,
}

/// A claim that was not answered yet. Kept until it is: one whose answer was lost is claimed again,
/// not lost, and its lease runs from the first time it was asked for.
struct Call {
    nonce: Nonce,
    began: Option<Instant>,
}

impl Claimer {
    pub(crate) fn new(worker: &Arc<Worker>, workshop: &Workshop, shard: u8) -> Self {
        let call = Call::of(&worker.leases);
        Self { worker: Arc::clone(worker), workshop: workshop.clone(), shard, call }
    }

    /// Claims until told to stop.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        // Shards start at different moments, so that a sweep is no burst.
        let mut pause = SWEEP * u32::from(self.shard) / u32::from(SHARDS);
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => {
                    // When something is due here, only this claimer knows.
                    self.worker.ctx.doorbell.call_others(self.shard);
                    return;
                }
                () = self.worker.ctx.doorbell.rung(self.shard) => {}
                () = sleep(pause) => {}
            }
            pause = self.claim_all(&mut shutdown).await;
        }
    }

    /// Longest time until the next look: the replicas share the looks of the fleet.
    fn longest(&self) -> Duration {
        let (pulse, store) = (&self.worker.ctx.pulse, &self.worker.ctx.store);
        match pulse.live().and_then(|live| u32::try_from(live).ok()) {
            Some(live) if live <= 1 || store.hears() => SAFETY * live.max(1),
            _ => SWEEP,
        }
    }

    /// Since when the lease of a claim surely runs that was asked for more than once: nobody knows
    /// which call took effect, and it may be about to end.
    async fn renew(&self, claim: &Head, began: Instant) -> Instant {
        let now = Instant::now();
        let leases = vec![(claim.conversation.clone(), claim.nonce.clone())];
        match self.worker.ctx.store.run(Extend { leases, lease_ms: LEASE_MS }).await {
            Ok(lost) if lost.is_empty() => now,
            Ok(_) | Err(_) => began,
        }
    }

    /// Claims until there is nothing more; gives the time until the next look. A claim that was
    /// sent is waited for, or its lease would have to run out.
    async fn claim_all(&mut self, shutdown: &mut watch::Receiver<bool>) -> Duration {
        let again = random::jittered(SWEEP);
        let mut crowded = HashSet::new();
        let mut longest = self.longest();
        loop {
            if !self.worker.places.has_free() {
                self.worker.ctx.doorbell.call_others(self.shard);
            }
            let free = tokio::select! {
                biased;
                () = stopped(shutdown) => return again,
                free = self.worker.places.free() => free,
            };
            let Some(free) = free.filter(|_| self.worker.may_claim()) else { return again };
            let now = Instant::now();
            let (nonce, began) = self.call.begin(now);
            let claim = Claim { shard: self.shard, nonce, lease_ms: LEASE_MS };
            match self.worker.ctx.store.run(claim).await {
                Ok(Claimed::Head(claim)) => {
                    self.call = Call::of(&self.worker.leases);
                    let began = if began < now { self.renew(&claim, began).await } else { began };
                    let place =
                        self.worker.places.seat(free, &claim.channel, claim.intent.is_some(), now);
                    // Claims go round the channels: whoever meets a full one twice, and gave no
                    // place in between, has met all that was ready and would only put the heads of
                    // full ones back.
                    if place.is_ok() {
                        crowded.clear();
                    } else {
                        // It comes back in a while of which the answer to this round knows nothing.
                        longest = longest.min(CROWDED);
                    }
                    let met_all = place.is_err() && !crowded.insert(claim.channel.clone());
                    self.workshop.start(*claim, began, place);
                    if met_all {
                        return random::jittered(CROWDED);
                    }
                }
                Ok(Claimed::Nothing { next_in_ms }) => {
                    self.call = Call::of(&self.worker.leases);
                    let next = next_in_ms.map_or(longest, Duration::from_millis);
                    return random::jittered(longest).min(next.max(Duration::from_millis(1)));
                }
                Err(error) => {
                    emit(OutboundEvent::StoreFailed { error: error.to_string() });
                    // Asked again with this nonce the store would only show the same damage.
                    if matches!(error, StoreError::Corrupt(_)) {
                        self.call = Call::of(&self.worker.leases);
                    }
                    return again;
                }
            }
        }
    }
}

impl Call {
    /// A call that was never made.
    fn of(leases: &Leases) -> Self {
        Self { nonce: leases.fresh().nonce, began: None }
    }

    /// What is asked at `now`, and since when.
    fn begin(&mut self, now: Instant) -> (Nonce, Instant) {
        (self.nonce.clone(), *self.began.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Call, Leases};

    #[test]
    fn a_claim_that_is_asked_again_runs_from_the_first_time() {
        let (mut call, now) =
            (Call::of(&Leases::of(&"gateway-1".parse().unwrap())), Instant::now());
        let first = call.begin(now);
        assert_eq!(first.1, now);
        assert_eq!(call.begin(now + Duration::from_secs(14)), first);
    }
}

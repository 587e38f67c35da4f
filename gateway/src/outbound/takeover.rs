//! Replicas that fall silent: what they held goes on at once.
//!
//! Takes what the store heard of the others, ends the leases of one that it has not heard for five
//! seconds, and rings for them. Only while the store hears this replica without a gap: after an
//! outage of the store everybody is silent and nobody dead. A nonce stays the only proof of a lease:
//! whoever lives after all learns that it lost its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::expire::ExpireLeases;
use kanarie_words::Millis;
use kanarie_words::ids::{ReplicaName, SHARDS};
use tokio::time::sleep;

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::heartbeat::STALE_AFTER;
use crate::outbound::context::Worker;
use crate::outbound::lease::holder;
use crate::store::fleet::ReplicaState;

/// Time until the next look after one that told nothing.
const AGAIN: Duration = Duration::from_millis(500);
/// Shortest time between two looks, and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// For ever: looks when the next one of the others would have been silent for too long.
pub(crate) async fn watch(worker: Arc<Worker>) {
    let mut ended = HashSet::new();
    let mut pause = PAUSE.1;
    loop {
        sleep(pause).await;
        pause = PAUSE.1;
        // A store of one process, or of one replica, has nobody to ask about.
        if worker.ctx.pulse.is_alone() {
            continue;
        }
        if !worker.ctx.pulse.is_steady() {
            pause = AGAIN;
            continue;
        }
        match worker.ctx.store.replicas().await {
            Ok((now, replicas)) => {
                let others = replicas.iter().filter(|of| of.replica != worker.ctx.replica);
                let (silent, next) = silent(now, others);
                ended.retain(|name| silent.contains(name));
                pause = next.clamp(PAUSE.0, PAUSE.1);
                for name in silent.difference(&ended.clone()) {
                    if end_leases(&worker, name).await {
                        ended.insert(name.clone());
                    } else {
                        pause = AGAIN;
                    }
                }
            }
            Err(error) => {
                emit(OutboundEvent::StoreFailed { error: error.to_string() });
                pause = AGAIN;
            }
        }
    }
}

/// Those that are silent for too long, and the time until the next one would be.
fn silent<'a>(
    now: Millis,
    others: impl Iterator<Item = &'a ReplicaState>,
) -> (HashSet<ReplicaName>, Duration) {
    let (mut silent, mut next) = (HashSet::new(), PAUSE.1);
    for other in others {
        let quiet = Duration::from_millis(now.saturating_sub(other.seen_at));
        if quiet >= STALE_AFTER {
            silent.insert(other.replica.clone());
        } else {
            next = next.min(STALE_AFTER - quiet);
        }
    }
    (silent, next)
}

/// Whether the store has done it.
async fn end_leases(worker: &Worker, name: &ReplicaName) -> bool {
    match worker.ctx.store.run(ExpireLeases { holder: Some(holder(name)) }).await {
        Ok(leases) => {
            if leases > 0 {
                emit(OutboundEvent::TakenOver { replica: name.to_string(), leases });
            }
            // Also when another replica, or a call whose answer was lost, has ended them.
            (0..SHARDS).for_each(|shard| worker.ring(shard));
            true
        }
        Err(error) => {
            emit(OutboundEvent::StoreFailed { error: error.to_string() });
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::silent;
    use crate::store::fleet::ReplicaState;

    #[test]
    fn a_replica_is_silent_after_five_seconds() {
        let state = |name: &str, seen_at| ReplicaState {
            replica: name.parse().unwrap(),
            seen_at,
            digest: "d".parse().unwrap(),
        };
        let replicas =
            [state("a", 10_000), state("b", 8_500), state("c", 6_000), state("d", 5_000)];
        let (silent, next) = silent(11_000, replicas.iter());
        assert_eq!(silent, ["c".parse().unwrap(), "d".parse().unwrap()].into());
        assert_eq!(next, Duration::from_millis(2_500));
    }
}

//! The driver of the second line: `claim → choose → ask → commit → send → end`.
//!
//! This file starts the claimers and drains them, `turn` lists the line for one head, and each hop
//! is a file: `claimer`, `track`, `attempt` (with `agent` and `reply`), `committed`, `deliver` (with
//! `settle` and `twilio`), `end`. What a hop asks of the store goes through `owner`.
//!
//! Takes the store, the routes and the two clients; works on as many conversations at once as it
//! is told to, until `shutdown` says true. A claimer per shard waits for the doorbell or its next
//! sweep; a conversation is worked on under a lease that is extended until its turn ends. Nothing
//! is claimed before the routes are loaded, nor while the store has not heard this replica.

pub mod agent;
mod attempt;
mod claimer;
mod committed;
pub mod context;
mod deliver;
mod end;
pub mod lease;
mod owner;
pub mod refused;
pub mod reply;
mod segment;
mod settle;
pub mod track;
mod turn;
pub mod twilio;

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::types::SHARDS;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::claimer::Claimer;
use crate::outbound::context::{Context, Worker};
use crate::outbound::lease::Leases;
use crate::outbound::refused::Holds;
use crate::random;
use crate::stop::stopped;

/// Time to give back what the drain deadline cut off.
const RELEASE: Duration = Duration::from_secs(2);

/// Works until `shutdown` says true and everything claimed is finished or given back.
pub async fn run(ctx: Context, mut shutdown: watch::Receiver<bool>) {
    if ctx.settings.workers == 0 {
        stopped(&mut shutdown).await;
        return;
    }
    let key = tokio::select! {
        key = ctx.key.wait() => key,
        () = stopped(&mut shutdown) => return,
    };
    let slots = Arc::new(Semaphore::new(ctx.settings.workers as usize));
    let worker = Arc::new(Worker { ctx, key, leases: Leases::default(), holds: Holds::default() });
    let (cut, cut_off) = watch::channel(false);
    let mut background = JoinSet::new();
    background.spawn(lease::keep(Arc::clone(&worker)));
    background.spawn(sweep_old(Arc::clone(&worker)));
    let mut claimers = JoinSet::new();
    for shard in 0..SHARDS {
        claimers.spawn(Claimer::new(&worker, &slots, &cut_off, shard).run(shutdown.clone()));
    }
    while claimers.join_next().await.is_some() {}
    drain(&worker, &slots, &cut).await;
}

/// Waits for the turns that go on; at the deadline cuts them off, which gives them back.
async fn drain(worker: &Worker, slots: &Semaphore, cut: &watch::Sender<bool>) {
    let all = worker.ctx.settings.workers;
    if timeout(worker.ctx.settings.drain, slots.acquire_many(all)).await.is_err() {
        cut.send_replace(true);
        let _ = timeout(RELEASE, slots.acquire_many(all)).await;
    }
}

/// Once a minute drops what has outlived its time, shard by shard: a call drops a bounded number,
/// and a gateway that admits hundreds of messages a second must forget as many.
async fn sweep_old(worker: Arc<Worker>) {
    const EVERY: Duration = Duration::from_secs(60);
    loop {
        for shard in 0..SHARDS {
            sleep(random::jittered(EVERY / u32::from(SHARDS))).await;
            if let Err(error) = worker.ctx.store.sweep(shard).await {
                emit(OutboundEvent::StoreFailed { error: error.to_string() });
            }
        }
    }
}

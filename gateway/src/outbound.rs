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
mod limit;
mod next;
mod owner;
mod pace;
mod places;
mod put_back;
mod quarantine;
pub mod refused;
pub mod reply;
mod returns;
mod segment;
mod settle;
mod start;
mod takeover;
mod told;
pub mod track;
mod turn;
pub mod twilio;
mod unbegun;
mod underway;
mod wake;
mod work;

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::sweep::Sweep;
use kanarie_words::ids::SHARDS;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::calls;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::claimer::Claimer;
use crate::outbound::context::{Context, Worker};
use crate::outbound::work::Workshop;
use crate::random;
use crate::stop::{Signals, stopped};
use kanarie_process::tasks::{Ended, Tasks};

/// Time to give back what the drain deadline cut off.
const RELEASE: Duration = Duration::from_secs(2);
/// Time for the POSTs that were begun before: what they learn is worth more than the turns.
const POSTS: Duration = Duration::from_secs(5);

/// Works until told to stop and everything claimed is finished or given back.
///
/// # Errors
/// When one of its own tasks ends before; what was claimed is given back then as well.
pub async fn run(ctx: Context, mut signals: Signals) -> Result<(), Ended> {
    if ctx.settings.turns == 0 {
        stopped(&mut signals.stop).await;
        return Ok(());
    }
    let key = tokio::select! {
        key = ctx.key.wait() => key,
        () = stopped(&mut signals.stop) => return Ok(()),
    };
    let worker = Arc::new(Worker::new(ctx, key, signals.stop.clone()));
    let (cut, cut_off) = watch::channel(false);
    let workshop = Arc::new(Workshop::new(&worker, &cut_off));
    worker.ctx.handover.open(&workshop);
    worker.ctx.levels.open(&worker);
    let mut background = background(&worker);
    let mut claimers = claimers(&worker, &workshop, &signals.stop);
    let mut stop_told = signals.stop.clone();
    let told = tokio::select! {
        told = claimers.until(&mut signals.stop) => told,
        told = background.until(&mut stop_told) => told,
    };
    if told.is_err() {
        give_back(&worker, &cut).await;
        return told;
    }
    // A claim that was sent is waited for, or its lease would have to run out.
    let finished = claimers.finish().await;
    drain(&worker, &cut, &mut signals.hurry).await;
    finished
}

/// What runs beside the turns.
fn background(worker: &Arc<Worker>) -> Tasks {
    let mut tasks = Tasks::default();
    let (store, leases) = (Arc::clone(&worker.ctx.store), worker.leases.clone());
    tasks.spawn("keeper of leases", lease::keep(store, leases));
    tasks.spawn("sweeper", sweep_old(Arc::clone(worker)));
    tasks.spawn("waker", wake::follow(Arc::clone(worker)));
    tasks.spawn("takeover", takeover::watch(Arc::clone(worker)));
    let (doorbell, store) = (Arc::clone(&worker.ctx.doorbell), Arc::clone(&worker.ctx.store));
    tasks.spawn("answerer of calls", calls::answer(doorbell, store));
    tasks
}

/// A claimer for each shard.
fn claimers(worker: &Arc<Worker>, workshop: &Workshop, stop: &watch::Receiver<bool>) -> Tasks {
    let mut tasks = Tasks::default();
    for shard in 0..SHARDS {
        let claimer = Claimer::new(worker, workshop, shard).run(stop.clone());
        let alive = worker.ctx.claimers.one();
        tasks.spawn(&format!("claimer of shard {shard}"), async move {
            claimer.await;
            drop(alive);
        });
    }
    tasks
}

/// Waits for the turns that go on; at the deadline, or in a hurry, gives them back.
async fn drain(worker: &Worker, cut: &watch::Sender<bool>, hurry: &mut watch::Receiver<bool>) {
    let finished = tokio::select! {
        finished = timeout(worker.ctx.settings.drain, worker.turns.none()) => finished.is_ok(),
        () = stopped(hurry) => false,
    };
    if !finished {
        give_back(worker, cut).await;
    }
}

/// Cuts the turns off, which gives them back.
async fn give_back(worker: &Worker, cut: &watch::Sender<bool>) {
    cut.send_replace(true);
    let released = timeout(RELEASE, worker.turns.none());
    let _ = tokio::join!(released, timeout(POSTS, worker.posts.none()));
}

/// Once a minute drops what has outlived its time, shard by shard: a call drops a bounded number,
/// and a gateway that admits hundreds of messages a second must forget as many. The replicas share it.
async fn sweep_old(worker: Arc<Worker>) {
    const EVERY: Duration = Duration::from_secs(60);
    loop {
        for shard in 0..SHARDS {
            let live = worker.ctx.pulse.live().and_then(|live| u32::try_from(live).ok());
            let pause = EVERY / u32::from(SHARDS) * live.unwrap_or(1).max(1);
            sleep(random::jittered(pause)).await;
            if let Err(error) = worker.ctx.store.run(Sweep { shard }).await {
                emit(OutboundEvent::StoreFailed { error: error.to_string() });
            }
        }
    }
}

//! The driver of the second line: claim → ask → commit → send → complete.
//!
//! Takes the store, the routes and the two clients; works on as many conversations at once as it
//! is told to, until `shutdown` says true. A claimer per shard waits for the doorbell or its next
//! sweep; a conversation is worked on under a lease that is extended until its turn ends. Nothing
//! is claimed before the routes are loaded, nor while the store has not heard this replica.

pub mod attempt;
pub mod chance;
pub mod deliver;
pub mod hold;
pub mod lease;
pub mod turn;

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::types::{Claim, Claimed, Nonce, SHARDS};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::Agents;
use crate::doorbell::Doorbell;
use crate::events::{Event, emit};
use crate::heartbeat::Pulse;
use crate::routes::RouteTable;
use crate::store::SharedStore;
use crate::twilio::Twilio;
use crate::worker::hold::Holds;
use crate::worker::lease::{LEASE_MS, Leases};
use crate::worker::turn::Turn;

/// Longest time between two looks at a shard.
const SWEEP: Duration = Duration::from_millis(250);
/// Time to give back what the drain deadline cut off.
const RELEASE: Duration = Duration::from_secs(2);

/// What the workers work with.
pub struct Context {
    /// The store.
    pub store: SharedStore,
    /// The routes that this replica obeys.
    pub routes: Arc<RouteTable>,
    /// When the store last heard this replica.
    pub pulse: Pulse,
    /// Rung with the shard of every message that this replica admits.
    pub doorbell: Arc<Doorbell>,
    /// The client of the agents.
    pub agents: Agents,
    /// The client of Twilio.
    pub twilio: Twilio,
    /// How much and how long.
    pub settings: Settings,
}

/// How much and how long a worker works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Conversations at once; 0 claims nothing.
    pub workers: u32,
    /// After `shutdown`: how long turns may go on before they are given back.
    pub drain: Duration,
}

/// The context and what the turns share besides.
pub(crate) struct Worker {
    pub(crate) ctx: Context,
    /// The store's key, from which buckets are drawn.
    pub(crate) key: [u8; 32],
    pub(crate) leases: Leases,
    pub(crate) holds: Holds,
}

/// Works until `shutdown` says true and everything claimed is finished or given back.
pub async fn run(ctx: Context, mut shutdown: watch::Receiver<bool>) {
    if ctx.settings.workers == 0 {
        stopped(&mut shutdown).await;
        return;
    }
    let Some(key) = store_key(&ctx.store, &mut shutdown).await else { return };
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

/// Claims the conversations of one shard.
struct Claimer {
    worker: Arc<Worker>,
    slots: Arc<Semaphore>,
    cut_off: watch::Receiver<bool>,
    shard: u8,
    /// Kept until it is answered: a claim whose answer was lost is claimed again, not lost.
    nonce: Nonce,
}

impl Claimer {
    fn new(
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
            nonce: Nonce(chance::token()),
        }
    }

    async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
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
        let sweep = chance::jittered(SWEEP);
        loop {
            let slot = tokio::select! {
                biased;
                () = stopped(shutdown) => return sweep,
                slot = Arc::clone(&self.slots).acquire_owned() => slot,
            };
            let Some(slot) = slot.ok().filter(|_| self.worker.may_claim()) else { return sweep };
            let began = Instant::now();
            let claimed = self.worker.ctx.store.claim(self.shard, self.nonce.clone(), LEASE_MS);
            match claimed.await {
                Ok(Claimed::Head(claim)) => {
                    self.nonce = Nonce(chance::token());
                    let (worker, cut_off) = (Arc::clone(&self.worker), self.cut_off.clone());
                    tokio::spawn(work(worker, *claim, began, cut_off, slot));
                }
                Ok(Claimed::Nothing { next_in_ms }) => {
                    let next = next_in_ms.map_or(SWEEP, Duration::from_millis);
                    return sweep.min(next.max(Duration::from_millis(1)));
                }
                Err(error) => {
                    emit(&Event::WorkerStoreFailed { error: error.to_string() });
                    return sweep;
                }
            }
        }
    }
}

impl Worker {
    fn may_claim(&self) -> bool {
        self.ctx.routes.ready() && self.ctx.pulse.is_fresh()
    }
}

/// One turn of a conversation, from its claim until its lease is given up.
async fn work(
    worker: Arc<Worker>,
    claim: Claim,
    began: Instant,
    mut cut_off: watch::Receiver<bool>,
    slot: OwnedSemaphorePermit,
) {
    let shard = claim.conversation.shard();
    let held = worker.leases.hold(&claim, began);
    let lease = held.lease().clone();
    let turn = Turn::new(Arc::clone(&worker), claim, &held, began);
    tokio::select! {
        biased;
        () = turn.run() => {}
        () = held.lost() => emit(&Event::LeaseLost),
        () = stopped(&mut cut_off) => {
            // Without an answer the lease ends by itself.
            let _ = worker.ctx.store.release(lease).await;
        }
    }
    drop(held);
    drop(slot);
    // The conversation may have another message, and its shard another conversation.
    worker.ctx.doorbell.ring(shard);
}

async fn store_key(store: &SharedStore, shutdown: &mut watch::Receiver<bool>) -> Option<[u8; 32]> {
    loop {
        match store.key().await {
            Ok(key) => return Some(key),
            Err(error) => emit(&Event::WorkerStoreFailed { error: error.to_string() }),
        }
        tokio::select! {
            () = stopped(shutdown) => return None,
            () = sleep(SWEEP) => {}
        }
    }
}

/// Once a minute drops what has outlived its time, shard by shard: a call drops a bounded number,
/// and a gateway that admits hundreds of messages a second must forget as many.
async fn sweep_old(worker: Arc<Worker>) {
    const EVERY: Duration = Duration::from_secs(60);
    loop {
        for shard in 0..SHARDS {
            sleep(chance::jittered(EVERY / u32::from(SHARDS))).await;
            if let Err(error) = worker.ctx.store.sweep(shard).await {
                emit(&Event::WorkerStoreFailed { error: error.to_string() });
            }
        }
    }
}

/// Waits for the word true; a sender that is gone says it too.
async fn stopped(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|stop| *stop).await;
}

//! Calls between replicas: one that leaves something ready and cannot take it tells the others.
//!
//! Takes what the doorbell keeps for others, gives it to the store in one command, four times a second
//! at most; and rings here for what others call to. A call that is lost costs a sweep. Never calls while
//! nobody else lives.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::doorbell::Doorbell;
use crate::heartbeat::Pulse;
use crate::stop::stopped;
use crate::store::SharedStore;

/// Shortest time between two calls.
const APART: Duration = Duration::from_millis(250);

/// Calls the others until `shutdown` says true; what is left by then goes at last.
pub async fn call(
    doorbell: Arc<Doorbell>,
    store: SharedStore,
    pulse: Pulse,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut is_over = false;
    while !is_over {
        let shards = tokio::select! {
            shards = doorbell.called() => shards,
            () = stopped(&mut shutdown) => {
                is_over = true;
                doorbell.take_calls()
            }
        };
        if shards != 0 && !pulse.is_alone() {
            // Whoever does not hear it looks by himself in a while.
            if store.call(shards).await.is_err() {
                doorbell.call_again(shards);
            }
        }
        tokio::select! {
            () = sleep(APART) => {}
            () = stopped(&mut shutdown) => {}
        }
    }
}

/// For ever: rings for what others call to.
pub async fn answer(doorbell: Arc<Doorbell>, store: SharedStore) {
    store.answer(move |shards| doorbell.ring_all(shards)).await;
}

//! Calls between replicas: one that leaves something ready and cannot take it tells the others.
//!
//! Takes what the doorbell keeps for others, gives it to the store in a command or two, four times a
//! second at most; and rings here for what others call to. A call that is lost costs a sweep. Never calls while
//! nobody else lives.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::doorbell::Doorbell;
use crate::heartbeat::Pulse;
use crate::stop::stopped;
use crate::store::SharedStore;
use crate::store::hail::Hail;

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
        let calls = tokio::select! {
            calls = doorbell.called() => calls,
            () = stopped(&mut shutdown) => {
                is_over = true;
                doorbell.take_calls()
            }
        };
        for hail in calls.into_iter().filter(|_| !pulse.is_alone()) {
            // Whoever does not hear it looks by himself in a while; news would be old by then.
            if let (Err(_), Hail::Shards(shards)) = (store.call(&hail).await, hail) {
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
    store.answer(move |hail| doorbell.hear(hail)).await;
}

//! Told to stop: the one word that ends a task.
//!
//! Takes the receiver that every task of the gateway is handed; gives control back once it says true.

use tokio::sync::watch;

/// Waits for the word true; a sender that is gone says it too.
pub async fn stopped(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|stop| *stop).await;
}

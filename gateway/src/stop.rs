//! Told to stop: once to finish what runs, twice to give it back.
//!
//! Takes the receivers that every task of the gateway is handed; gives control back once they say
//! true.

use tokio::sync::watch;

/// What whoever runs the gateway tells it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signals {
    /// True: begin nothing new and finish what runs.
    pub stop: watch::Receiver<bool>,
    /// True after that: finish nothing more, give it back.
    pub hurry: watch::Receiver<bool>,
}

/// Waits for the word true; a sender that is gone says it too.
pub async fn stopped(signal: &mut watch::Receiver<bool>) {
    let _ = signal.wait_for(|stop| *stop).await;
}

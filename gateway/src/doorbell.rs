//! The doorbell: tells the claimers of this process that a shard has something to claim.
//!
//! Takes the shard of a message that was just admitted, wakes the claimer of that shard. A ring
//! that nobody waits for is kept, one per shard; a ring that is lost costs one sweep. Never says
//! what there is to claim.

use kanarie_words::ids::SHARDS;
use tokio::sync::Notify;

/// One bell per shard.
#[derive(Debug)]
pub struct Doorbell {
    bells: Vec<Notify>,
}

impl Default for Doorbell {
    fn default() -> Self {
        Self { bells: (0..SHARDS).map(|_| Notify::new()).collect() }
    }
}

impl Doorbell {
    /// Wakes the claimer of `shard`, below [`SHARDS`].
    pub fn ring(&self, shard: u8) {
        self.bells[usize::from(shard % SHARDS)].notify_one();
    }

    /// Waits for the next ring of `shard`, below [`SHARDS`].
    pub async fn rung(&self, shard: u8) {
        self.bells[usize::from(shard % SHARDS)].notified().await;
    }
}

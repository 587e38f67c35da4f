//! The doorbell: tells the claimers of this process that a shard has something to claim.
//!
//! Takes the shard of a message that was just admitted, wakes the claimer of that shard. A ring
//! that nobody waits for is kept, one per shard; a ring that is lost costs one sweep. Keeps as well
//! to which shards other replicas are to be called, because none here can go. Never says what there is
//! to claim.

use std::sync::atomic::{AtomicU32, Ordering};

use kanarie_words::ids::SHARDS;
use tokio::sync::Notify;

/// One bell per shard.
#[derive(Debug)]
pub struct Doorbell {
    bells: Vec<Notify>,
    /// A bit a shard.
    calls: AtomicU32,
    called: Notify,
}

impl Default for Doorbell {
    fn default() -> Self {
        let bells = (0..SHARDS).map(|_| Notify::new()).collect();
        Self { bells, calls: AtomicU32::new(0), called: Notify::new() }
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

    /// Other replicas should look at `shard`, below [`SHARDS`]: this one cannot.
    pub fn call_others(&self, shard: u8) {
        self.calls.fetch_or(1 << u32::from(shard % SHARDS), Ordering::Relaxed);
        self.called.notify_one();
    }

    /// The same for all of these shards, a bit each, to which nobody could be called.
    pub fn call_again(&self, shards: u32) {
        self.calls.fetch_or(shards, Ordering::Relaxed);
        self.called.notify_one();
    }

    /// Waits until others are to be called; gives the shards, a bit each.
    pub async fn called(&self) -> u32 {
        loop {
            let shards = self.take_calls();
            if shards != 0 {
                return shards;
            }
            self.called.notified().await;
        }
    }

    /// The shards to which others are to be called now, a bit each.
    pub fn take_calls(&self) -> u32 {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// Wakes the claimers of these shards, a bit each: another replica calls.
    pub fn ring_all(&self, shards: u32) {
        (0..SHARDS)
            .filter(|shard| shards & (1 << u32::from(*shard)) != 0)
            .for_each(|s| self.ring(s));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::Doorbell;

    #[test]
    fn others_are_called_once_to_all_shards_that_wait_for_it() {
        let doorbell = Doorbell::default();
        assert_eq!(doorbell.called().now_or_never(), None);
        [3, 31, 3].into_iter().for_each(|shard| doorbell.call_others(shard));
        let called = doorbell.called().now_or_never();
        assert_eq!(called, Some(1 << 3 | 1 << 31));
        doorbell.call_again(1 << 3);
        doorbell.call_others(4);
        assert_eq!(doorbell.called().now_or_never(), Some(1 << 3 | 1 << 4));
        assert_eq!(doorbell.called().now_or_never(), None);
    }

    #[test]
    fn a_call_of_another_replica_rings_for_its_shards_and_no_other() {
        let doorbell = Doorbell::default();
        doorbell.ring_all(1 | 1 << 31);
        let rung: Vec<u8> =
            (0..32).filter(|shard| doorbell.rung(*shard).now_or_never().is_some()).collect();
        assert_eq!(rung, [0, 31]);
    }
}

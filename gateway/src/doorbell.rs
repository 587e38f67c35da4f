//! The doorbell: tells the claimers of this process that a shard has something to claim.
//!
//! Takes the shard of a message that was just admitted, wakes the claimer of that shard. A ring
//! that nobody waits for is kept, one per shard; a ring that is lost costs one sweep. Keeps as well
//! to which shards other replicas are to be called, because none here can go, and the news that others
//! are to be told. Never says what there is to claim.

use std::sync::atomic::{AtomicU32, Ordering};

use kanarie_words::ids::{ChannelUid, SHARDS};
use tokio::sync::Notify;

use crate::news::News;
use crate::store::hail::Hail;

/// One bell per shard.
#[derive(Debug)]
pub struct Doorbell {
    bells: Vec<Notify>,
    /// A bit a shard.
    calls: AtomicU32,
    called: Notify,
    news: News,
}

impl Default for Doorbell {
    fn default() -> Self {
        let bells = (0..SHARDS).map(|_| Notify::new()).collect();
        Self { bells, calls: AtomicU32::new(0), called: Notify::new(), news: News::default() }
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

    /// Something urgent was counted for this channel: for whoever waits for its counts, here or at another
    /// replica.
    pub fn counted(&self, channel: &ChannelUid) {
        self.news.counted(channel);
        self.called.notify_one();
    }

    /// What was counted here and elsewhere.
    pub fn news(&self) -> &News {
        &self.news
    }

    /// Waits until others are to be called; gives what to call.
    pub async fn called(&self) -> Vec<Hail> {
        loop {
            let calls = self.take_calls();
            if !calls.is_empty() {
                return calls;
            }
            self.called.notified().await;
        }
    }

    /// What others are to be called now.
    pub fn take_calls(&self) -> Vec<Hail> {
        let shards = self.calls.swap(0, Ordering::Relaxed);
        let ready = (shards != 0).then_some(Hail::Shards(shards));
        ready.into_iter().chain(self.news.take_untold().map(Hail::Counted)).collect()
    }

    /// Takes the call of another replica.
    pub fn hear(&self, hail: Hail) {
        match hail {
            Hail::Shards(shards) => self.ring_all(shards),
            Hail::Counted(channels) => self.news.hear(channels),
        }
    }

    fn ring_all(&self, shards: u32) {
        (0..SHARDS)
            .filter(|shard| shards & (1 << u32::from(*shard)) != 0)
            .for_each(|s| self.ring(s));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::Doorbell;
    use crate::store::hail::Hail;

    #[test]
    fn others_are_called_once_to_all_shards_that_wait_for_it() {
        let doorbell = Doorbell::default();
        assert_eq!(doorbell.called().now_or_never(), None);
        [3, 31, 3].into_iter().for_each(|shard| doorbell.call_others(shard));
        let called = doorbell.called().now_or_never();
        assert_eq!(called, Some(vec![Hail::Shards(1 << 3 | 1 << 31)]));
        doorbell.call_again(1 << 3);
        doorbell.call_others(4);
        let called = doorbell.called().now_or_never();
        assert_eq!(called, Some(vec![Hail::Shards(1 << 3 | 1 << 4)]));
        assert_eq!(doorbell.called().now_or_never(), None);
    }

    #[test]
    fn others_are_told_what_was_counted_here_and_nothing_that_they_told() {
        let doorbell = Doorbell::default();
        doorbell.call_others(3);
        doorbell.counted(&"u".parse().unwrap());
        doorbell.hear(Hail::Counted(vec!["v".parse().unwrap()]));
        let counted = Hail::Counted(vec!["u".parse().unwrap()]);
        assert_eq!(doorbell.called().now_or_never(), Some(vec![Hail::Shards(1 << 3), counted]));
        assert_eq!(doorbell.called().now_or_never(), None);
    }

    #[test]
    fn a_call_of_another_replica_rings_for_its_shards_and_no_other() {
        let doorbell = Doorbell::default();
        doorbell.hear(Hail::Shards(1 | 1 << 31));
        let rung: Vec<u8> =
            (0..32).filter(|shard| doorbell.rung(*shard).now_or_never().is_some()).collect();
        assert_eq!(rung, [0, 31]);
    }
}

//! A store with a clock of its own, and short words for its verbs.
//!
//! Takes the kind of store; gives it empty, at [`START`], with a clock that moves only when told.
//! Every word unwraps the store's error: a test here is about answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kanarie_gateway::store::SharedStore;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_queue::types::{
    Admission, Admit, Buried, Claim, Claimed, Class, Committed, ConversationId, Evidence, Intent,
    Lease, Marked, Nonce, Owned, Track,
};

use crate::redis_server::RedisServer;

/// The first time, in Unix milliseconds.
pub(crate) const START: u64 = 1_700_000_000_000;

/// Length of every lease here.
pub(crate) const LEASE_MS: u64 = 15_000;

/// A store and its clock.
pub(crate) struct Stage {
    /// The store.
    pub(crate) store: SharedStore,
    /// What it runs on, if that is a server.
    pub(crate) server: Option<RedisServer>,
    clock: Arc<AtomicU64>,
}

impl Stage {
    /// The embedded store over memory.
    pub(crate) fn embedded() -> Self {
        let clock = Arc::new(AtomicU64::new(START));
        let told = Arc::clone(&clock);
        let told = Arc::new(move || told.load(Ordering::Relaxed));
        let store = EmbeddedStore::in_memory(told).expect("memory can be opened");
        Self { store: Arc::new(store), server: None, clock }
    }

    /// The Redis store over a server of its own.
    pub(crate) async fn redis() -> Self {
        let server = RedisServer::start().await;
        let clock = Arc::new(AtomicU64::new(START));
        let settings = Settings { beat: Duration::from_secs(20), clock: Some(Arc::clone(&clock)) };
        let store = RedisStore::open(&server.url(), settings).await.expect("the server is fit");
        Self { store: Arc::new(store), server: Some(server), clock }
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sets the clock so many milliseconds after the start.
    pub(crate) fn at(&self, ms: u64) {
        self.clock.store(START + ms, Ordering::Relaxed);
    }

    /// Admits a message of a conversation, its SID its text.
    pub(crate) async fn admit(&self, conversation: u8, sid: &str) -> Admission {
        self.store.admit(message(conversation, sid)).await.expect("the store answers")
    }

    /// Admits and expects it to be queued.
    pub(crate) async fn queue(&self, conversation: u8, sid: &str) {
        assert_eq!(self.admit(conversation, sid).await, Admission::Queued);
    }

    /// Claims in the one shard that [`conversation`] uses.
    pub(crate) async fn claimed(&self, nonce: &str) -> Claimed {
        let nonce = Nonce(nonce.to_owned());
        self.store.claim(0, nonce, LEASE_MS).await.expect("the store answers")
    }

    /// Claims and expects a head.
    pub(crate) async fn claim(&self, nonce: &str) -> (Claim, Lease) {
        match self.claimed(nonce).await {
            Claimed::Head(claim) => {
                let lease = lease_of(&claim);
                (*claim, lease)
            }
            Claimed::Nothing { next_in_ms } => panic!("nothing to claim, next in {next_in_ms:?}"),
        }
    }

    /// Queues one message and claims it.
    pub(crate) async fn lease(&self, conversation: u8, sid: &str, nonce: &str) -> Lease {
        self.queue(conversation, sid).await;
        self.claim(nonce).await.1
    }

    /// Commits a reply of some segments without evidence.
    pub(crate) async fn commit(&self, lease: &Lease, id: &str, segments: u32) -> Committed {
        let commit = self.store.commit_reply(lease.clone(), intent(id, segments), None);
        commit.await.expect("the store answers")
    }

    /// Marks a segment.
    pub(crate) async fn mark(
        &self,
        lease: &Lease,
        id: &str,
        segment: u32,
        attempt: &str,
    ) -> Marked {
        self.mark_again(lease, id, segment, attempt, None).await
    }

    /// Marks a segment in place of a refuted mark.
    pub(crate) async fn mark_again(
        &self,
        lease: &Lease,
        id: &str,
        segment: u32,
        attempt: &str,
        expected: Option<&str>,
    ) -> Marked {
        let (id, attempt) = (id.to_owned(), attempt.to_owned());
        let expected = expected.map(str::to_owned);
        let mark = self.store.mark_sending(lease.clone(), id, segment, attempt, expected);
        mark.await.expect("the store answers")
    }

    /// Takes a mark back.
    pub(crate) async fn unmark(
        &self,
        lease: &Lease,
        id: &str,
        segment: u32,
        attempt: &str,
    ) -> Owned {
        let (id, attempt) = (id.to_owned(), attempt.to_owned());
        let unmark = self.store.unmark(lease.clone(), id, segment, attempt);
        unmark.await.expect("the store answers")
    }

    /// Records a SID.
    pub(crate) async fn sent(&self, of: &Lease, id: &str, segment: u32, sid: &str) -> bool {
        let (id, sid) = (id.to_owned(), sid.to_owned());
        let sent = self.store.mark_sent(of.conversation.clone(), id, segment, sid);
        sent.await.expect("the store answers")
    }

    /// Completes without evidence.
    pub(crate) async fn complete(&self, lease: &Lease) -> Owned {
        self.store.complete(lease.clone(), None).await.expect("the store answers")
    }

    /// Puts the head back for a time.
    pub(crate) async fn retry(&self, lease: &Lease, delay_ms: u64, counted: bool) -> Owned {
        self.store.retry(lease.clone(), delay_ms, counted).await.expect("the store answers")
    }

    /// Gives the lease back.
    pub(crate) async fn release(&self, lease: &Lease) -> Owned {
        self.store.release(lease.clone()).await.expect("the store answers")
    }

    /// Keeps a run, or forgets it.
    pub(crate) async fn keep_run(&self, lease: &Lease, run: Option<&str>) -> Owned {
        let run = run.map(str::to_owned);
        self.store.keep_run(lease.clone(), run).await.expect("the store answers")
    }

    /// Ends the first attempt.
    pub(crate) async fn end(
        &self,
        lease: &Lease,
        evidence: Evidence,
        failed_on: Option<&str>,
    ) -> Owned {
        let failed_on = failed_on.map(str::to_owned);
        let end = self.store.end_attempt(lease.clone(), evidence, failed_on);
        end.await.expect("the store answers")
    }

    /// Buries the head.
    pub(crate) async fn bury(&self, lease: &Lease, class: &str) -> Buried {
        self.store.bury(lease.clone(), class.to_owned()).await.expect("the store answers")
    }

    /// What was counted for one channel, as `field=messages`.
    pub(crate) async fn counted(&self, channel: &str) -> Vec<String> {
        let counts = self.store.counts(vec![channel.to_owned()]);
        let (_, channels) = counts.await.expect("the store answers");
        let counts = channels.into_iter().flat_map(|(_, counts)| counts);
        counts.map(|count| format!("{}={}", count.evidence.field(), count.messages)).collect()
    }
}

/// One of 256 conversations, all of shard 0, in the order of their ids.
pub(crate) fn conversation(number: u8) -> ConversationId {
    let mut bytes = [0; 16];
    bytes[15] = number;
    ConversationId::from_bytes(bytes)
}

/// A message whose text is its SID, of channel `shop`.
pub(crate) fn message(number: u8, sid: &str) -> Admit {
    Admit {
        channel: "shop".to_owned(),
        dedup_key: format!("AC1:{sid}"),
        conversation: conversation(number),
        envelope: sid.to_owned(),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
    }
}

/// A fresh reply.
pub(crate) fn intent(id: &str, segments: u32) -> Intent {
    Intent {
        id: id.to_owned(),
        segments,
        body: format!("body of {id}"),
        sent: Vec::new(),
        sending: None,
        resent: false,
    }
}

/// The proof that a claim gives.
pub(crate) fn lease_of(claim: &Claim) -> Lease {
    Lease {
        channel: claim.channel.clone(),
        conversation: claim.conversation.clone(),
        nonce: claim.nonce.clone(),
    }
}

/// An outcome of the canary.
pub(crate) fn canary(serving: u64, class: Class) -> Evidence {
    Evidence { serving, track: Track::Canary, class }
}

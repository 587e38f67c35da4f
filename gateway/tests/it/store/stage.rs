//! A store with a clock of its own, and short words for its verbs.
//!
//! Takes the kind of store; gives it empty, at [`START`], with a clock that moves only when told.
//! Every word unwraps the store's error: a test here is about answers.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::redis::call::Scripted;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_gateway::store::{SharedStore, Store};
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed, Extend, Head, Isolate, KeepRun, Release, Retry};
use kanarie_queue::dead::{Buried, Bury, SumLoads};
use kanarie_queue::erase::{EraseConversation, EraseLetters, Erased};
use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::intent::{Intent, Memo, Post};
use kanarie_queue::lease::{Lease, NewLease, Owned, Park};
use kanarie_queue::letters::{DeadLetterFilter, DeadLetterRead, LettersRead, ReadLetters};
use kanarie_queue::outcome::{Evidence, Outcome};
use kanarie_queue::park::{ParkHead, WakeParked};
use kanarie_queue::replay::{MessageAgain, Replay, Replayed};
use kanarie_queue::send::{
    CommitReply, Committed, Complete, MarkSending, MarkSent, Marked, NoteMissed, Unmark,
};
use kanarie_queue::sweep::Sweep;
use kanarie_words::class::Class;
use kanarie_words::ids::{ConversationId, InvalidId, Nonce};
use kanarie_words::track::Track;

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
        Self { store: Arc::new(Store::Embedded(store)), server: None, clock }
    }

    /// The Redis store over a server of its own.
    pub(crate) async fn redis() -> Self {
        let server = RedisServer::start_quick().await.unwrap();
        let clock = Arc::new(AtomicU64::new(START));
        let settings = Settings {
            beat: Duration::from_secs(20),
            clock: Some(Arc::clone(&clock)),
            ..Settings::default()
        };
        let store = RedisStore::open(&server.url(), settings).await.expect("the server is fit");
        Self { store: Arc::new(Store::Redis(store)), server: Some(server), clock }
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sets the clock so many milliseconds after the start.
    pub(crate) fn at(&self, ms: u64) {
        self.clock.store(START + ms, Ordering::Relaxed);
    }

    /// Runs a verb.
    pub(crate) async fn run<V: Scripted>(&self, verb: V) -> V::Answer {
        self.store.run(verb).await.expect("the store answers")
    }

    /// Admits a message of a conversation, its SID its text.
    pub(crate) async fn admit(&self, conversation: u8, sid: &str) -> Admission {
        self.run(message(conversation, sid)).await
    }

    /// Admits and expects it to be queued.
    pub(crate) async fn queue(&self, conversation: u8, sid: &str) {
        assert_eq!(self.admit(conversation, sid).await, Admission::Queued);
    }

    /// Claims in the one shard that [`conversation`] uses.
    pub(crate) async fn claimed(&self, nonce: &str) -> Claimed {
        self.claimed_in(0, nonce).await
    }

    /// Claims in any shard.
    pub(crate) async fn claimed_in(&self, shard: u8, nonce: &str) -> Claimed {
        self.run(Claim { shard, nonce: id(nonce), lease_ms: LEASE_MS }).await
    }

    /// Claims and expects a head.
    pub(crate) async fn claim(&self, nonce: &str) -> (Head, Lease) {
        match self.claimed(nonce).await {
            Claimed::Head(head) => {
                let lease = lease_of(&head);
                (*head, lease)
            }
            Claimed::Nothing { next_in_ms } => panic!("nothing to claim, next in {next_in_ms:?}"),
        }
    }

    /// Queues one message and claims it.
    pub(crate) async fn lease(&self, conversation: u8, sid: &str, nonce: &str) -> Lease {
        self.queue(conversation, sid).await;
        self.claim(nonce).await.1
    }

    /// Extends leases; gives the conversations whose lease is lost.
    pub(crate) async fn extend(&self, leases: &[Lease], lease_ms: u64) -> Vec<ConversationId> {
        let leases = leases.iter().map(|of| (of.conversation.clone(), of.nonce.clone())).collect();
        self.run(Extend { leases, lease_ms }).await
    }

    /// Commits a reply of some segments without evidence.
    pub(crate) async fn commit(&self, lease: &Lease, id: &str, segments: u32) -> Committed {
        self.commit_reply(lease, intent(id, segments), None).await
    }

    /// Commits a reply.
    pub(crate) async fn commit_reply(
        &self,
        lease: &Lease,
        intent: Intent,
        evidence: Option<Evidence>,
    ) -> Committed {
        self.commit_outcome(lease, intent, evidence.map(Outcome::First)).await
    }

    /// Commits a reply with whatever it counts as.
    pub(crate) async fn commit_outcome(
        &self,
        lease: &Lease,
        intent: Intent,
        outcome: Option<Outcome>,
    ) -> Committed {
        let (lease, memo) = (lease.clone(), Memo::default());
        self.run(CommitReply { lease, intent, outcome, memo, mark: None }).await
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
        intent: &str,
        segment: u32,
        attempt: &str,
        refuted: Option<&str>,
    ) -> Marked {
        let (lease, post) = (lease.clone(), post(intent, segment, attempt));
        self.run(MarkSending { lease, post, refuted: refuted.map(id) }).await
    }

    /// Commits a reply of one segment that leaves something behind.
    pub(crate) async fn commit_memo(&self, lease: &Lease, name: &str, memo: &Memo) -> Committed {
        let (lease, memo) = (lease.clone(), memo.clone());
        self.run(CommitReply { lease, intent: intent(name, 1), outcome: None, memo, mark: None })
            .await
    }

    /// Notes that a listing missed a post.
    pub(crate) async fn missed(
        &self,
        lease: &Lease,
        intent: &str,
        segment: u32,
        attempt: &str,
    ) -> Owned {
        let (lease, post) = (lease.clone(), post(intent, segment, attempt));
        self.run(NoteMissed { lease, post }).await
    }

    /// Takes a mark back.
    pub(crate) async fn unmark(
        &self,
        lease: &Lease,
        intent: &str,
        segment: u32,
        attempt: &str,
    ) -> Owned {
        let (lease, post) = (lease.clone(), post(intent, segment, attempt));
        self.run(Unmark { lease, post }).await
    }

    /// Records a SID.
    pub(crate) async fn sent(&self, of: &Lease, intent: &str, segment: u32, sid: &str) -> bool {
        let conversation = of.conversation.clone();
        self.run(MarkSent { conversation, intent: id(intent), segment, sid: id(sid) }).await
    }

    /// Completes without evidence.
    pub(crate) async fn complete(&self, lease: &Lease) -> Owned {
        self.complete_with(lease, None).await
    }

    /// Completes.
    pub(crate) async fn complete_with(&self, lease: &Lease, evidence: Option<Evidence>) -> Owned {
        let outcome = evidence.map(Outcome::First);
        self.run(Complete { lease: lease.clone(), outcome }).await
    }

    /// Completes, after the canary of a serving had failed.
    pub(crate) async fn rescue(&self, lease: &Lease, serving: u64) -> Owned {
        let outcome = Some(Outcome::Rescued { serving });
        self.run(Complete { lease: lease.clone(), outcome }).await
    }

    /// Puts the head back for a time.
    pub(crate) async fn retry(&self, lease: &Lease, delay_ms: u64, counted: bool) -> Owned {
        self.run(Retry { lease: lease.clone(), delay_ms, counted }).await
    }

    /// Gives the lease back.
    pub(crate) async fn release(&self, lease: &Lease) -> Owned {
        self.run(Release { lease: lease.clone() }).await
    }

    /// Parks the head: until its own end at the latest, with a probe after so long.
    pub(crate) async fn park(
        &self,
        lease: &Lease,
        revision: &str,
        until_ms: u64,
        probe_ms: u64,
    ) -> Owned {
        let (lease, revision) = (lease.clone(), id(revision));
        self.run(ParkHead { lease, revision, until_ms, probe_ms }).await
    }

    /// Wakes what waits for a revision of a channel.
    pub(crate) async fn wake(&self, channel: &str, revision: &str) -> u64 {
        let park = Park { channel: id(channel), revision: id(revision) };
        self.run(WakeParked { park }).await
    }

    /// Notes that the owner runs no other suspect.
    pub(crate) async fn isolate(&self, lease: &Lease) -> Owned {
        self.run(Isolate { lease: lease.clone() }).await
    }

    /// Keeps a run, or forgets it.
    pub(crate) async fn keep_run(&self, lease: &Lease, run: Option<&str>) -> Owned {
        self.run(KeepRun { lease: lease.clone(), run: run.map(str::to_owned) }).await
    }

    /// Ends the first attempt.
    pub(crate) async fn end(
        &self,
        lease: &Lease,
        evidence: Evidence,
        failed_on: Option<&str>,
    ) -> Owned {
        let (lease, evidence) = (lease.clone(), Some(evidence));
        self.run(EndAttempt { lease, evidence, failed_on: failed_on.map(id) }).await
    }

    /// Ends the first attempt without evidence.
    pub(crate) async fn end_without(&self, lease: &Lease) -> Owned {
        self.run(EndAttempt { lease: lease.clone(), evidence: None, failed_on: None }).await
    }

    /// Buries the head.
    pub(crate) async fn bury(&self, lease: &Lease, class: &str) -> Buried {
        self.run(Bury { lease: lease.clone(), class: class.to_owned() }).await
    }

    /// The dead letters of shard 0 with their texts, from the first on.
    pub(crate) async fn letters(&self) -> Vec<DeadLetterRead> {
        self.read_letters(0, &DeadLetterFilter::default(), 500).await.letters
    }

    /// A page of the dead letters of shard 0.
    pub(crate) async fn read_letters(
        &self,
        after: u64,
        wanted: &DeadLetterFilter,
        limit: usize,
    ) -> LettersRead {
        let wanted = wanted.clone();
        let read = ReadLetters { shard: 0, after, until: None, wanted, limit, with_text: true };
        self.run(read).await
    }

    /// Replays letters of shard 0 for channel `again`, recognised for a day.
    pub(crate) async fn replay(&self, letters: &[DeadLetterRead]) -> Vec<Replayed> {
        let again = letters.iter().filter_map(|letter| {
            let (number, channel) = (letter.id.number, id("again"));
            let dedup_key = letter.dedup_key.clone()?;
            Some(MessageAgain { number, dedup_key, channel, dedup_ms: 86_400_000 })
        });
        let letters = again.collect();
        self.run(Replay { shard: 0, letters }).await
    }

    /// Erases letters of shard 0.
    pub(crate) async fn erase_letters(&self, numbers: &[u64]) -> u64 {
        self.run(EraseLetters { shard: 0, numbers: numbers.to_vec() }).await
    }

    /// Erases a conversation that was counted for channel `shop`.
    pub(crate) async fn erase(&self, number: u8) -> Erased {
        let (conversation, channels) = (conversation(number), vec![id("shop")]);
        self.run(EraseConversation { conversation, channels }).await
    }

    /// What was counted for one channel, as `field=messages`.
    pub(crate) async fn counted(&self, channel: &str) -> Vec<String> {
        let read = self.run(ReadCounts { channels: vec![id(channel)] }).await;
        let counts = read.counts.into_iter().flat_map(|counts| counts.messages);
        counts.map(|count| format!("{}={}", count.evidence.field(), count.messages)).collect()
    }

    /// Customers of one channel, as `serving:track=conversations/failed`.
    pub(crate) async fn customers(&self, channel: &str) -> Vec<String> {
        let read = self.run(ReadCounts { channels: vec![id(channel)] }).await;
        let customers = read.counts.into_iter().flat_map(|counts| counts.customers);
        let text = customers.map(|of| {
            let track = of.track.as_str();
            format!("{}:{track}={}/{}", of.serving, of.conversations, of.failed)
        });
        text.collect()
    }

    /// Customers of one channel whom the canary failed, as `serving=failed/rescued`.
    pub(crate) async fn rescued(&self, channel: &str) -> Vec<String> {
        let read = self.run(ReadCounts { channels: vec![id(channel)] }).await;
        let customers = read.counts.into_iter().flat_map(|counts| counts.customers);
        let failed = customers.filter(|of| of.track == Track::Canary && of.failed > 0);
        failed.map(|of| format!("{}={}/{}", of.serving, of.failed, of.rescued)).collect()
    }

    /// What waits, as `channel=messages/bytes/dead letters`.
    pub(crate) async fn loads(&self) -> Vec<String> {
        let loads = self.run(SumLoads).await.into_iter();
        let text = loads
            .map(|of| format!("{}={}/{}/{}", of.channel, of.messages, of.bytes, of.dead_letters));
        text.collect()
    }

    /// Sweeps the one shard that [`conversation`] uses.
    pub(crate) async fn sweep(&self) {
        self.run(Sweep { shard: 0 }).await;
    }

    /// Claims all that is ready and keeps it leased; gives the texts in their order.
    pub(crate) async fn ready(&self) -> Vec<String> {
        let mut texts = Vec::new();
        let now = self.clock.load(Ordering::Relaxed);
        while let Claimed::Head(head) = self.claimed(&format!("{now}-{}", texts.len())).await {
            texts.push(head.envelope);
        }
        texts
    }
}

/// An id of any kind.
pub(crate) fn id<T: FromStr<Err = InvalidId>>(text: &str) -> T {
    text.parse().expect("tests name things by good ids")
}

/// An attempt at a segment.
pub(crate) fn post(intent: &str, segment: u32, attempt: &str) -> Post {
    Post { intent: id(intent), segment, attempt: id(attempt) }
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
        channel: id("shop"),
        dedup_key: id(&format!("AC1:{sid}")),
        conversation: conversation(number),
        envelope: sid.to_owned(),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
        lease: None,
    }
}

/// A fresh reply.
pub(crate) fn intent(name: &str, segments: u32) -> Intent {
    Intent::fresh(id(name), segments, format!("body of {name}"))
}

/// The proof that a claim gives.
pub(crate) fn lease_of(head: &Head) -> Lease {
    Lease {
        channel: head.channel.clone(),
        conversation: head.conversation.clone(),
        nonce: head.nonce.clone(),
    }
}

/// A lease that is wanted, by its nonce.
pub(crate) fn new_lease(nonce: Nonce) -> NewLease {
    NewLease { nonce, lease_ms: LEASE_MS }
}

/// An outcome of the canary.
pub(crate) fn canary(serving: u64, class: Class) -> Evidence {
    Evidence { serving, track: Track::Canary, class }
}

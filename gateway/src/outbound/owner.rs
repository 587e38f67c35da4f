//! What the owner of a conversation's head asks of the store, a small function a verb.
//!
//! Takes a claim under its lease. A verb is repeated until it is answered: whoever runs the turn
//! ends it when the lease is lost. An answer that says so is the end of the turn.

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::claim::{Head, KeepRun, Release, Retry};
use kanarie_queue::dead::{Buried, Bury};
use kanarie_queue::evidence::EndAttempt;
use kanarie_queue::intent::{Intent, Memo, Post};
use kanarie_queue::lease::{Lease, Owned, Park};
use kanarie_queue::outcome::Evidence;
use kanarie_queue::park::ParkHead;
use kanarie_queue::reserve::{Reserve, Reserved};
use kanarie_queue::send::{
    CommitReply, Committed, Complete, MarkSending, MarkSent, Marked, NoteMissed, Unmark,
};
use kanarie_words::ids::{AttemptId, RevisionName, RouteHash};
use tokio::time::{Instant, sleep, timeout};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::{DeadLetterClass, Label as _};
use crate::outbound::committed::CommittedReply;
use crate::outbound::context::Worker;
use crate::outbound::end::End;
use crate::outbound::lease::Held;
use crate::outbound::wake;
use crate::store::Store;
use crate::store::redis::call::Scripted;

/// Time until a verb that was not answered is tried again.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// How long a message waits for a channel that is gone, or for a Twilio that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the record of a sent segment is worth trying for: then a listing finds it.
const RECORD: Duration = Duration::from_secs(30);

/// The owner of a head: its claim, and the lease that it is worked on under.
pub(crate) struct Owner<'a> {
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) claim: &'a Head,
    pub(crate) held: &'a Held,
    pub(crate) began: Instant,
}

impl Owner<'_> {
    /// The reply that the head came with.
    pub(crate) fn committed(&self) -> Option<CommittedReply> {
        self.claim.intent.clone().map(CommittedReply::from_store)
    }

    /// Makes a reply durable; one that the head has already wins.
    pub(crate) async fn commit(
        &self,
        intent: Intent,
        memo: Memo,
        evidence: Option<Evidence>,
    ) -> Result<CommittedReply, End> {
        let lease = self.lease();
        let commit = CommitReply { lease, intent: intent.clone(), evidence, memo };
        match self.insist(commit).await {
            Committed::Done => Ok(CommittedReply::from_store(intent)),
            Committed::Exists(standing) => Ok(CommittedReply::from_store(*standing)),
            Committed::Stale => Err(End::Lost),
        }
    }

    /// Keeps the agent's run with the head, or forgets it.
    pub(crate) async fn keep_run(&self, run: Option<String>) -> Result<(), End> {
        owned(self.insist(KeepRun { lease: self.lease(), run }).await)
    }

    /// Records how the first attempt failed and, for a canary, its revision.
    pub(crate) async fn end_attempt(
        &self,
        evidence: Option<Evidence>,
        failed_on: Option<RevisionName>,
    ) -> Result<(), End> {
        owned(self.insist(EndAttempt { lease: self.lease(), evidence, failed_on }).await)
    }

    /// Books one send of `sender`.
    pub(crate) async fn reserve(&self, sender: RouteHash, per_second: u32) -> Reserved {
        self.insist(Reserve { sender, per_second }).await
    }

    /// Marks a segment as being sent; `refuted` names the attempt of a mark that listings refuted.
    pub(crate) async fn mark(&self, post: Post, refuted: Option<AttemptId>) -> Marked {
        self.insist(MarkSending { lease: self.lease(), post, refuted }).await
    }

    /// Notes that a listing missed the POST whose mark stands.
    pub(crate) async fn note_missed(&self, post: Post) -> Result<(), End> {
        owned(self.insist(NoteMissed { lease: self.lease(), post }).await)
    }

    /// Takes a mark back: its POST provably never happened.
    pub(crate) async fn unmark(&self, post: Post) -> Result<(), End> {
        owned(self.insist(Unmark { lease: self.lease(), post }).await)
    }

    /// Takes the head off, its work done.
    pub(crate) async fn complete(&self, evidence: Option<Evidence>) -> Result<(), End> {
        owned(self.insist(Complete { lease: self.lease(), evidence }).await)
    }

    /// Puts the head back.
    pub(crate) async fn retry(&self, pause: Duration, counted: bool) -> Result<(), End> {
        let delay_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        owned(self.insist(Retry { lease: self.lease(), delay_ms, counted }).await)
    }

    /// Puts the head with those that wait for an agent, for `until`; lets one try in `probe`.
    pub(crate) async fn park(
        &self,
        revision: RevisionName,
        until: Duration,
        probe: Duration,
    ) -> Result<(), End> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (until_ms, probe_ms) = (millis(until), millis(probe));
        let lease = self.lease();
        owned(self.insist(ParkHead { lease, revision, until_ms, probe_ms }).await)
    }

    /// Makes everything of the channel ready that waits for an agent. Not waited for: what is not
    /// woken is let try by itself.
    pub(crate) fn wake(&self, revision: RevisionName) {
        let (worker, channel) = (Arc::clone(self.worker), self.claim.channel.clone());
        tokio::spawn(async move { wake::all(&worker.ctx, Park { channel, revision }).await });
    }

    /// Makes the head a dead letter; false when there is no room for one.
    pub(crate) async fn bury(&self, class: DeadLetterClass) -> Result<bool, End> {
        let bury = Bury { lease: self.lease(), class: class.as_str().to_owned() };
        match self.insist(bury).await {
            Buried::Done => Ok(true),
            Buried::Full => Ok(false),
            Buried::Stale => Err(End::Lost),
        }
    }

    /// Gives the lease back. Asked once: without an answer the lease ends by itself.
    pub(crate) async fn release(&self) {
        let _ = self.worker.ctx.store.run(Release { lease: self.lease() }).await;
    }

    /// Since when the message is waiting for its end.
    pub(crate) fn age(&self) -> Duration {
        let before = self.claim.now.saturating_sub(self.claim.admitted_at);
        Duration::from_millis(before) + self.began.elapsed()
    }

    /// Looked at again after about `pause`, unless the message has waited for a day.
    pub(crate) fn wait_for(&self, class: DeadLetterClass, pause: Duration) -> End {
        if self.age() < PATIENCE { End::wait(pause) } else { End::GiveUp(class) }
    }

    fn lease(&self) -> Lease {
        self.held.lease().clone()
    }

    async fn insist<V: Scripted>(&self, verb: V) -> V::Answer {
        insist(&self.worker.ctx.store, verb).await
    }
}

/// Records what is known to be sent; gives up in time, for a listing finds it as well.
pub(crate) async fn record(worker: &Worker, sent: MarkSent) {
    let _ = timeout(RECORD, insist(&worker.ctx.store, sent)).await;
}

/// Asks until there is an answer: a verb may be repeated. Whoever calls sets the end.
async fn insist<V: Scripted>(store: &Store, verb: V) -> V::Answer {
    loop {
        match store.run(verb.clone()).await {
            Ok(answer) => return answer,
            Err(error) => emit(OutboundEvent::StoreFailed { error: error.to_string() }),
        }
        sleep(STORE_PAUSE).await;
    }
}

/// Whether a verb of an owner took effect.
fn owned(answer: Owned) -> Result<(), End> {
    match answer {
        Owned::Done => Ok(()),
        Owned::Stale => Err(End::Lost),
    }
}

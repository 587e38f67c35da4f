//! What the owner of a conversation's head asks of the store, a small function a verb.
//!
//! Takes a claim under its lease. A verb is repeated until it is answered: whoever runs the turn
//! ends it when the lease is lost. An answer that says so is the end of the turn.

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::types::{
    Buried, Claim, Committed, ConversationId, Evidence, Intent, Lease, Marked, Owned, Reserved,
};
use tokio::time::{Instant, sleep, timeout};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::{DeadLetterClass, Label as _};
use crate::outbound::committed::CommittedReply;
use crate::outbound::context::Worker;
use crate::outbound::end::End;
use crate::outbound::lease::Held;
use crate::store::{Answer, SharedStore};

/// Time until a verb that was not answered is tried again.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// How long a message waits for a channel that is gone, or for a Twilio that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the record of a sent segment is worth trying for: then a listing finds it.
const RECORD: Duration = Duration::from_secs(30);

/// The owner of a head: its claim, and the lease that it is worked on under.
pub(crate) struct Owner<'a> {
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) claim: &'a Claim,
    pub(crate) held: &'a Held,
    pub(crate) began: Instant,
}

/// One POST of one segment, as its mark names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Post<'a> {
    pub(crate) intent: &'a str,
    pub(crate) segment: u32,
    pub(crate) attempt: &'a str,
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
        evidence: Option<Evidence>,
    ) -> Result<CommittedReply, End> {
        let commit =
            self.verb(|store, lease| store.commit_reply(lease, intent.clone(), evidence.clone()));
        match commit.await {
            Committed::Done => Ok(CommittedReply::from_store(intent)),
            Committed::Exists(standing) => Ok(CommittedReply::from_store(*standing)),
            Committed::Stale => Err(End::Lost),
        }
    }

    /// Keeps the agent's run with the head, or forgets it.
    pub(crate) async fn keep_run(&self, run: Option<String>) -> Result<(), End> {
        owned(self.verb(|store, lease| store.keep_run(lease, run.clone())).await)
    }

    /// Records how the first attempt failed and, for a canary, its revision.
    pub(crate) async fn end_attempt(
        &self,
        evidence: Evidence,
        failed_on: Option<String>,
    ) -> Result<(), End> {
        let record =
            self.verb(|store, lease| store.end_attempt(lease, evidence.clone(), failed_on.clone()));
        owned(record.await)
    }

    /// Books one send of `sender`.
    pub(crate) async fn reserve(&self, sender: &str, per_second: u32) -> Reserved {
        let store = &self.worker.ctx.store;
        insist(|| store.reserve(sender.to_owned(), per_second)).await
    }

    /// Marks a segment as being sent; `refuted` names the attempt of a mark that listings refuted.
    pub(crate) async fn mark(&self, post: Post<'_>, refuted: Option<&str>) -> Marked {
        let Post { intent, segment, attempt } = post;
        let mark = self.verb(|store, lease| {
            let refuted = refuted.map(str::to_owned);
            store.mark_sending(lease, intent.to_owned(), segment, attempt.to_owned(), refuted)
        });
        mark.await
    }

    /// Takes a mark back: its POST provably never happened.
    pub(crate) async fn unmark(&self, post: Post<'_>) -> Result<(), End> {
        let Post { intent, segment, attempt } = post;
        let unmark = self.verb(|store, lease| {
            store.unmark(lease, intent.to_owned(), segment, attempt.to_owned())
        });
        owned(unmark.await)
    }

    /// Takes the head off, its work done.
    pub(crate) async fn complete(&self, evidence: Option<Evidence>) -> Result<(), End> {
        owned(self.verb(|store, lease| store.complete(lease, evidence.clone())).await)
    }

    /// Puts the head back.
    pub(crate) async fn retry(&self, pause: Duration, counted: bool) -> Result<(), End> {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        owned(self.verb(|store, lease| store.retry(lease, pause_ms, counted)).await)
    }

    /// Makes the head a dead letter; false when there is no room for one.
    pub(crate) async fn bury(&self, class: DeadLetterClass) -> Result<bool, End> {
        match self.verb(|store, lease| store.bury(lease, class.as_str().to_owned())).await {
            Buried::Done => Ok(true),
            Buried::Full => Ok(false),
            Buried::Stale => Err(End::Lost),
        }
    }

    /// Gives the lease back. Asked once: without an answer the lease ends by itself.
    pub(crate) async fn release(&self) {
        let _ = self.worker.ctx.store.release(self.held.lease().clone()).await;
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

    async fn verb<'s, T>(&'s self, ask: impl Fn(&'s SharedStore, Lease) -> Answer<'s, T>) -> T {
        insist(|| ask(&self.worker.ctx.store, self.held.lease().clone())).await
    }
}

/// Records what is known to be sent; gives up in time, for a listing finds it as well.
pub(crate) async fn record(
    worker: &Worker,
    conversation: &ConversationId,
    intent: &str,
    segment: u32,
    sid: &str,
) {
    let store = &worker.ctx.store;
    let mark = insist(|| {
        store.mark_sent(conversation.clone(), intent.to_owned(), segment, sid.to_owned())
    });
    let _ = timeout(RECORD, mark).await;
}

/// Asks until there is an answer: a verb may be repeated. Whoever calls sets the end.
async fn insist<'s, T>(ask: impl Fn() -> Answer<'s, T>) -> T {
    loop {
        match ask().await {
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

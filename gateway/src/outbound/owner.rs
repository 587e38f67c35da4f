//! What the owner of a conversation's head asks of the store, a small function a verb.
//!
//! Takes a claim under its lease. A verb is repeated until it is answered: whoever runs the turn
//! ends it when the lease is lost. An answer that says so is the end of the turn, and so is one that
//! makes no sense: asked again it would make none either.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kanarie_metrics::label::Label as _;
use kanarie_queue::claim::{Head, Isolate, KeepRun, Release, Retry};
use kanarie_queue::dead::{Buried, Bury};
use kanarie_queue::evidence::EndAttempt;
use kanarie_queue::intent::{Intent, Memo, Post};
use kanarie_queue::lease::{Lease, Owned, Park};
use kanarie_queue::outcome::{Evidence, Outcome};
use kanarie_queue::pace::Reserved;
use kanarie_queue::park::ParkHead;
use kanarie_queue::reserve::Reserve;
use kanarie_queue::send::{
    CommitReply, Committed, Complete, MarkSending, MarkSent, Marked, NoteMissed, Unmark,
};
use kanarie_words::ids::{AttemptId, ChannelUid, RevisionName, RouteHash};
use kanarie_words::track::Track;
use tokio::time::{Instant, timeout};

use crate::callback::SegmentId;
use crate::clock::millis;
use crate::labels::DeadLetterClass;
use crate::outbound::committed::CommittedReply;
use crate::outbound::context::Worker;
use crate::outbound::end::End;
use crate::outbound::lease::Held;
use crate::outbound::pace::Slot;
use crate::outbound::places::Seat;
use crate::outbound::told::{RECORD, insist, left, owned};
use crate::outbound::wake;
use crate::store::redis::call::Scripted;
use crate::subject;

/// How long a message waits for a channel that is gone, or for a Twilio that cannot be reached.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest time between two looks at a message that waits for somebody's hand.
const RAREST: Duration = Duration::from_secs(300);
/// How long a head is put back whose rows make no sense.
const DAMAGED_MS: u64 = 30_000;

/// The owner of a head: its claim, and the lease that it is worked on under.
pub(crate) struct Owner<'a> {
    pub(crate) worker: &'a Arc<Worker>,
    pub(crate) claim: &'a Head,
    pub(crate) held: &'a Held,
    pub(crate) began: Instant,
    /// Its place among the turns; none for a head that is put back because there was none.
    pub(crate) place: Option<&'a Seat>,
    /// Whose agent gave the reply, once one has.
    pub(crate) said_by: OnceLock<Track>,
    /// The channel whose route serves the head, once it is found: not the one that took the message when
    /// that is gone.
    pub(crate) served_by: OnceLock<ChannelUid>,
}

impl Owner<'_> {
    /// Sleeps, the place given back meanwhile.
    pub(crate) async fn rest<T>(&self, sleep: impl Future<Output = T>) -> T {
        match self.place {
            Some(place) => place.rest(sleep).await,
            None => sleep.await,
        }
    }

    /// The reply that the head came with.
    pub(crate) fn committed(&self) -> Option<CommittedReply> {
        self.claim.intent.clone().map(CommittedReply::from_store)
    }

    /// Makes a reply durable and marks its first segment for an attempt, if there is one; a reply that
    /// the head has already wins, and nothing of it is marked. True when it is marked.
    pub(crate) async fn commit(
        &self,
        intent: Intent,
        memo: Memo,
        outcome: Option<Outcome>,
        mark: Option<AttemptId>,
    ) -> Result<(CommittedReply, bool), End> {
        let (lease, is_marked) = (self.lease(), mark.is_some());
        let is_urgent = outcome.as_ref().is_some_and(Outcome::is_urgent);
        let commit = CommitReply { lease, intent: intent.clone(), outcome, memo, mark };
        let committed = self.insist(commit).await?;
        self.tell(is_urgent);
        match committed {
            Committed::Done => Ok((CommittedReply::from_store(intent), is_marked)),
            Committed::Exists(standing) => Ok((CommittedReply::from_store(*standing), false)),
            Committed::Stale => Err(End::Lost),
        }
    }

    /// Keeps the agent's run with the head, or forgets it.
    pub(crate) async fn keep_run(&self, run: Option<String>) -> Result<(), End> {
        owned(self.insist(KeepRun { lease: self.lease(), run }).await?)
    }

    /// Records how the first attempt failed and, for a canary, its revision.
    pub(crate) async fn end_attempt(
        &self,
        evidence: Option<Evidence>,
        failed_on: Option<RevisionName>,
    ) -> Result<(), End> {
        let is_urgent = evidence.as_ref().is_some_and(|evidence| evidence.class.is_failure());
        let ended = self.insist(EndAttempt { lease: self.lease(), evidence, failed_on }).await?;
        self.tell(is_urgent);
        owned(ended)
    }

    /// Books one send of `sender`: here when no other replica sends, else with the store.
    pub(crate) async fn reserve(
        &self,
        sender: RouteHash,
        per_second: u32,
    ) -> Result<Reserved, End> {
        let (senders, now) = (&self.worker.senders, Instant::now());
        if self.worker.ctx.pulse.is_alone() {
            return Ok(senders.alone(&sender, per_second, now));
        }
        let count = match senders.shared(&sender, now) {
            Slot::Ask(count) => count,
            Slot::After(wait) => {
                return Ok(Reserved::After(millis(wait)));
            }
        };
        let reserve = Reserve { sender: sender.clone(), per_second, count };
        let reserved = self.insist(reserve).await?;
        if let Reserved::After(wait_ms) = reserved {
            let from = Instant::now() + Duration::from_millis(wait_ms);
            senders.booked(&sender, count, now, from);
        }
        Ok(reserved)
    }

    /// Marks a segment as being sent; `refuted` names the attempt of a mark that listings refuted.
    pub(crate) async fn mark(&self, post: Post, refuted: Option<AttemptId>) -> Result<Marked, End> {
        self.insist(MarkSending { lease: self.lease(), post, refuted }).await
    }

    /// Notes that a listing missed the POST whose mark stands.
    pub(crate) async fn note_missed(&self, post: Post) -> Result<(), End> {
        owned(self.insist(NoteMissed { lease: self.lease(), post }).await?)
    }

    /// Takes a mark back: its POST provably never happened.
    pub(crate) async fn unmark(&self, post: Post) -> Result<(), End> {
        owned(self.insist(Unmark { lease: self.lease(), post }).await?)
    }

    /// Takes the head off, its work done.
    pub(crate) async fn complete(&self, outcome: Option<Outcome>) -> Result<(), End> {
        let is_urgent = outcome.as_ref().is_some_and(Outcome::is_urgent);
        self.leave(Complete { lease: self.last_lease(), outcome }).await?;
        self.tell(is_urgent);
        Ok(())
    }

    /// Puts the head back.
    pub(crate) async fn retry(&self, pause: Duration, counted: bool) -> Result<(), End> {
        self.leave(Retry { lease: self.last_lease(), delay_ms: millis(pause), counted }).await?;
        self.note_put_back(pause);
        Ok(())
    }

    /// Puts the head with those that wait for an agent, for `until`; lets one try in `probe`.
    pub(crate) async fn park(
        &self,
        revision: RevisionName,
        until: Duration,
        probe: Duration,
    ) -> Result<(), End> {
        let (until_ms, probe_ms) = (millis(until), millis(probe));
        let lease = self.last_lease();
        self.leave(ParkHead { lease, revision, until_ms, probe_ms }).await?;
        // Of those that wait for an agent the oldest is let try: it comes back then.
        self.note_put_back(probe);
        Ok(())
    }

    fn note_put_back(&self, pause: Duration) {
        let (channel, age) = (&self.claim.channel, self.age());
        self.worker.put_back.note(channel, age, pause, Instant::now());
    }

    /// Makes everything of the channel ready that waits for an agent. Not waited for: what is not
    /// woken is let try by itself.
    pub(crate) fn wake(&self, revision: RevisionName) {
        let (worker, channel) = (Arc::clone(self.worker), self.claim.channel.clone());
        worker.put_back.forget(&channel);
        tokio::spawn(subject::carried(async move {
            wake::all(&worker.ctx, Park { channel, revision }).await;
        }));
    }

    /// Makes the head a dead letter; false when there is no room for one.
    pub(crate) async fn bury(&self, class: DeadLetterClass) -> Result<bool, End> {
        let bury = Bury { lease: self.last_lease(), class: class.as_str().to_owned() };
        let told = insist(&self.worker.ctx.store, bury).await?;
        match told.answer {
            Buried::Done => Ok(true),
            Buried::Full => Ok(false),
            Buried::Stale if told.again => Ok(true),
            Buried::Stale => Err(End::Lost),
        }
    }

    /// Notes that this head alone is under suspicion: should its lease expire now, it is the cause.
    pub(crate) async fn isolate(&self) -> Result<(), End> {
        owned(self.insist(Isolate { lease: self.lease() }).await?)
    }

    /// Puts a head back whose rows make no sense. Asked once: else its lease ends by itself.
    pub(crate) async fn set_aside(&self) {
        let delay_ms = DAMAGED_MS;
        let retry = Retry { lease: self.last_lease(), delay_ms, counted: false };
        let _ = self.worker.ctx.store.run(retry).await;
    }

    /// Gives the lease back. Asked once: without an answer the lease ends by itself.
    pub(crate) async fn release(&self) {
        let _ = self.worker.ctx.store.run(Release { lease: self.last_lease() }).await;
        self.worker.ring(self.claim.conversation.shard());
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

    /// `pause`, or longer for a message that has waited for long: each look costs the store a claim,
    /// and a whole channel may wait for somebody's hand.
    pub(crate) fn rarely(&self, pause: Duration) -> Duration {
        rarely(pause, self.age())
    }

    /// Tells whoever waits for the counts of the channel, unless what was counted may wait.
    fn tell(&self, is_urgent: bool) {
        if is_urgent {
            self.worker.ctx.doorbell.counted(self.counted_for());
        }
    }

    /// The lease, as it is shown with each verb.
    pub(crate) fn lease(&self) -> Lease {
        Lease { channel: self.counted_for().clone(), ..self.held.lease().clone() }
    }

    /// The channel whose agents are asked: what they do is its evidence.
    pub(crate) fn counted_for(&self) -> &ChannelUid {
        self.served_by.get().unwrap_or(&self.claim.channel)
    }

    /// The lease for a verb that gives it up.
    fn last_lease(&self) -> Lease {
        self.worker.leases.leaving(self.held.lease());
        self.lease()
    }

    async fn insist<V: Scripted>(&self, verb: V) -> Result<V::Answer, End> {
        Ok(insist(&self.worker.ctx.store, verb).await?.answer)
    }

    /// A verb that gives the lease up.
    async fn leave<V: Scripted<Answer = Owned>>(&self, verb: V) -> Result<(), End> {
        left(insist(&self.worker.ctx.store, verb).await?)
    }
}

fn rarely(pause: Duration, age: Duration) -> Duration {
    pause.max((age / 4).min(RAREST))
}

/// Records what is known to be sent; gives up in time, for a listing finds it as well.
pub(crate) async fn record(worker: &Worker, sent: MarkSent) {
    let (conversation, intent) = (sent.conversation.clone(), sent.intent.clone());
    let id = SegmentId { conversation, intent, segment: sent.segment };
    if let Ok(Ok(_)) = timeout(RECORD, insist(&worker.ctx.store, sent)).await {
        worker.ctx.reports.settle(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rarely;

    #[test]
    fn what_waits_for_long_is_looked_at_rarely() {
        let seconds = Duration::from_secs;
        for (age, pause) in [(0, 30), (120, 30), (400, 100), (1_200, 300), (86_400, 300)] {
            assert_eq!(rarely(seconds(30), seconds(age)), seconds(pause), "{age}");
        }
    }
}

//! From the end of one head to the next: the last trip of a reply that went well.
//!
//! Takes the evidence that its last segment is sent; gives whether the head was taken off, and what the
//! store found next in the shard. Never starts a turn: a head for which none begins is given back.

use std::sync::Arc;

use kanarie_queue::claim::{Claimed, Head};
use kanarie_queue::finish::Finish;
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::send::MarkSent;
use kanarie_words::ids::MessageSid;
use tokio::time::{Instant, timeout};

use crate::callback::SegmentId;
use crate::outbound::context::Worker;
use crate::outbound::owner;
use crate::outbound::places::Seat;
use crate::outbound::segment::Segment;
use crate::outbound::told::{RECORD, insist};
use crate::outbound::unbegun::Unbegun;

/// What is recorded of a segment that Twilio has taken.
pub(crate) struct Record {
    id: SegmentId,
    /// The lease of the head that ends with it.
    ends: Option<Lease>,
    /// Whether the place of its turn may go to the next head of the shard.
    may_pass_on: bool,
}

/// How a finish ended.
pub(crate) struct Ending {
    /// Whether the head was taken off.
    pub(crate) is_done: bool,
    pub(crate) next: Next,
}

/// What comes after a turn.
pub(crate) enum Next {
    /// Another head of the shard.
    Head(Box<Taken>),
    /// The store has just said that nothing of the shard is ready.
    Nothing,
    /// Nobody has asked.
    Unknown,
}

/// A head that was claimed, and on which no turn works yet.
pub(crate) struct Taken {
    head: Head,
    began: Instant,
    unbegun: Unbegun,
}

impl Taken {
    /// Its turn begins; gives since when its lease surely runs.
    pub(crate) fn begin(self) -> (Head, Instant) {
        self.unbegun.end();
        (self.head, self.began)
    }
}

impl Record {
    /// What is to be recorded of a segment.
    pub(crate) fn of(segment: &Segment<'_>) -> Self {
        let owner = segment.owner;
        let ends = segment.ends_well().then(|| owner.lease());
        Self { id: segment.id(), ends, may_pass_on: owner.place.is_some_and(Seat::may_pass_on) }
    }

    /// Records it; for the last segment, and while its turn lives, ends its head as well. None when
    /// that is not done, or nobody knows.
    pub(crate) async fn keep(
        self,
        worker: &Arc<Worker>,
        sid: MessageSid,
        has_turn: bool,
    ) -> Option<Ending> {
        let SegmentId { conversation, intent, segment } = self.id.clone();
        let shard = conversation.shard();
        let Some(lease) = self.ends.filter(|_| has_turn) else {
            owner::record(worker, MarkSent { conversation, intent, segment, sid }).await;
            if !has_turn {
                // Its conversation may have waited to learn it.
                worker.ring(shard);
            }
            return None;
        };
        let claims = self.may_pass_on && worker.may_claim();
        let next = claims.then(|| worker.leases.fresh());
        let ending = finish(worker, Finish { lease, intent, segment, sid, next }).await?;
        worker.ctx.reports.settle(&self.id);
        Some(ending)
    }
}

/// None when the store gave no answer that is worth waiting for.
async fn finish(worker: &Arc<Worker>, finish: Finish) -> Option<Ending> {
    let began = Instant::now();
    worker.leases.leaving(&finish.lease);
    let told = timeout(RECORD, insist(&worker.ctx.store, finish)).await.ok()?.ok()?;
    // Stale after an answer that was lost, it was that call which took the head off.
    let is_done = told.again || told.answer.completed == Owned::Done;
    let next = match told.answer.next {
        None => Next::Unknown,
        Some(Claimed::Nothing { .. }) => Next::Nothing,
        // From when its lease runs nobody knows: given back, it is claimed anew.
        Some(Claimed::Head(head)) if told.again => {
            drop(Unbegun::of(worker, &head));
            Next::Unknown
        }
        Some(Claimed::Head(head)) => {
            let unbegun = Unbegun::of(worker, &head);
            Next::Head(Box::new(Taken { head: *head, began, unbegun }))
        }
    };
    Some(Ending { is_done, next })
}

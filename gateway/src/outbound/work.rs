//! Turns in a place, one after the other: what a claimer takes, and what the first line brings.
//!
//! Takes a head with its place; runs its turn and, as long as the end of one claims the next head of
//! the shard, that one's in the same place. Rings for the shard at the end, unless the store has just
//! said that nothing is ready there. Never claims by itself.

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::claim::Head;
use kanarie_queue::lease::NewLease;
use kanarie_words::ids::{ChannelUid, ConversationId};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::handover::{KeptPlace, Turns};
use crate::outbound::context::Worker;
use crate::outbound::next::Next;
use crate::outbound::places::Seat;
use crate::outbound::turn;
use crate::outbound::unbegun::Unbegun;
use crate::subject::Subject;

/// Where turns are worked on.
#[derive(Clone)]
pub(crate) struct Workshop {
    worker: Arc<Worker>,
    cut_off: watch::Receiver<bool>,
}

/// A place that the first line keeps.
struct KeptSeat {
    workshop: Workshop,
    place: Seat,
    lease: NewLease,
    unbegun: Unbegun,
    began: Instant,
}

impl Workshop {
    pub(crate) fn new(worker: &Arc<Worker>, cut_off: &watch::Receiver<bool>) -> Self {
        Self { worker: Arc::clone(worker), cut_off: cut_off.clone() }
    }

    /// Starts the turn of a head whose lease was asked for at `began`; without a place it is put back
    /// for so long.
    pub(crate) fn start(&self, head: Head, began: Instant, place: Result<Seat, Duration>) {
        let (workshop, underway) = (self.clone(), self.worker.turns.begin());
        tokio::spawn(async move {
            workshop.work(head, began, place).await;
            drop(underway);
        });
    }

    async fn work(&self, head: Head, began: Instant, place: Result<Seat, Duration>) {
        let (shard, was_seated) = (head.conversation.shard(), place.is_ok());
        let (mut head, mut began, mut place) = (head, began, place);
        loop {
            let cut_off = self.cut_off.clone();
            let route = self.worker.ctx.routes.find_channel(head.channel.as_str());
            let subject = Subject::turn(&head.channel, route, &head.conversation);
            let turn = turn::run(&self.worker, head, began, place.as_ref(), cut_off);
            let next = subject.within(turn).await;
            match (next, place) {
                (Next::Head(taken), Ok(seat)) => {
                    (head, began) = taken.begin();
                    let has_reply = head.intent.is_some();
                    place = seat.pass_on(&head.channel, has_reply, Instant::now());
                }
                (Next::Nothing, _) => return,
                (_, left) => {
                    drop(left);
                    // The conversation may have another message, and its shard another conversation.
                    if was_seated {
                        self.worker.ring(shard);
                    }
                    return;
                }
            }
        }
    }
}

impl Turns for Workshop {
    fn keep_place(
        &self,
        channel: &ChannelUid,
        conversation: &ConversationId,
    ) -> Option<Box<dyn KeptPlace>> {
        if !self.worker.may_claim() {
            return None;
        }
        let place = self.worker.places.seat_at_once(channel, Instant::now())?;
        let lease = self.worker.leases.fresh();
        let unbegun = Unbegun::wanted(&self.worker, channel, conversation, &lease.nonce);
        let (workshop, began) = (self.clone(), Instant::now());
        Some(Box::new(KeptSeat { workshop, place, lease, unbegun, began }))
    }
}

impl KeptPlace for KeptSeat {
    fn lease(&self) -> NewLease {
        self.lease.clone()
    }

    fn begin(self: Box<Self>, head: Head) {
        let Self { workshop, place, unbegun, began, .. } = *self;
        workshop.start(head, began, Ok(place));
        unbegun.end();
    }

    fn leave(self: Box<Self>) {
        self.unbegun.end();
    }
}

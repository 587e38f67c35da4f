//! One turn of a conversation, its head from the claim to its end: the list of the second line.
//!
//! Takes a claim; lists what is done with it: read, find the channel, choose, ask, commit, send,
//! end. A hop that cannot go on gives an [`End`], and only this file carries one out: nothing else
//! takes a head off, puts it back or buries it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kanarie_metrics::label::Label as _;
use kanarie_queue::claim::Head;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use crate::ends::{self, MessageEnd};
use crate::envelope::{self, EnvelopeError, InboundMessage};
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::{DeadLetterClass, ReplyOf};
use crate::levels::GONE;
use crate::outbound::agent::interrupt::Interrupt;
use crate::outbound::attempt::{self, Asking};
use crate::outbound::context::Worker;
use crate::outbound::deliver::{self, Delivered};
use crate::outbound::end::End;
use crate::outbound::next::{Ending, Next};
use crate::outbound::owner::Owner;
use crate::outbound::places::Seat;
use crate::outbound::start::Start;
use crate::outbound::track;
use crate::random;
use crate::routes::table::Entry;
use crate::stop::stopped;
use crate::subject;

/// Leases on one head that expired before it is a suspect.
const SUSPECT: u32 = 2;
/// Time between two looks at a message whose channel is gone, or that a newer gateway wrote.
const PARKED: Duration = Duration::from_secs(30);
/// Time until a head is looked at again for which there is no room among the dead letters.
const NO_ROOM: Duration = Duration::from_secs(60);

/// Runs the turn of a claim that was begun at `began`, until its lease is given up or lost; gives what
/// comes after it, as far as its end has asked. A head without a place is put back for so long.
pub(crate) async fn run(
    worker: &Arc<Worker>,
    claim: Head,
    began: Instant,
    place: Result<&Seat, &Duration>,
    mut cut_off: watch::Receiver<bool>,
) -> Next {
    let held = worker.leases.hold(&claim, began);
    let (place, crowded) = (place.ok(), place.err());
    let (said_by, served_by) = (OnceLock::new(), OnceLock::new());
    let owner = Owner { worker, claim: &claim, held: &held, began, place, said_by, served_by };
    let how = tokio::select! {
        biased;
        ended = line(&owner, crowded) => ended,
        () = held.lost() => Err(End::Lost),
        () = stopped(&mut cut_off) => Err(End::Cut),
    };
    let how = match how {
        Ok(Delivered::Finished(ending)) => return finished(&owner, ending),
        Ok(Delivered::Sent) => End::Done,
        Err(end) => end,
    };
    tokio::select! {
        biased;
        () = end(&owner, how) => {}
        () = held.lost() => emit(OutboundEvent::LeaseLost),
    }
    Next::Unknown
}

/// What is done with a head, in order.
async fn line(owner: &Owner<'_>, crowded: Option<&Duration>) -> Result<Delivered, End> {
    crowded.map_or(Ok(()), |pause| Err(End::at(*pause)))?;
    let _alone = quarantine(owner).await?;
    let message = read(owner)?;
    let entry = find_channel(owner, &message)?;
    let route = &entry.route;
    // A turn has one line, so nobody else says it.
    let _ = owner.served_by.set(route.channel.uid.clone());
    let (reply, start) = match owner.committed() {
        Some(reply) => (reply, Start::default()),
        None => {
            let (claim, key) = (owner.claim, owner.worker.key);
            let choice = track::choose(key, route, &claim.conversation, claim.failed_on.as_ref());
            let choice = owner.worker.uncut(choice, route);
            let interrupt = claim.memo.question.as_deref().and_then(Interrupt::parse);
            let (message, interrupt) = (&message, interrupt.as_ref());
            let asking = Asking { owner, route, message, interrupt };
            let ready = attempt::answer(asking, choice).await?;
            let start = Start::arrange(owner, route).await;
            let (intent, mark) = (ready.intent(), start.mark());
            let commit = owner.commit(intent, ready.memo(), ready.outcome, mark).await?;
            (commit.0, start.committed(commit.1))
        }
    };
    deliver::deliver(owner, route, &message, reply, start).await
}

/// Carries out how a turn ended.
async fn end(owner: &Owner<'_>, how: End) {
    let carried_out = match how {
        End::Done => answered(owner).await,
        End::Silence(outcome) => {
            let taken_off = owner.complete(outcome).await;
            taken_off.map(|()| remember(owner, MessageEnd::Silent))
        }
        End::Later { pause, counted } => owner.retry(pause, counted).await,
        End::Park { revision, until, probe } => owner.park(revision, until, probe).await,
        End::GiveUp(class) => give_up(owner, class).await,
        End::Cut => {
            owner.release().await;
            Ok(())
        }
        End::Damaged => Err(End::Damaged),
        End::Lost => Err(End::Lost),
    };
    match carried_out {
        Ok(()) => {}
        Err(End::Damaged) => owner.set_aside().await,
        // What is stale belongs to somebody else, who does the rest.
        Err(_) => emit(OutboundEvent::LeaseLost),
    }
}

async fn answered(owner: &Owner<'_>) -> Result<(), End> {
    owner.complete(None).await?;
    note_answered(owner);
    Ok(())
}

/// The end of a head that was taken off with the record of its last segment.
fn finished(owner: &Owner<'_>, ending: Ending) -> Next {
    if ending.is_done {
        note_answered(owner);
    } else {
        // It is sent and recorded; whoever has the lease now does the rest.
        emit(OutboundEvent::LeaseLost);
    }
    ending.next
}

fn note_answered(owner: &Owner<'_>) {
    let channel = owner.worker.ctx.routes.name_of(owner.counted_for());
    let channel = channel.unwrap_or_else(|| GONE.to_owned());
    let of = ReplyOf::from(owner.said_by.get().copied());
    emit(OutboundEvent::Answered { channel, of, took: owner.age() });
    remember(owner, MessageEnd::Answered);
}

async fn give_up(owner: &Owner<'_>, class: DeadLetterClass) -> Result<(), End> {
    let full = owner.worker.ctx.full.is_full_of_dead_letters(&owner.claim.channel);
    if full || !owner.bury(class).await? {
        return owner.retry(random::jittered(NO_ROOM), false).await;
    }
    owner.worker.ctx.full.stir();
    emit(OutboundEvent::DeadLetter { class });
    remember(owner, MessageEnd::DeadLetter { class: class.as_str().to_owned() });
    Ok(())
}

/// Tells whoever has just sent this message; one that cannot be read was sent by nobody.
fn remember(owner: &Owner<'_>, outcome: MessageEnd) {
    if let Ok(message) = envelope::read(&owner.claim.envelope) {
        ends::remember(message.sid.as_str(), outcome);
    }
}

/// A suspect is worked on alone, and buried when even so its lease expired; not when it has a reply,
/// for then its agent is asked no more.
async fn quarantine(owner: &Owner<'_>) -> Result<Option<OwnedSemaphorePermit>, End> {
    let claim = owner.claim;
    if claim.crashes < SUSPECT {
        return Ok(None);
    }
    if claim.crashed_alone && claim.intent.is_none() {
        return Err(End::GiveUp(DeadLetterClass::Crashed));
    }
    let place = owner.worker.quarantine.take().map_err(End::at)?;
    owner.isolate().await?;
    Ok(Some(place))
}

fn read(owner: &Owner<'_>) -> Result<InboundMessage, End> {
    let message = envelope::read(&owner.claim.envelope);
    let known = |message: &InboundMessage| subject::about(&message.sid);
    message.inspect(known).map_err(|error| match error {
        EnvelopeError::Newer => {
            emit(OutboundEvent::LeftForNewer);
            End::wait(owner.rarely(PARKED))
        }
        EnvelopeError::Unreadable => End::GiveUp(DeadLetterClass::Unreadable),
    })
}

/// The route of the message's channel, in force. When that channel is gone, as after a change of its
/// name, it is the route of whichever channel of its namespace has its sender now: nobody else may see it.
fn find_channel(owner: &Owner<'_>, message: &InboundMessage) -> Result<Arc<Entry>, End> {
    let routes = &owner.worker.ctx.routes;
    let is_live = |entry: &Arc<Entry>| entry.gone_since.is_none();
    let of_sender = || routes.find(message.account.as_str(), message.sender.as_str());
    let is_near =
        |entry: &Arc<Entry>| message.namespace.as_ref() == Some(&entry.route.channel.namespace);
    routes
        .find_channel(owner.claim.channel.as_str())
        .filter(is_live)
        .or_else(|| of_sender().filter(is_live).filter(is_near))
        .ok_or_else(|| owner.wait_for(DeadLetterClass::NoChannel, owner.rarely(PARKED)))
}

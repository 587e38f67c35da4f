//! One turn of a conversation, its head from the claim to its end: the list of the second line.
//!
//! Takes a claim; lists what is done with it: read, find the channel, choose, ask, commit, send,
//! end. A hop that cannot go on gives an [`End`], and only this file carries one out: nothing else
//! takes a head off, puts it back or buries it.

use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::claim::Head;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::ends::{self, MessageEnd};
use crate::envelope::InboundMessage;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::{DeadLetterClass, Label as _};
use crate::outbound::agent::interrupt::Interrupt;
use crate::outbound::attempt::{self, Asking};
use crate::outbound::context::Worker;
use crate::outbound::deliver;
use crate::outbound::end::End;
use crate::outbound::owner::Owner;
use crate::outbound::track;
use crate::random;
use crate::routes::table::Entry;
use crate::stop::stopped;

/// Leases on one head that may expire before it is taken for the cause.
const MAX_CRASHES: u32 = 3;
/// Time between two looks at a message whose channel is gone.
const PARKED: Duration = Duration::from_secs(30);
/// Time until a head is looked at again for which there is no room among the dead letters.
const NO_ROOM: Duration = Duration::from_secs(60);

/// Runs the turn of a claim that was begun at `began`, until its lease is given up or lost.
pub(crate) async fn run(
    worker: Arc<Worker>,
    claim: Head,
    began: Instant,
    mut cut_off: watch::Receiver<bool>,
) {
    let held = worker.leases.hold(&claim, began);
    let owner = Owner { worker: &worker, claim: &claim, held: &held, began };
    let how = tokio::select! {
        biased;
        ended = line(&owner) => ended.err().unwrap_or(End::Done),
        () = held.lost() => End::Lost,
        () = stopped(&mut cut_off) => End::Cut,
    };
    tokio::select! {
        biased;
        () = end(&owner, how) => {}
        () = held.lost() => emit(OutboundEvent::LeaseLost),
    }
}

/// What is done with a head, in order.
async fn line(owner: &Owner<'_>) -> Result<(), End> {
    let message = read(owner)?;
    let entry = find_channel(owner)?;
    let route = &entry.route;
    let reply = match owner.committed() {
        Some(reply) => reply,
        None => {
            let (claim, key) = (owner.claim, owner.worker.key);
            let choice = track::choose(key, route, &claim.conversation, claim.failed_on.as_ref());
            let choice = owner.worker.uncut(choice, route);
            let interrupt = claim.memo.question.as_deref().and_then(Interrupt::parse);
            let (message, interrupt) = (&message, interrupt.as_ref());
            let asking = Asking { owner, route, message, interrupt };
            let ready = attempt::answer(asking, choice).await?;
            owner.commit(ready.intent(), ready.memo(), ready.evidence).await?
        }
    };
    deliver::deliver(owner, route, &message, reply).await
}

/// Carries out how a turn ended.
async fn end(owner: &Owner<'_>, how: End) {
    let carried_out = match how {
        End::Done => answered(owner).await,
        End::Silence(evidence) => {
            let taken_off = owner.complete(evidence).await;
            taken_off.map(|()| remember(owner, MessageEnd::Silent))
        }
        End::Later { pause, counted } => owner.retry(pause, counted).await,
        End::Park { revision, until, probe } => owner.park(revision, until, probe).await,
        End::GiveUp(class) => give_up(owner, class).await,
        End::Cut => {
            owner.release().await;
            Ok(())
        }
        End::Lost => Err(End::Lost),
    };
    // What is stale belongs to somebody else, who does the rest.
    if carried_out.is_err() {
        emit(OutboundEvent::LeaseLost);
    }
}

async fn answered(owner: &Owner<'_>) -> Result<(), End> {
    owner.complete(None).await?;
    emit(OutboundEvent::Answered { took: owner.age() });
    remember(owner, MessageEnd::Answered);
    Ok(())
}

async fn give_up(owner: &Owner<'_>, class: DeadLetterClass) -> Result<(), End> {
    let full = owner.worker.ctx.full.is_full_of_dead_letters(&owner.claim.channel);
    if full || !owner.bury(class).await? {
        return owner.retry(random::jittered(NO_ROOM), false).await;
    }
    emit(OutboundEvent::DeadLetter { class });
    remember(owner, MessageEnd::DeadLetter { class: class.as_str().to_owned() });
    Ok(())
}

/// Tells whoever has just sent this message; one that cannot be read was sent by nobody.
fn remember(owner: &Owner<'_>, outcome: MessageEnd) {
    if let Ok(message) = serde_json::from_str::<InboundMessage>(&owner.claim.envelope) {
        ends::remember(message.sid.as_str(), outcome);
    }
}

fn read(owner: &Owner<'_>) -> Result<InboundMessage, End> {
    if owner.claim.crashes >= MAX_CRASHES {
        return Err(End::GiveUp(DeadLetterClass::Crashed));
    }
    serde_json::from_str(&owner.claim.envelope)
        .map_err(|_| End::GiveUp(DeadLetterClass::Unreadable))
}

/// The route of the message's channel, in force.
fn find_channel(owner: &Owner<'_>) -> Result<Arc<Entry>, End> {
    let entry = owner.worker.ctx.routes.find_channel(owner.claim.channel.as_str());
    entry
        .filter(|entry| entry.gone_since.is_none())
        .ok_or_else(|| owner.wait_for(DeadLetterClass::NoChannel, PARKED))
}

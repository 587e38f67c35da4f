//! Settles a POST whose outcome nobody knows: by evidence, or by two listings.
//!
//! Takes a segment with the mark of another attempt; gives whether it is sent or may be posted, or
//! the end of the turn. A listing may lag behind: the first is no sooner than 20 s after the mark, and
//! only one a minute later that misses the message too says that it was not sent. Of a mark of unknown age
//! the second is later by those 20 s. Never posts.

use std::time::Duration;

use kanarie_queue::intent::Sending;
use kanarie_queue::send::Marked;
use kanarie_words::Millis;
use kanarie_words::ids::{AttemptId, MessageSid};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::DeadLetterClass;
use crate::outbound::end::End;
use crate::outbound::owner;
use crate::outbound::segment::{LATER, Segment};
use crate::outbound::twilio::listing::{ListError, Wanted};
use crate::random;

/// From the mark to the first listing.
const SETTLE: Duration = Duration::from_secs(20);
/// From a listing that missed the message to the one that refutes its mark.
const AGAIN: Duration = Duration::from_secs(60);

/// What may be done with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It is marked as ours: post it.
    Post,
    /// It is sent already.
    Sent,
}

/// A mark of another attempt, as the store tells of it.
pub(crate) struct Ambiguous {
    pub(crate) sending: Sending,
    /// SIDs that belong to other segments.
    pub(crate) attributed: Vec<MessageSid>,
    /// The store's clock.
    pub(crate) now: Millis,
}

/// Settles the mark of another attempt, and marks the segment for `attempt` if that one is refuted.
pub(crate) async fn settle(
    segment: &Segment<'_>,
    attempt: &AttemptId,
    mark: Ambiguous,
) -> Result<Leave, End> {
    let Ambiguous { sending, attributed, now } = mark;
    let young = until_listing(&sending, now);
    if !young.is_zero() {
        return Err(End::at(young));
    }
    match find(segment, &attributed, sending.at, now).await {
        Ok(Some(sid)) => {
            owner::record(segment.owner.worker, segment.sent(sid)).await;
            Ok(Leave::Sent)
        }
        Ok(None) => missed(segment, attempt, &sending).await,
        Err(error) => {
            emit(OutboundEvent::ListFailed { error: error.to_string() });
            Err(match error {
                ListError::Credentials => segment.hold(None),
                ListError::Unavailable => segment.owner.wait_for(DeadLetterClass::Unknown, LATER),
            })
        }
    }
}

/// Whether a segment is sent whose POST just had an unknown outcome: its callback may have come
/// before. Under another attempt's name nothing is marked while a mark stands.
pub(crate) async fn reported(segment: &Segment<'_>) -> Result<(), End> {
    match segment.mark(&AttemptId::from_bytes(random::bytes()), None).await? {
        Marked::Sent => Ok(()),
        Marked::Stale => Err(End::Lost),
        // Whoever claims the head next settles it.
        Marked::Ambiguous { sending, now, .. } => Err(End::at(until_listing(&sending, now))),
        Marked::Go => Err(End::at(SETTLE)),
    }
}

fn until_listing(sending: &Sending, now: Millis) -> Duration {
    let (since, pause) = match sending.missed_at {
        None => (sending.at, SETTLE),
        Some(missed_at) if sending.is_ageless(now) => (missed_at, SETTLE + AGAIN),
        Some(missed_at) => (missed_at, AGAIN),
    };
    pause.saturating_sub(Duration::from_millis(now.saturating_sub(since)))
}

/// A listing does not have the message: the second one says that it was not sent.
async fn missed(
    segment: &Segment<'_>,
    attempt: &AttemptId,
    sending: &Sending,
) -> Result<Leave, End> {
    if sending.missed_at.is_none() {
        segment.owner.note_missed(segment.post(&sending.attempt)).await?;
        return Err(End::at(AGAIN));
    }
    if segment.resent {
        return Err(End::GiveUp(DeadLetterClass::Unknown));
    }
    replace(segment, attempt, sending).await
}

/// Puts our mark in the place of one that two listings refuted.
async fn replace(
    segment: &Segment<'_>,
    attempt: &AttemptId,
    refuted: &Sending,
) -> Result<Leave, End> {
    match segment.mark(attempt, Some(refuted.attempt.clone())).await? {
        Marked::Go => Ok(Leave::Post),
        Marked::Sent => Ok(Leave::Sent),
        Marked::Stale => Err(End::Lost),
        // Somebody else's mark came in between; the next claim looks at that one.
        Marked::Ambiguous { .. } => Err(End::at(SETTLE)),
    }
}

async fn find(
    segment: &Segment<'_>,
    attributed: &[MessageSid],
    marked_at: Millis,
    now: Millis,
) -> Result<Option<MessageSid>, ListError> {
    let (from, to, body) = (segment.route.sender.as_str(), segment.customer, segment.text);
    let wanted = Wanted { from, to, body, marked_at, now, attributed };
    segment.owner.worker.ctx.twilio.find(segment.account(), &wanted).await
}

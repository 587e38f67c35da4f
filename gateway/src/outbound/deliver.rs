//! From a committed reply to a sent one: pace, mark, post, and for the last segment the end of its head.
//!
//! Takes the ticket of the store, sends its segments in order, each when the one before it was
//! reported as handed on, or a second later. A segment is posted only under a fresh mark of its own
//! attempt, and each POST books its own place in the sender's pace; a first segment whose pace says "now"
//! is marked with the commit. A mark of another attempt goes to `settle` first. Never posts a segment
//! that may have been sent.

use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::route::Route;
use kanarie_queue::send::Marked;
use kanarie_words::ids::AttemptId;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::envelope::InboundMessage;
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::{DeadLetterClass, SendClass};
use crate::outbound::committed::CommittedReply;
use crate::outbound::end::End;
use crate::outbound::next::{Ending, Record};
use crate::outbound::owner::Owner;
use crate::outbound::reply::{self, Reply, ReplyError};
use crate::outbound::segment::{LATER, Segment};
use crate::outbound::settle::{self, Ambiguous, Leave};
use crate::outbound::start::{self, Mark, Start};
use crate::outbound::twilio::Account;
use crate::outbound::twilio::classify::{classify_code, is_lasting};
use crate::outbound::twilio::create::{Create, Created, Refusal};
use crate::random;
use crate::subject;

/// Pauses between repeats of a POST that was not processed.
const REPEATS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Longest pause that Twilio may name.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// How long a segment waits for the report that the one before it was handed on.
const REPORT: Duration = Duration::from_secs(1);

/// Time between two looks at a reply that a newer gateway wrote.
const NEWER: Duration = Duration::from_secs(30);

/// How a reply was delivered.
pub(crate) enum Delivered {
    /// All of it is sent; its head is still to be taken off.
    Sent,
    /// That is done, with the record of the last segment.
    Finished(Ending),
}

/// How a segment came to be sent.
enum Sent {
    /// Twilio took it just now.
    Now,
    /// The same, and its head is finished.
    Last(Ending),
    /// Somebody knew that it was sent.
    Before,
}

/// What came of one POST.
enum Posted {
    Sent(Sent),
    Refused(Refusal),
}

/// Sends what is left of a reply.
pub(crate) async fn deliver(
    owner: &Owner<'_>,
    route: &Route,
    message: &InboundMessage,
    committed: CommittedReply,
    mut start: Start,
) -> Result<Delivered, End> {
    let intent = committed.intent();
    let reply = read(owner, &intent.body)?;
    let first = intent.sent.len();
    for (number, text) in (0_u32..).zip(&reply.segments).skip(first) {
        // The store tells of the segment that is next, and of no other.
        let resent = intent.resent && number as usize == first;
        let (customer, reply, intent) = (message.customer.as_str(), &reply, &intent.id);
        let segment = Segment { owner, route, customer, reply, intent, number, text, resent };
        let report = (!segment.is_last()).then(|| owner.worker.ctx.reports.expect(segment.id()));
        match (send(&segment, std::mem::take(&mut start)).await?, report) {
            (Sent::Last(ending), _) => return Ok(Delivered::Finished(ending)),
            (Sent::Now, Some(mut report)) => {
                // WhatsApp may show what comes close together in another order.
                let _ = owner.rest(timeout(REPORT, report.gone())).await;
            }
            (Sent::Now | Sent::Before, _) => {}
        }
    }
    match reply.failed {
        Some(class) => Err(End::failed(class)),
        None => Ok(Delivered::Sent),
    }
}

fn read(owner: &Owner<'_>, body: &str) -> Result<Reply, End> {
    reply::read(body).map_err(|error| match error {
        ReplyError::Newer => {
            emit(OutboundEvent::LeftForNewer);
            End::wait(owner.rarely(NEWER))
        }
        ReplyError::Unreadable => End::GiveUp(DeadLetterClass::Unreadable),
    })
}

async fn send(segment: &Segment<'_>, start: Start) -> Result<Sent, End> {
    let (owner, route) = (segment.owner, segment.route);
    let mut mark = start.ready(owner, route).await?;
    let mut repeats = REPEATS.into_iter();
    loop {
        match post_once(segment, mark.take()).await? {
            Posted::Sent(sent) => return Ok(sent),
            Posted::Refused(refusal) => match in_place(&refusal, repeats.next()) {
                Some(pause) => owner.rest(sleep(pause)).await,
                None => return Err(refused(segment, refusal)),
            },
        }
        let slot = start::pace(owner, route).await?;
        start::wait(owner, slot).await;
    }
}

/// Posts the segment once, under a mark that stands or one of its own. It stays only where the outcome
/// is unknown.
async fn post_once(segment: &Segment<'_>, mark: Option<Mark>) -> Result<Posted, End> {
    let mark = match mark {
        Some(mark) if mark.is_young() => mark,
        older => {
            let mark = Mark::renewed(older);
            if self::mark(segment, &mark.attempt).await? == Leave::Sent {
                return Ok(Posted::Sent(Sent::Before));
            }
            mark
        }
    };
    if !segment.owner.held.is_ours() {
        return Err(End::Lost);
    }
    match post(segment, mark.deadline()).await {
        (Created::Sent(_), ending) => {
            segment.owner.worker.holds.accept(segment.route);
            Ok(Posted::Sent(ending.map_or(Sent::Now, Sent::Last)))
        }
        (Created::Unknown { .. }, _) => {
            settle::reported(segment).await?;
            Ok(Posted::Sent(Sent::Before))
        }
        (Created::Refused(refusal), _) => {
            segment.owner.unmark(segment.post(&mark.attempt)).await?;
            Ok(Posted::Refused(refusal))
        }
    }
}

/// Marks the segment for `attempt`, settling a mark of another attempt first.
async fn mark(segment: &Segment<'_>, attempt: &AttemptId) -> Result<Leave, End> {
    match segment.mark(attempt, None).await? {
        Marked::Go => Ok(Leave::Post),
        Marked::Sent => Ok(Leave::Sent),
        Marked::Stale => Err(End::Lost),
        Marked::Ambiguous { sending, attributed, now } => {
            settle::settle(segment, attempt, Ambiguous { sending, attributed, now }).await
        }
    }
}

/// Posts, and records what it learns. Once begun it goes on even when the turn is cut off: what it
/// learns is worth more than the turn.
async fn post(segment: &Segment<'_>, deadline: Instant) -> (Created, Option<Ending>) {
    let route = segment.route;
    let worker = Arc::clone(segment.owner.worker);
    let callback = route.webhook_urls.first().map(|url| segment.id().callback_url(url));
    let (account, credentials) = (route.account_sid.clone(), route.credentials.clone());
    let (from, to) = (route.sender.clone(), segment.customer.to_owned());
    let (text, reply) = (segment.text.to_owned(), segment.reply.clone());
    let record = Record::of(segment);
    let underway = worker.posts.begin();
    let (turn, told) = oneshot::channel();
    tokio::spawn(subject::carried(async move {
        let message = Create {
            from: from.as_str(),
            to: &to,
            body: &text,
            status_callback: callback.as_deref(),
            validity_seconds: reply.validity_seconds,
            messaging_service_sid: reply.messaging_service_sid.as_deref(),
        };
        let account = Account { sid: account.as_str(), credentials: &credentials };
        let created = worker.ctx.twilio.create(account, &message, deadline).await;
        let (refused, code) = (created.refused(), created.code());
        let known = code.is_some_and(|code| classify_code(code).is_some());
        emit(OutboundEvent::Posted { refused, code, known });
        let ending = match &created {
            Created::Sent(sid) => record.keep(&worker, sid.clone(), !turn.is_closed()).await,
            Created::Refused(_) | Created::Unknown { .. } => None,
        };
        drop(underway);
        // For a turn that is gone nobody begins the next one: its head is given back.
        let _ = turn.send((created, ending));
    }));
    told.await.unwrap_or((Created::Unknown { status: None }, None))
}

/// What becomes of a head whose segment was refused and is not repeated in place.
fn refused(segment: &Segment<'_>, refusal: Refusal) -> End {
    let later = refusal.retry_after.unwrap_or(LATER).min(LONGEST_PAUSE);
    match refusal.class {
        SendClass::Retry | SendClass::RetryAfter => {
            segment.owner.wait_for(DeadLetterClass::NotAccepted, later)
        }
        SendClass::Credentials => segment.hold(refusal.code),
        SendClass::OptOut => End::GiveUp(DeadLetterClass::OptOut),
        SendClass::NeedsTemplate => End::GiveUp(DeadLetterClass::NeedsTemplate),
        // A refusal is never of the class unknown: that is an outcome of its own.
        SendClass::Permanent | SendClass::Unknown => End::GiveUp(DeadLetterClass::Permanent),
    }
}

/// The pause before the same POST is repeated in this turn; none when it is not.
fn in_place(refusal: &Refusal, next: Option<Duration>) -> Option<Duration> {
    let next = next?;
    let lasting = refusal.code.is_some_and(is_lasting);
    match refusal.class {
        SendClass::Retry => Some(random::jittered(next)),
        SendClass::RetryAfter if !lasting => match refusal.retry_after {
            None => Some(random::jittered(next)),
            Some(asked) => (asked <= next).then_some(asked),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::in_place;
    use crate::labels::SendClass;
    use crate::outbound::twilio::create::Refusal;

    fn refusal(class: SendClass, code: Option<u32>, seconds: Option<u64>) -> Refusal {
        Refusal { class, code, retry_after: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn too_many_requests_are_repeated_in_place_unless_twilio_asks_for_longer() {
        let next = Some(Duration::from_secs(2));
        assert!(in_place(&refusal(SendClass::RetryAfter, Some(20_429), None), next).is_some());
        let asked = refusal(SendClass::RetryAfter, Some(20_429), Some(1));
        assert_eq!(in_place(&asked, next), Some(Duration::from_secs(1)));
        assert_eq!(in_place(&refusal(SendClass::RetryAfter, None, Some(60)), next), None);
    }

    #[test]
    fn a_limit_that_lasts_is_not_repeated_in_place() {
        let next = Some(Duration::from_secs(1));
        assert_eq!(in_place(&refusal(SendClass::RetryAfter, Some(63_018), None), next), None);
    }

    #[test]
    fn what_would_be_refused_again_is_not_repeated() {
        let next = Some(Duration::from_secs(1));
        for class in [SendClass::Permanent, SendClass::OptOut, SendClass::Credentials] {
            assert_eq!(in_place(&refusal(class, None, None), next), None);
        }
    }

    #[test]
    fn there_are_three_repeats_and_no_more() {
        assert_eq!(in_place(&refusal(SendClass::Retry, None, None), None), None);
    }
}

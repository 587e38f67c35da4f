//! From a committed reply to a sent one: pace, mark, post, and settle what nobody knows.
//!
//! Takes an intent, sends its segments in order. A segment is posted only under a fresh mark of
//! its own attempt; a mark of another attempt is settled first, by evidence or by a listing no
//! sooner than 20 s after it. Never posts a segment that may have been sent.

use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::route::route_name;
use kanarie_queue::types::{ConversationId, Intent, Marked, Millis, Reserved, Sending};
use tokio::time::{Instant, sleep, timeout};

use crate::callback::IntentId;
use crate::ends::{self, Outcome};
use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::labels::{DeadLetterClass, SendClass};
use crate::outbound::context::Worker;
use crate::outbound::reply::Reply;
use crate::outbound::turn::{Stale, Work, dead_letter, insist, owned};
use crate::outbound::twilio::classify::{classify_code, is_lasting};
use crate::outbound::twilio::{Account, Create, Created, ListError, Refusal, Wanted};
use crate::random;

/// From the mark to the end of the POST: well under the time after which a mark is settled, so
/// that a POST never comes after the listing that missed it.
const SEND_DEADLINE: Duration = Duration::from_secs(5);
/// From the mark to the listing.
const SETTLE: Duration = Duration::from_secs(20);
/// Pauses between repeats of a POST that was not processed.
const REPEATS: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Pause after those, when Twilio does not name one.
const LATER: Duration = Duration::from_secs(30);
/// Longest pause that Twilio may name.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// How long the record of a sent segment is worth trying for: then a listing finds it.
const RECORD: Duration = Duration::from_secs(30);

/// What came of a segment.
enum Segment {
    Sent,
    /// The head was put back or buried: the turn is over.
    Over,
}

/// What came of a mark.
enum Mark {
    Post,
    Sent,
    Over,
}

impl Work<'_> {
    /// Sends what is left of a reply, then takes the head off.
    pub(crate) async fn deliver(&self, intent: Intent) -> Result<(), Stale> {
        let Ok(reply) = serde_json::from_str::<Reply>(&intent.body) else {
            return self.turn.bury(DeadLetterClass::Unreadable).await;
        };
        let mut resent = intent.resent;
        for (segment, text) in (0_u32..).zip(&reply.segments).skip(intent.sent.len()) {
            let sending = Send { work: self, intent: &intent.id, reply: &reply, segment, text };
            match sending.send(resent).await? {
                Segment::Sent => resent = false,
                Segment::Over => return Ok(()),
            }
        }
        if let Some(class) = reply.failed {
            return self.turn.bury(dead_letter(class)).await;
        }
        owned(self.turn.verb(|store, lease| store.complete(lease, None)).await)?;
        emit(OutboundEvent::Answered { took: self.turn.age() });
        ends::remember(&self.message.sid, Outcome::Answered);
        Ok(())
    }
}

/// One segment on its way.
struct Send<'a> {
    work: &'a Work<'a>,
    intent: &'a str,
    reply: &'a Reply,
    segment: u32,
    text: &'a str,
}

impl Send<'_> {
    async fn send(&self, resent: bool) -> Result<Segment, Stale> {
        let (turn, route) = (self.work.turn, self.work.route);
        if let Some(pause) = turn.worker.holds.wait(route, Instant::now()) {
            turn.wait(pause).await?;
            return Ok(Segment::Over);
        }
        if let Some(busy) = self.pace().await {
            turn.wait(busy).await?;
            return Ok(Segment::Over);
        }
        let attempt = random::token();
        let mut repeats = REPEATS.into_iter();
        loop {
            let deadline = Instant::now() + SEND_DEADLINE;
            match self.mark(&attempt, resent).await? {
                Mark::Post => {}
                Mark::Sent => return Ok(Segment::Sent),
                Mark::Over => return Ok(Segment::Over),
            }
            if !turn.held.is_ours() {
                return Err(Stale);
            }
            let refusal = match self.post(deadline).await {
                Created::Sent(_) => {
                    turn.worker.holds.accept(route);
                    return Ok(Segment::Sent);
                }
                // The mark stays: whoever claims the head next settles it.
                Created::Unknown { .. } => {
                    turn.put_back(SETTLE, false).await?;
                    return Ok(Segment::Over);
                }
                Created::Refused(refusal) => refusal,
            };
            match in_place(&refusal, repeats.next()) {
                Some(pause) => sleep(pause).await,
                None => {
                    self.refused(&attempt, refusal).await?;
                    return Ok(Segment::Over);
                }
            }
        }
    }

    /// Waits for the sender's pace; gives the pause when it is booked out.
    async fn pace(&self) -> Option<Duration> {
        let route = self.work.route;
        // A hash, so that no number stands in the name of a key.
        let sender = route_name(&route.account_sid, &route.sender);
        let rate = route.limits.outbound_per_second;
        let store = &self.work.turn.worker.ctx.store;
        match insist(|| store.reserve(sender.clone(), rate)).await {
            Reserved::After(0) => None,
            Reserved::After(pause_ms) => {
                sleep(Duration::from_millis(pause_ms)).await;
                None
            }
            Reserved::Busy(pause_ms) => Some(Duration::from_millis(pause_ms)),
        }
    }

    /// Marks the segment for `attempt`, settling a mark of another attempt first.
    async fn mark(&self, attempt: &str, resent: bool) -> Result<Mark, Stale> {
        let turn = self.work.turn;
        let (sending, attributed, now) = match self.mark_for(attempt, None).await {
            Marked::Go => return Ok(Mark::Post),
            Marked::Sent => return Ok(Mark::Sent),
            Marked::Stale => return Err(Stale),
            Marked::Ambiguous { sending, attributed, now } => (sending, attributed, now),
        };
        let young = SETTLE.saturating_sub(Duration::from_millis(now.saturating_sub(sending.at)));
        if !young.is_zero() {
            turn.put_back(young, false).await?;
            return Ok(Mark::Over);
        }
        match self.find(&attributed, sending.at).await {
            Ok(Some(sid)) => {
                let conversation = turn.claim.conversation.clone();
                record(&turn.worker, conversation, self.intent, self.segment, sid).await;
                Ok(Mark::Sent)
            }
            Ok(None) if resent => {
                turn.bury(DeadLetterClass::Unknown).await?;
                Ok(Mark::Over)
            }
            Ok(None) => self.replace(attempt, sending).await,
            Err(error) => {
                emit(OutboundEvent::ListFailed { error: error.to_string() });
                match error {
                    // Like a refused send: it waits for other credentials, however long.
                    ListError::Credentials => {
                        self.hold(None);
                        turn.wait(LATER).await?;
                    }
                    ListError::Unavailable => {
                        turn.wait_for(DeadLetterClass::Unknown, LATER).await?;
                    }
                }
                Ok(Mark::Over)
            }
        }
    }

    /// Puts our mark in the place of one that a listing refuted.
    async fn replace(&self, attempt: &str, refuted: Sending) -> Result<Mark, Stale> {
        match self.mark_for(attempt, Some(refuted.attempt)).await {
            Marked::Go => Ok(Mark::Post),
            Marked::Sent => Ok(Mark::Sent),
            Marked::Stale => Err(Stale),
            // Somebody else's mark came in between; the next claim looks at that one.
            Marked::Ambiguous { .. } => {
                self.work.turn.put_back(SETTLE, false).await?;
                Ok(Mark::Over)
            }
        }
    }

    async fn mark_for(&self, attempt: &str, expected: Option<String>) -> Marked {
        let (intent, segment) = (self.intent, self.segment);
        let mark = self.work.turn.verb(|store, lease| {
            let expected = expected.clone();
            store.mark_sending(lease, intent.to_owned(), segment, attempt.to_owned(), expected)
        });
        mark.await
    }

    async fn find(
        &self,
        attributed: &[String],
        marked_at: Millis,
    ) -> Result<Option<String>, ListError> {
        let (route, message) = (self.work.route, self.work.message);
        let account = Account { sid: &route.account_sid, credentials: &route.credentials };
        let (from, to, body) = (&route.sender, &message.customer, self.text);
        let wanted = Wanted { from, to, body, marked_at, attributed };
        self.work.turn.worker.ctx.twilio.find(account, &wanted).await
    }

    /// Posts, and records the SID. Once begun it goes on even when the turn is cut off: what it
    /// learns is worth more than the turn.
    async fn post(&self, deadline: Instant) -> Created {
        let (turn, route) = (self.work.turn, self.work.route);
        let worker = Arc::clone(&turn.worker);
        let conversation = turn.claim.conversation.clone();
        let (intent, segment) = (self.intent.to_owned(), self.segment);
        let id = IntentId { conversation: conversation.clone(), intent: intent.clone(), segment };
        let callback = route.webhook_urls.first().map(|url| id.callback_url(url));
        let (account, credentials) = (route.account_sid.clone(), route.credentials.clone());
        let (from, to) = (route.sender.clone(), self.work.message.customer.clone());
        let (text, reply) = (self.text.to_owned(), self.reply.clone());
        let post = async move {
            let message = Create {
                from: &from,
                to: &to,
                body: &text,
                status_callback: callback.as_deref(),
                validity_seconds: reply.validity_seconds,
                messaging_service_sid: reply.messaging_service_sid.as_deref(),
            };
            let account = Account { sid: &account, credentials: &credentials };
            let created = worker.ctx.twilio.create(account, &message, deadline).await;
            let (refused, code) = (created.refused(), created.code());
            let known = code.is_some_and(|code| classify_code(code).is_some());
            emit(OutboundEvent::Posted { refused, code, known });
            if let Created::Sent(sid) = &created {
                record(&worker, conversation, &intent, segment, sid.clone()).await;
            }
            created
        };
        tokio::spawn(post).await.unwrap_or(Created::Unknown { status: None })
    }

    /// What to do about a refusal that is not repeated in place.
    async fn refused(&self, attempt: &str, refusal: Refusal) -> Result<(), Stale> {
        let turn = self.work.turn;
        let (intent, segment) = (self.intent, self.segment);
        let unmark = turn.verb(|store, lease| {
            store.unmark(lease, intent.to_owned(), segment, attempt.to_owned())
        });
        owned(unmark.await)?;
        let later = refusal.retry_after.unwrap_or(LATER).min(LONGEST_PAUSE);
        match refusal.class {
            SendClass::Retry | SendClass::RetryAfter => {
                turn.wait_for(DeadLetterClass::NotAccepted, later).await
            }
            SendClass::Credentials => {
                self.hold(refusal.code);
                turn.wait(LATER).await
            }
            SendClass::OptOut => turn.bury(DeadLetterClass::OptOut).await,
            SendClass::NeedsTemplate => turn.bury(DeadLetterClass::NeedsTemplate).await,
            // A refusal is never of the class unknown: that is an outcome of its own.
            SendClass::Permanent | SendClass::Unknown => {
                turn.bury(DeadLetterClass::Permanent).await
            }
        }
    }

    fn hold(&self, code: Option<u32>) {
        let route = self.work.route;
        if self.work.turn.worker.holds.refuse(route, Instant::now()) {
            let channel = format!("{}/{}", route.channel.namespace, route.channel.name);
            emit(OutboundEvent::CredentialsRefused { channel, code });
        }
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

/// Records what is known to be sent; gives up in time, for a listing finds it as well.
async fn record(
    worker: &Worker,
    conversation: ConversationId,
    intent: &str,
    segment: u32,
    sid: String,
) {
    let store = &worker.ctx.store;
    let mark =
        insist(|| store.mark_sent(conversation.clone(), intent.to_owned(), segment, sid.clone()));
    let _ = timeout(RECORD, mark).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::in_place;
    use crate::labels::SendClass;
    use crate::outbound::twilio::Refusal;

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

//! The listing of an account's messages, read for the one that may have been created.
//!
//! Takes pages, newest message first, gives the SID that is wanted. Numbers are compared by their
//! plan, and ages by Twilio's own clock as far as it tells it. Never takes a message that belongs to
//! another segment, nor one from before the mark.

use kanarie_queue::clock::STANDS_MS;
use kanarie_words::Millis;
use kanarie_words::ids::MessageSid;
use reqwest::Response;
use serde::Deserialize;

use crate::outbound::twilio::body;
use crate::outbound::twilio::number;

/// Most bytes that are read of a page.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// A message is taken for ours when it is at most so much older than the mark: Twilio's clock has a
/// resolution of a second, a proxy may tell another time than it, and the store's time may have stood
/// still while that clock went on.
const CLOCK_SLACK_MS: Millis = 60_000 + STANDS_MS;

/// A message that may have been created.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The channel's sender.
    pub from: &'a str,
    /// The customer.
    pub to: &'a str,
    /// The segment.
    pub body: &'a str,
    /// When its POST was marked, on the store's clock.
    pub marked_at: Millis,
    /// What that clock says now.
    pub now: Millis,
    /// SIDs that belong to other segments.
    pub attributed: &'a [MessageSid],
}

/// Why a listing says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Twilio does not accept the credentials.
    #[error("Twilio refuses to list messages with these credentials: check the account's Secret")]
    Credentials,
    /// Nothing usable came back.
    #[error("Twilio does not list messages at present")]
    Unavailable,
}

/// One page.
#[derive(Deserialize)]
pub(crate) struct Page {
    messages: Vec<Listed>,
    #[serde(default)]
    next_page_uri: Option<String>,
    /// Twilio's clock when it answered.
    #[serde(skip)]
    pub(crate) date: Option<Millis>,
}

#[derive(Deserialize)]
struct Listed {
    sid: MessageSid,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    date_created: Option<String>,
}

/// What a page says.
pub(crate) enum Found {
    /// The wanted message has this SID.
    Sid(MessageSid),
    /// It is not listed: what follows is older than its mark.
    Older,
    /// It may follow.
    NotYet,
}

impl Page {
    /// Reads the answer to a listing.
    pub(crate) async fn read(mut response: Response) -> Result<Self, ListError> {
        match response.status().as_u16() {
            200 => {}
            401 | 403 => return Err(ListError::Credentials),
            _ => return Err(ListError::Unavailable),
        }
        let date = response.headers().get("date").and_then(|date| unix_millis(date.to_str().ok()?));
        let body = body::read(&mut response, MAX_BYTES).await.ok_or(ListError::Unavailable)?;
        let page = serde_json::from_slice(&body).map_err(|_| ListError::Unavailable)?;
        Ok(Self { date, ..page })
    }

    /// Where the next page is, if there is one.
    pub(crate) fn next(&self) -> Option<&str> {
        self.next_page_uri.as_deref().filter(|next| !next.is_empty())
    }
}

impl Wanted<'_> {
    /// The time, on Twilio's clock, before which a message is not ours. `date` is that clock when the
    /// first page came.
    pub(crate) fn oldest(&self, date: Option<Millis>) -> Millis {
        let marked_at = match date {
            Some(date) => date.saturating_sub(self.now.saturating_sub(self.marked_at)),
            None => self.marked_at,
        };
        marked_at.saturating_sub(CLOCK_SLACK_MS)
    }

    /// Looks through one page, newest first.
    pub(crate) fn look_through(&self, page: &Page, oldest: Millis) -> Found {
        for message in &page.messages {
            // A date that cannot be read proves nothing: it neither ends the search nor rules the
            // message out.
            let created_at = message.date_created.as_deref().and_then(unix_millis);
            if created_at.is_some_and(|at| at < oldest) {
                return Found::Older;
            }
            if self.is(message) && !self.attributed.contains(&message.sid) {
                return Found::Sid(message.sid.clone());
            }
        }
        Found::NotYet
    }

    fn is(&self, message: &Listed) -> bool {
        let is_of = |wanted: &str, listed: &Option<String>| {
            listed.as_deref().is_some_and(|listed| number::is_same(wanted, listed))
        };
        is_of(self.from, &message.from)
            && is_of(self.to, &message.to)
            && message.body.as_deref().is_some_and(|body| body.trim() == self.body.trim())
    }
}

fn unix_millis(date: &str) -> Option<Millis> {
    let time = jiff::fmt::rfc2822::parse(date).ok()?;
    Millis::try_from(time.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::{Found, Listed, MessageSid, Millis, Page, Wanted, unix_millis};

    /// 18 November 2025, 10:00:00 UTC.
    const MARKED_AT: u64 = 1_763_460_000_000;
    const IN_TIME: &str = "Tue, 18 Nov 2025 10:00:01 +0000";

    fn listed(sid: &str, date: &str) -> Listed {
        Listed {
            sid: sid.parse().unwrap(),
            from: Some("whatsapp:+1".to_owned()),
            to: Some("whatsapp:+2".to_owned()),
            body: Some("Hallo".to_owned()),
            date_created: Some(date.to_owned()),
        }
    }

    fn wanted<'a>(to: &'a str, attributed: &'a [MessageSid]) -> Wanted<'a> {
        let (marked_at, now) = (MARKED_AT, MARKED_AT + 20_000);
        Wanted { from: "whatsapp:+1", to, body: "Hallo", marked_at, now, attributed }
    }

    fn found_at(date: Option<Millis>, messages: Vec<Listed>, wanted: Wanted<'_>) -> Option<String> {
        let page = Page { messages, next_page_uri: None, date };
        match wanted.look_through(&page, wanted.oldest(page.date)) {
            Found::Sid(sid) => Some(sid.to_string()),
            Found::Older | Found::NotYet => None,
        }
    }

    fn found(messages: Vec<Listed>, attributed: &[&str]) -> Option<String> {
        let attributed: Vec<_> = attributed.iter().map(|sid| sid.parse().unwrap()).collect();
        found_at(None, messages, wanted("whatsapp:+2", &attributed))
    }

    #[test]
    fn the_dates_of_twilio_are_read() {
        assert_eq!(unix_millis("Tue, 18 Nov 2025 10:00:00 +0000"), Some(MARKED_AT));
        assert_eq!(unix_millis("Tue, 18 Nov 2025 10:00:00 GMT"), Some(MARKED_AT));
    }

    #[test]
    fn a_message_of_the_mark_s_time_is_found() {
        assert_eq!(found(vec![listed("SM1", IN_TIME)], &[]).as_deref(), Some("SM1"));
    }

    #[test]
    fn a_message_that_is_listed_in_another_notation_is_found() {
        let elsewhere =
            Listed { to: Some("whatsapp:+525512345678".to_owned()), ..listed("SM1", IN_TIME) };
        let wanted = wanted("whatsapp:+5215512345678", &[]);
        assert_eq!(found_at(None, vec![elsewhere], wanted).as_deref(), Some("SM1"));
    }

    #[test]
    fn an_identical_message_of_another_segment_is_not_taken() {
        let both =
            || vec![listed("SM2", "Tue, 18 Nov 2025 10:00:03 +0000"), listed("SM1", IN_TIME)];
        assert_eq!(found(both(), &["SM2"]).as_deref(), Some("SM1"));
        assert_eq!(found(both(), &["SM1", "SM2"]), None);
    }

    #[test]
    fn an_identical_message_from_before_the_mark_is_not_taken() {
        assert_eq!(found(vec![listed("SM1", "Tue, 18 Nov 2025 09:57:59 +0000")], &[]), None);
    }

    #[test]
    fn a_clock_that_is_two_minutes_ahead_of_twilio_s_hides_nothing() {
        // The mark was set twenty seconds ago, at 09:58:00 on Twilio's clock.
        let date = Some(MARKED_AT - 120_000 + 20_000);
        let message = || vec![listed("SM1", "Tue, 18 Nov 2025 09:58:01 +0000")];
        assert_eq!(found_at(date, message(), wanted("whatsapp:+2", &[])).as_deref(), Some("SM1"));
        let older = vec![listed("SM1", "Tue, 18 Nov 2025 09:55:59 +0000")];
        assert_eq!(found_at(date, older, wanted("whatsapp:+2", &[])), None);
    }

    #[test]
    fn a_store_whose_time_stood_still_for_a_minute_hides_nothing() {
        // Twilio's clock went on for 81 seconds since the mark, the store's for 20.
        let date = Some(MARKED_AT + 81_000);
        let message = vec![listed("SM1", "Tue, 18 Nov 2025 10:00:00 +0000")];
        assert_eq!(found_at(date, message, wanted("whatsapp:+2", &[])).as_deref(), Some("SM1"));
    }

    #[test]
    fn another_text_or_another_customer_is_not_taken() {
        let other_text = Listed { body: Some("Hoi".to_owned()), ..listed("SM1", IN_TIME) };
        let other_customer =
            Listed { to: Some("whatsapp:+3".to_owned()), ..listed("SM1", IN_TIME) };
        assert_eq!(found(vec![other_text, other_customer], &[]), None);
    }
}

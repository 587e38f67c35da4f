//! Twilio's Messages API: create a message, find one that may have been created.
//!
//! Takes one segment with everything needed to send it and a deadline, gives what is known about
//! it afterwards: its SID, a refusal with its class, or that nobody knows. Never repeats a call,
//! never follows a redirect, never waits beyond the deadline, and never puts a number, a text or a
//! URL into an error.

pub mod classify;

use std::time::Duration;

use kanarie_crds::route::Credentials;
use kanarie_queue::types::Millis;
use reqwest::{Client, Method, RequestBuilder, Response, redirect, retry};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::labels::SendClass;
use crate::outbound::twilio::classify::classify;

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for one page of a listing.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes that are read of the answer to a create.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Most bytes that are read of a page of a listing.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Messages on a page, and pages that are read: a customer never gets so many replies in the time
/// that a listing looks back.
const PAGE_SIZE: &str = "50";
const MAX_PAGES: usize = 20;
/// A message is taken for ours when Twilio says that it is at most so much older than the mark:
/// two clocks are compared, and Twilio's has a resolution of a second.
const CLOCK_SLACK_MS: Millis = 60_000;

/// The client of one Messages API.
#[derive(Clone, Debug)]
pub struct Twilio {
    client: Client,
    base: Url,
}

/// Whose account a call is made for.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// `AC…`.
    pub sid: &'a str,
    /// Its secrets: the API key if there is one, else the auth token.
    pub credentials: &'a Credentials,
}

/// A message to create.
#[derive(Clone, Copy, Debug)]
pub struct Create<'a> {
    /// The channel's sender.
    pub from: &'a str,
    /// The customer.
    pub to: &'a str,
    /// The segment.
    pub body: &'a str,
    /// Where Twilio reports what becomes of it.
    pub status_callback: Option<&'a str>,
    /// Seconds after which it may no longer be delivered.
    pub validity_seconds: u32,
    /// Messaging Service that sends it.
    pub messaging_service_sid: Option<&'a str>,
}

/// What is known after a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It exists, with this SID.
    Sent(String),
    /// It was refused, or never reached Twilio.
    Refused(Refusal),
    /// It may exist.
    Unknown {
        /// The status that came, if one did.
        status: Option<u16>,
    },
}

/// Why a message does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to do about it.
    pub class: SendClass,
    /// Twilio's error code.
    pub code: Option<u32>,
    /// What the header Retry-After asks for.
    pub retry_after: Option<Duration>,
}

/// A message that may have been created.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The channel's sender.
    pub from: &'a str,
    /// The customer.
    pub to: &'a str,
    /// The segment.
    pub body: &'a str,
    /// When its POST was marked, Unix milliseconds.
    pub marked_at: Millis,
    /// SIDs that belong to other segments.
    pub attributed: &'a [String],
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

impl Twilio {
    /// A client for the API at `base`, `https://api.twilio.com` outside of tests.
    pub fn new(base: Url) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .build()
            .map_err(reqwest::Error::without_url)?;
        Ok(Self { client, base })
    }

    /// Creates a message, unless `deadline` has passed: then it was refused as not processed.
    pub async fn create(
        &self,
        account: Account<'_>,
        message: &Create<'_>,
        deadline: Instant,
    ) -> Created {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Created::Refused(Refusal::not_processed());
        }
        let Some(request) = self.messages(Method::POST, account) else {
            return Created::Refused(Refusal::of(SendClass::Permanent));
        };
        let sent = request.form(&message.form()).timeout(left).send().await;
        match sent {
            Ok(response) => created(response).await,
            Err(error) if error.is_connect() || error.is_builder() => {
                Created::Refused(Refusal::not_processed())
            }
            Err(_) => Created::Unknown { status: None },
        }
    }

    /// The SID of the newest message that is `wanted`, none when no such message is listed.
    pub async fn find(
        &self,
        account: Account<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Option<String>, ListError> {
        let mut request = self
            .messages(Method::GET, account)
            .ok_or(ListError::Unavailable)?
            .query(&[("To", wanted.to), ("From", wanted.from), ("PageSize", PAGE_SIZE)]);
        for _ in 0..MAX_PAGES {
            let page = list(request).await?;
            match wanted.look_through(&page.messages) {
                Found::Sid(sid) => return Ok(Some(sid)),
                Found::Older => return Ok(None),
                Found::NotYet => {}
            }
            let Some(next) = page.next_page_uri.filter(|next| !next.is_empty()) else {
                return Ok(None);
            };
            let next = self.same_origin(&next).ok_or(ListError::Unavailable)?;
            request = authenticated(self.client.get(next), account);
        }
        Err(ListError::Unavailable)
    }

    fn messages(&self, method: Method, account: Account<'_>) -> Option<RequestBuilder> {
        let mut url = self.base.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend([
            "2010-04-01",
            "Accounts",
            account.sid,
            "Messages.json",
        ]);
        Some(authenticated(self.client.request(method, url), account))
    }

    /// Credentials go to the configured host only, whatever a page names as the next one.
    fn same_origin(&self, next: &str) -> Option<Url> {
        let next = self.base.join(next).ok()?;
        (next.origin() == self.base.origin()).then_some(next)
    }
}

impl Create<'_> {
    fn form(&self) -> Vec<(&'static str, String)> {
        let mut form = vec![
            ("To", self.to.to_owned()),
            ("From", self.from.to_owned()),
            ("Body", self.body.to_owned()),
            ("ValidityPeriod", self.validity_seconds.to_string()),
        ];
        let optional = [
            ("StatusCallback", self.status_callback),
            ("MessagingServiceSid", self.messaging_service_sid),
        ];
        form.extend(
            optional.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))),
        );
        form
    }
}

impl Created {
    /// Why it does not surely exist; none when it does.
    pub fn refused(&self) -> Option<SendClass> {
        match self {
            Self::Sent(_) => None,
            Self::Refused(refusal) => Some(refusal.class),
            Self::Unknown { .. } => Some(SendClass::Unknown),
        }
    }

    /// Twilio's error code, if it gave one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Sent(_) | Self::Unknown { .. } => None,
        }
    }
}

impl Refusal {
    fn of(class: SendClass) -> Self {
        Self { class, code: None, retry_after: None }
    }

    fn not_processed() -> Self {
        Self::of(SendClass::Retry)
    }
}

fn authenticated(request: RequestBuilder, account: Account<'_>) -> RequestBuilder {
    match &account.credentials.api_key {
        Some(key) => request.basic_auth(&key.sid, Some(key.secret.expose())),
        None => request.basic_auth(account.sid, Some(account.credentials.auth_token.expose())),
    }
}

async fn created(mut response: Response) -> Created {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let body = read(&mut response, MAX_ANSWER_BYTES).await;
    if (200..300).contains(&status) {
        let sid = body.and_then(|body| serde_json::from_slice::<Message>(&body).ok());
        return match sid {
            Some(message) => Created::Sent(message.sid),
            None => Created::Unknown { status: Some(status) },
        };
    }
    let code = body
        .and_then(|body| serde_json::from_slice::<ApiError>(&body).ok())
        .and_then(|error| error.code);
    match classify(status, code) {
        SendClass::Unknown => Created::Unknown { status: Some(status) },
        class => Created::Refused(Refusal { class, code, retry_after }),
    }
}

async fn list(request: RequestBuilder) -> Result<Page, ListError> {
    let sent = request.timeout(LIST_TIMEOUT).send().await;
    let mut response = sent.map_err(|_| ListError::Unavailable)?;
    match response.status().as_u16() {
        200 => {}
        401 | 403 => return Err(ListError::Credentials),
        _ => return Err(ListError::Unavailable),
    }
    let body = read(&mut response, MAX_PAGE_BYTES).await.ok_or(ListError::Unavailable)?;
    serde_json::from_slice(&body).map_err(|_| ListError::Unavailable)
}

/// The body, unless it breaks off or has more than `most` bytes.
async fn read(response: &mut Response, most: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > most {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
    #[serde(default)]
    next_page_uri: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    sid: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    date_created: Option<String>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: Option<u32>,
}

enum Found {
    Sid(String),
    Older,
    NotYet,
}

impl Wanted<'_> {
    /// Looks through one page, newest first.
    fn look_through(&self, messages: &[Message]) -> Found {
        let oldest = self.marked_at.saturating_sub(CLOCK_SLACK_MS);
        for message in messages {
            // A date that cannot be read proves nothing: it neither ends the search nor rules the
            // message out.
            let created_at = message.date_created.as_deref().and_then(unix_millis);
            if created_at.is_some_and(|at| at < oldest) {
                return Found::Older;
            }
            let same = message.from.as_deref() == Some(self.from)
                && message.to.as_deref() == Some(self.to)
                && message.body.as_deref().is_some_and(|body| body.trim() == self.body.trim());
            if same && !self.attributed.contains(&message.sid) {
                return Found::Sid(message.sid.clone());
            }
        }
        Found::NotYet
    }
}

fn unix_millis(date: &str) -> Option<Millis> {
    let time = jiff::fmt::rfc2822::parse(date).ok()?;
    Millis::try_from(time.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::{Found, Message, Wanted, unix_millis};

    /// 18 November 2025, 10:00:00 UTC.
    const MARKED_AT: u64 = 1_763_460_000_000;

    fn message(sid: &str, date: &str) -> Message {
        Message {
            sid: sid.to_owned(),
            from: Some("whatsapp:+1".to_owned()),
            to: Some("whatsapp:+2".to_owned()),
            body: Some("Hallo".to_owned()),
            date_created: Some(date.to_owned()),
        }
    }

    fn found(messages: &[Message], attributed: &[String]) -> Option<String> {
        let wanted = Wanted {
            from: "whatsapp:+1",
            to: "whatsapp:+2",
            body: "Hallo",
            marked_at: MARKED_AT,
            attributed,
        };
        match wanted.look_through(messages) {
            Found::Sid(sid) => Some(sid),
            Found::Older | Found::NotYet => None,
        }
    }

    #[test]
    fn the_dates_of_twilio_are_read() {
        assert_eq!(unix_millis("Tue, 18 Nov 2025 10:00:00 +0000"), Some(MARKED_AT));
    }

    #[test]
    fn a_message_of_the_mark_s_time_is_found() {
        let listed = [message("SM1", "Tue, 18 Nov 2025 10:00:01 +0000")];
        assert_eq!(found(&listed, &[]).as_deref(), Some("SM1"));
    }

    #[test]
    fn an_identical_message_of_another_segment_is_not_taken() {
        let listed = [
            message("SM2", "Tue, 18 Nov 2025 10:00:03 +0000"),
            message("SM1", "Tue, 18 Nov 2025 10:00:01 +0000"),
        ];
        assert_eq!(found(&listed, &["SM2".to_owned()]).as_deref(), Some("SM1"));
        assert_eq!(found(&listed, &["SM1".to_owned(), "SM2".to_owned()]), None);
    }

    #[test]
    fn an_identical_message_from_before_the_mark_is_not_taken() {
        let listed = [message("SM1", "Tue, 18 Nov 2025 09:58:59 +0000")];
        assert_eq!(found(&listed, &[]), None);
    }

    #[test]
    fn another_text_or_another_customer_is_not_taken() {
        let other_text = Message {
            body: Some("Hoi".to_owned()),
            ..message("SM1", "Tue, 18 Nov 2025 10:00:01 +0000")
        };
        let other_customer = Message {
            to: Some("whatsapp:+3".to_owned()),
            ..message("SM1", "Tue, 18 Nov 2025 10:00:01 +0000")
        };
        assert_eq!(found(&[other_text, other_customer], &[]), None);
    }
}

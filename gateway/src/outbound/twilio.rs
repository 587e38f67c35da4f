//! Twilio's Messages API: create a message, find one that may have been created.
//!
//! Takes one segment with everything needed to send it and a deadline, gives what is known about
//! it afterwards: its SID, a refusal with its class, or that nobody knows. A create is repeated only
//! when its last byte never left, a listing once when its connection broke. Never follows a redirect,
//! never waits beyond the deadline, and never puts a number, a text or a URL into an error.

pub(crate) mod body;
pub mod classify;
pub mod create;
pub(crate) mod kept;
pub mod listing;
pub mod number;

use std::sync::Arc;
use std::time::Duration;

use kanarie_crds::route::Credentials;
use kanarie_words::ids::MessageSid;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Client, RequestBuilder, redirect, retry};
use tokio::time::Instant;
use url::Url;

use crate::labels::SendClass;
use crate::outbound::twilio::body::{HeldBack, LastByte};
use crate::outbound::twilio::create::{Create, Created};
use crate::outbound::twilio::kept::{Kept, LONGEST_IDLE};
use crate::outbound::twilio::listing::{Found, ListError, Page, Wanted};

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for one page of a listing.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a create whose connection was closed before its end is made again at once: by then
/// the client has noticed the other connections that were closed with it.
const AGAIN: usize = 3;
/// Messages on a page, and pages that are read: a customer never gets so many replies in the time
/// that a listing looks back.
const PAGE_SIZE: &str = "50";
const MAX_PAGES: usize = 20;

/// The client of one Messages API.
#[derive(Clone, Debug)]
pub struct Twilio {
    client: Client,
    base: Url,
    kept: Arc<Kept>,
}

/// Whose account a call is made for.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// `AC…`.
    pub sid: &'a str,
    /// Its secrets: the API key if there is one, else the auth token.
    pub credentials: &'a Credentials,
}

impl Twilio {
    /// A client for the API at `base`, `https://api.twilio.com` outside of tests.
    pub fn new(base: Url) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(LONGEST_IDLE)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .build()
            .map_err(reqwest::Error::without_url)?;
        Ok(Self { client, base, kept: Arc::default() })
    }

    /// Creates a message, unless `deadline` has passed: then it was refused as not processed.
    pub async fn create(
        &self,
        account: Account<'_>,
        message: &Create<'_>,
        deadline: Instant,
    ) -> Created {
        let Some(url) = self.messages(account) else {
            return Created::refusal(SendClass::Permanent);
        };
        let form = message.form();
        let mut again = AGAIN;
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Created::not_processed();
            }
            let last_byte = LastByte::default();
            let body = HeldBack::new(form.clone().into(), self.kept.begin(now), last_byte.clone());
            let request = authenticated(self.client.post(url.clone()), account)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::wrap(body))
                .timeout(deadline - now);
            match request.send().await {
                Ok(response) => return self.answered(now, Created::read(response)).await,
                Err(_) if last_byte.left() => return Created::Unknown { status: None },
                Err(error) if error.is_connect() || error.is_timeout() || again == 0 => {
                    return Created::not_processed();
                }
                // The other end had closed this connection, and says so only now.
                Err(_) => again -= 1,
            }
        }
    }

    /// The SID of the newest message that is `wanted`, none when no such message is listed: neither
    /// under the number that it was sent to nor under another notation of it.
    pub async fn find(
        &self,
        account: Account<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Option<MessageSid>, ListError> {
        for to in number::notations(wanted.to) {
            if let Some(sid) = self.find_under(account, wanted, &to).await? {
                return Ok(Some(sid));
            }
        }
        Ok(None)
    }

    /// The same, of the messages that are listed under one notation. The sender is no part of the
    /// question: its notation may be another one as well.
    async fn find_under(
        &self,
        account: Account<'_>,
        wanted: &Wanted<'_>,
        to: &str,
    ) -> Result<Option<MessageSid>, ListError> {
        let mut url = self.messages(account).ok_or(ListError::Unavailable)?;
        url.query_pairs_mut().append_pair("To", to).append_pair("PageSize", PAGE_SIZE);
        let mut oldest = None;
        for _ in 0..MAX_PAGES {
            let page = self.list(account, &url).await?;
            let oldest = *oldest.get_or_insert_with(|| wanted.oldest(page.date));
            match wanted.look_through(&page, oldest) {
                Found::Sid(sid) => return Ok(Some(sid)),
                Found::Older => return Ok(None),
                Found::NotYet => {}
            }
            let Some(next) = page.next() else { return Ok(None) };
            url = self.same_origin(next).ok_or(ListError::Unavailable)?;
        }
        Err(ListError::Unavailable)
    }

    /// One page. A connection that broke before the answer is worth another: a listing changes
    /// nothing.
    async fn list(&self, account: Account<'_>, url: &Url) -> Result<Page, ListError> {
        let mut again = true;
        loop {
            let now = Instant::now();
            self.kept.begin(now);
            let request = authenticated(self.client.get(url.clone()), account);
            match request.timeout(LIST_TIMEOUT).send().await {
                Ok(response) => return self.answered(now, Page::read(response)).await,
                Err(error) if again && error.is_request() && !error.is_timeout() => again = false,
                Err(_) => return Err(ListError::Unavailable),
            }
        }
    }

    /// Reads an answer to a call that was begun at `began`; then its connection is idle.
    async fn answered<T>(&self, began: Instant, read: impl Future<Output = T>) -> T {
        let took = began.elapsed();
        let read = read.await;
        self.kept.answered(took, Instant::now());
        read
    }

    fn messages(&self, account: Account<'_>) -> Option<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend([
            "2010-04-01",
            "Accounts",
            account.sid,
            "Messages.json",
        ]);
        Some(url)
    }

    /// Credentials go to the configured host only, whatever a page names as the next one.
    fn same_origin(&self, next: &str) -> Option<Url> {
        let next = self.base.join(next).ok()?;
        (next.origin() == self.base.origin()).then_some(next)
    }
}

fn authenticated(request: RequestBuilder, account: Account<'_>) -> RequestBuilder {
    match &account.credentials.api_key {
        Some(key) => request.basic_auth(&key.sid, Some(key.secret.expose())),
        None => request.basic_auth(account.sid, Some(account.credentials.auth_token.expose())),
    }
}

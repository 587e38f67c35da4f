//! A fake Twilio: the Messages API, its listing and its status callbacks, with faults on demand.
//!
//! Takes accounts with their secrets; remembers every message that it accepted, and finds the
//! replies that were sent twice or out of order. Never reaches any address but the one that
//! callbacks are to go to.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::asked::{basic_auth, date_matches};
use crate::customer;
use crate::server::{Server, loopback};
use crate::signer::{self, Form};

/// A message that Twilio accepted from the gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// Its SID.
    pub sid: String,
    /// Account that sent it.
    pub account: String,
    /// The WhatsApp sender.
    pub from: String,
    /// The customer.
    pub to: String,
    /// The text.
    pub body: String,
    /// `StatusCallback`, if there was one.
    pub status_callback: Option<String>,
    /// When it was accepted.
    pub at: Timestamp,
    /// The same on a clock that only goes forward, to measure by.
    #[serde(skip)]
    pub arrived: Instant,
    /// Every parameter of the request.
    #[serde(skip)]
    pub form: Form,
}

/// A status callback that the gateway answered.
#[derive(Clone, Debug)]
pub struct Reported {
    /// SID of the message.
    pub sid: String,
    /// Its `MessageStatus`.
    pub status: &'static str,
    /// When it was posted.
    pub at: Instant,
    /// HTTP status of the gateway's answer.
    pub answer: u16,
}

/// What goes wrong with one request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused with an HTTP status and an error code of Twilio's; nothing is sent.
    Refuse(u16, u32),
    /// Sent, but the answer is 500.
    FailAfterAccepting,
    /// Not sent, and the connection ends without an answer.
    DropBeforeAccepting,
    /// Sent, and the connection ends without an answer.
    DropAfterAccepting,
}

/// How a fake Twilio behaves; it can be changed while it runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Time that each request takes.
    pub latency: Duration,
    /// How late an accepted message shows up in the listing.
    pub listing_lag: Duration,
    /// Where the gateway listens, host and port; without it no status callback is sent.
    pub callbacks_to: Option<String>,
    /// How late the first callback about a message comes.
    pub callback_lag: Duration,
    /// The code with which every accepted message turns out to be undelivered; none delivers.
    pub undelivered: Option<u32>,
    /// Whether the listing answers at all.
    pub listing_away: bool,
    /// What the account says of itself; none is `active`.
    pub account_status: Option<&'static str>,
    /// Whether nobody has the right to list messages.
    pub forbids_listing: bool,
    /// A number's beginning, and what the listing has in its place: `+52` and `+521`.
    pub listed_as: Option<(&'static str, &'static str)>,
}

/// A running fake Twilio.
#[derive(Debug)]
pub struct FakeTwilio {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Secrets by their user: an account with its auth token, or an API key.
    credentials: Mutex<BTreeMap<String, String>>,
    settings: Mutex<Settings>,
    faults: Mutex<VecDeque<Fault>>,
    sent: Mutex<Vec<Sent>>,
    /// How many of them there are; whoever waits for more is woken.
    accepted: watch::Sender<usize>,
    requests: Mutex<u64>,
    /// How often an account was asked about itself.
    checks: Mutex<u64>,
    callbacks: Mutex<Vec<Reported>>,
    client: reqwest::Client,
}

impl FakeTwilio {
    /// Starts one on a free port that knows these accounts.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(accounts: &[&customer::Account]) -> Result<Self> {
        Self::start_at(loopback(), accounts).await
    }

    /// Starts one at an address.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start_at(address: SocketAddr, accounts: &[&customer::Account]) -> Result<Self> {
        let credentials = accounts.iter().map(|a| (a.sid.clone(), a.token.clone())).collect();
        let shared = Arc::new(Shared {
            credentials: Mutex::new(credentials),
            settings: Mutex::default(),
            faults: Mutex::default(),
            sent: Mutex::default(),
            accepted: watch::Sender::new(0),
            requests: Mutex::default(),
            checks: Mutex::default(),
            callbacks: Mutex::default(),
            client: http_client()?,
        });
        let router = Router::new()
            .route("/2010-04-01/Accounts/{account}", get(show_account))
            .route("/2010-04-01/Accounts/{account}/Messages.json", post(create).get(list))
            .route("/2010-04-01/Accounts/{account}/Messages/{sid}", get(fetch))
            .route("/fake/sent", get(show))
            .with_state(Arc::clone(&shared));
        Ok(Self { server: Server::start(address, router).await?, shared })
    }

    /// The URL for `--twilio-api-url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.shared.settings));
    }

    /// Lets the next requests to send go wrong, one fault each.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.shared.faults).extend(faults);
    }

    /// Accepts this user with this secret; another secret is refused from now on.
    pub fn set_credential(&self, user: &str, secret: &str) {
        lock(&self.shared.credentials).insert(user.to_owned(), secret.to_owned());
    }

    /// Everything that it accepted, in order.
    pub fn sent(&self) -> Vec<Sent> {
        lock(&self.shared.sent).clone()
    }

    /// How many requests to send came, refused ones included.
    pub fn requests(&self) -> u64 {
        *lock(&self.shared.requests)
    }

    /// How often an account was asked about itself, in vain as well.
    pub fn checks(&self) -> u64 {
        *lock(&self.shared.checks)
    }

    /// Posts a status callback about a message to a gateway, host and port.
    pub async fn report(
        &self,
        gateway: &str,
        sent: &Sent,
        status: &'static str,
        code: Option<u32>,
    ) {
        report(&self.shared, gateway, sent, status, code).await;
    }

    /// The status callbacks that the gateway answered, in order.
    pub fn callbacks(&self) -> Vec<Reported> {
        lock(&self.shared.callbacks).clone()
    }

    /// What customers were told more than once: customer and text.
    pub fn sent_twice(&self) -> Vec<(String, String)> {
        let mut seen: BTreeMap<(String, String), u32> = BTreeMap::new();
        for sent in lock(&self.shared.sent).iter() {
            *seen.entry((sent.to.clone(), sent.body.clone())).or_default() += 1;
        }
        seen.into_iter().filter(|(_, times)| *times > 1).map(|(key, _)| key).collect()
    }

    /// Replies that came after a later one, by the number after the last `#` in their text.
    pub fn out_of_order(&self) -> Vec<(String, String)> {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        let mut late = Vec::new();
        for sent in lock(&self.shared.sent).iter() {
            let Some(number) = number(&sent.body) else { continue };
            let newest = newest.entry(sent.to.clone()).or_default();
            if number < *newest {
                late.push((sent.to.clone(), sent.body.clone()));
            }
            *newest = number.max(*newest);
        }
        late
    }

    /// Waits until so many messages were accepted, or the time is over. Gives how many.
    pub async fn wait_for_sent(&self, count: usize, at_most: Duration) -> usize {
        let mut accepted = self.shared.accepted.subscribe();
        // When the time is over, the number says so.
        let _ = timeout(at_most, accepted.wait_for(|sent| *sent >= count)).await;
        lock(&self.shared.sent).len()
    }
}

/// A client for everything that tests post: no proxy, connections kept.
///
/// # Errors
/// The TLS set-up fails.
pub fn http_client() -> Result<reqwest::Client> {
    // Whoever was first has installed the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?)
}

async fn create(
    State(shared): State<Arc<Shared>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    *lock(&shared.requests) += 1;
    let settings = lock(&shared.settings).clone();
    // A sleep of nothing still takes up to a millisecond.
    if !settings.latency.is_zero() {
        sleep(settings.latency).await;
    }
    if let Some(refusal) = unauthorized(&shared, &account, &headers) {
        return refusal;
    }
    let fault = lock(&shared.faults).pop_front();
    match fault {
        Some(Fault::Refuse(status, code)) => return refuse(status, code),
        Some(Fault::DropBeforeAccepting) => drop_connection(),
        _ => {}
    }
    let form: Form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let sent = match accept(&account, form) {
        Ok(sent) => sent,
        Err(code) => return refuse(400, code),
    };
    let accepted = {
        let mut all = lock(&shared.sent);
        all.push(sent.clone());
        all.len()
    };
    shared.accepted.send_replace(accepted);
    tokio::spawn(call_back(Arc::clone(&shared), settings, sent.clone()));
    match fault {
        Some(Fault::DropAfterAccepting) => drop_connection(),
        Some(Fault::FailAfterAccepting) => refuse(500, 20500),
        _ => (StatusCode::CREATED, axum::Json(resource(&sent))).into_response(),
    }
}

/// The checks of the Messages API that the gateway has to pass; errors are Twilio's codes.
fn accept(account: &str, form: Form) -> Result<Sent, u32> {
    let find = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let to = find("To").ok_or(21604u32)?;
    let from = find("From").or_else(|| find("MessagingServiceSid")).ok_or(21603u32)?;
    let body = find("Body").filter(|body| !body.is_empty()).ok_or(21602u32)?;
    if !to.starts_with("whatsapp:") {
        return Err(63003);
    }
    if body.chars().count() > 1600 {
        return Err(21617);
    }
    let status_callback = find("StatusCallback");
    let sid = customer::message_sid();
    let (account, at, arrived) = (account.to_owned(), now(), Instant::now());
    Ok(Sent { sid, account, from, to, body, status_callback, at, arrived, form })
}

async fn show_account(
    State(shared): State<Arc<Shared>>,
    Path(account): Path<String>,
    headers: HeaderMap,
) -> Response {
    *lock(&shared.checks) += 1;
    let account = account.trim_end_matches(".json");
    if let Some(refusal) = unauthorized(&shared, account, &headers) {
        return refusal;
    }
    let status = lock(&shared.settings).account_status.unwrap_or("active");
    axum::Json(json!({"sid": account, "status": status, "type": "Full"})).into_response()
}

async fn list(
    State(shared): State<Arc<Shared>>,
    Path(account): Path<String>,
    headers: HeaderMap,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if let Some(refusal) = unauthorized(&shared, &account, &headers) {
        return refusal;
    }
    let settings = lock(&shared.settings).clone();
    if settings.forbids_listing {
        return refuse(403, 20_403);
    }
    if settings.listing_away {
        return refuse(503, 20503);
    }
    let find = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let size = find("PageSize").and_then(|v| v.parse().ok()).unwrap_or(50usize).clamp(1, 1000);
    let page: usize = find("Page").and_then(|v| v.parse().ok()).unwrap_or(0);
    let visible = now() - SignedDuration::try_from(settings.listing_lag).unwrap_or_default();
    let mut found: Vec<Value> = lock(&shared.sent)
        .iter()
        .filter(|sent| sent.account == account && sent.at <= visible)
        .map(|sent| listed(&settings, sent))
        .filter(|sent| find("To").is_none_or(|to| to == sent.to))
        .filter(|sent| find("From").is_none_or(|from| from == sent.from))
        .filter(|sent| query.iter().all(|(name, value)| date_matches(name, value, sent.at)))
        .map(|sent| resource(&sent))
        .collect();
    found.reverse(); // Twilio lists the newest first.
    let more = found.len() > (page + 1) * size;
    let next = more.then(|| {
        let mut next = form_urlencoded::Serializer::new(String::new());
        next.extend_pairs(query.iter().filter(|(name, _)| name != "Page"));
        next.append_pair("Page", &(page + 1).to_string());
        format!("/2010-04-01/Accounts/{account}/Messages.json?{}", next.finish())
    });
    let messages: Vec<Value> = found.into_iter().skip(page * size).take(size).collect();
    let answer = json!({
        "messages": messages, "page": page, "page_size": size, "next_page_uri": next,
        "uri": format!("/2010-04-01/Accounts/{account}/Messages.json"),
    });
    axum::Json(answer).into_response()
}

/// The message as the listing names it.
fn listed(settings: &Settings, sent: &Sent) -> Sent {
    let mut sent = sent.clone();
    if let Some((sent_to, listed_as)) = settings.listed_as
        && let Some(rest) = sent.to.strip_prefix(&format!("whatsapp:{sent_to}"))
    {
        sent.to = format!("whatsapp:{listed_as}{rest}");
    }
    sent
}

async fn fetch(
    State(shared): State<Arc<Shared>>,
    Path((account, sid)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = unauthorized(&shared, &account, &headers) {
        return refusal;
    }
    let sid = sid.trim_end_matches(".json");
    match lock(&shared.sent).iter().find(|sent| sent.account == account && sent.sid == sid) {
        Some(sent) => axum::Json(resource(sent)).into_response(),
        None => refuse(404, 20404),
    }
}

async fn show(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(lock(&shared.sent).clone()).into_response()
}

/// Basic authentication by the account itself or by an API key.
fn unauthorized(shared: &Shared, account: &str, headers: &HeaderMap) -> Option<Response> {
    let (user, secret) = basic_auth(headers);
    let credentials = lock(&shared.credentials);
    let known = credentials.get(&user).is_some_and(|known| *known == secret);
    let theirs = user == account || user.starts_with("SK");
    (!known || !theirs).then(|| refuse(401, 20003))
}

fn resource(sent: &Sent) -> Value {
    let date = jiff::fmt::rfc2822::to_string(&sent.at.to_zoned(jiff::tz::TimeZone::UTC)).ok();
    json!({
        "sid": sent.sid, "account_sid": sent.account, "from": sent.from, "to": sent.to,
        "body": sent.body, "status": "queued", "direction": "outbound-api", "num_segments": "1",
        "num_media": "0", "price": null, "price_unit": null, "error_code": null,
        "error_message": null, "date_created": date, "date_sent": date, "date_updated": date,
        "messaging_service_sid": null, "api_version": "2010-04-01",
        "uri": format!("/2010-04-01/Accounts/{}/Messages/{}.json", sent.account, sent.sid),
        "subresource_uris": {},
    })
}

fn refuse(status: u16, code: u32) -> Response {
    let body = json!({
        "code": code, "message": "refused by the fake Twilio", "status": status,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(body)).into_response()
}

/// Ends the connection's task, and with it the connection, without an answer.
fn drop_connection() -> ! {
    std::panic::resume_unwind(Box::new("the connection is dropped on purpose"))
}

async fn call_back(shared: Arc<Shared>, settings: Settings, sent: Sent) {
    let Some(gateway) = &settings.callbacks_to else { return };
    if !settings.callback_lag.is_zero() {
        sleep(settings.callback_lag).await;
    }
    report(&shared, gateway, &sent, "sent", None).await;
    let end = if settings.undelivered.is_some() { "undelivered" } else { "delivered" };
    report(&shared, gateway, &sent, end, settings.undelivered).await;
}

/// Posts a status callback, and remembers it if it was answered.
async fn report(
    shared: &Shared,
    gateway: &str,
    sent: &Sent,
    status: &'static str,
    code: Option<u32>,
) {
    let Some(callback) = &sent.status_callback else { return };
    let token = lock(&shared.credentials).get(&sent.account).cloned().unwrap_or_default();
    let mut form: Form = [
        ("ChannelPrefix", "whatsapp"),
        ("ApiVersion", "2010-04-01"),
        ("MessageStatus", status),
        ("SmsStatus", status),
        ("SmsSid", &sent.sid),
        ("MessageSid", &sent.sid),
        ("To", &sent.to),
        ("From", &sent.from),
        ("AccountSid", &sent.account),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    form.extend(code.map(|code| ("ErrorCode".to_owned(), code.to_string())));
    let signature = signer::sign(&token, callback, &form);
    let at = Instant::now();
    let posted = customer::post(&shared.client, gateway, callback, &form, &signature).await;
    if let Ok(answer) = posted {
        let reported = Reported { sid: sent.sid.clone(), status, at, answer: answer.status };
        lock(&shared.callbacks).push(reported);
    }
}

/// The number after the last `#`.
fn number(body: &str) -> Option<u64> {
    let digits = body.rsplit_once('#')?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[expect(clippy::disallowed_methods, reason = "Twilio's own clock, which nobody else reads")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

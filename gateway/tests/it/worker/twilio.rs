//! A Twilio in this process: creates and lists messages, and fails in the way it is told to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::json;

use crate::worker::world::{SENDER, serve};

/// Messages on a page of the listing.
const PAGE: usize = 2;

/// What Twilio does with the next create.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Refuses it with a status and a code.
    Refuse(u16, u32),
    /// Accepts it and answers 500.
    AcceptAndFail,
    /// Answers 500 and nothing else.
    Fail,
    /// Accepts it and never answers.
    AcceptAndHang,
    /// Accepts it and answers so much later.
    AcceptAfter(Duration),
}

/// A create that came in.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    pub(crate) sid: String,
    pub(crate) form: Vec<(String, String)>,
    pub(crate) authorization: String,
    pub(crate) date: String,
    /// When it was created.
    at: u64,
}

impl Created {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.form.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
}

#[derive(Default)]
struct Inner {
    next: VecDeque<Next>,
    created: Vec<Created>,
    posts: u32,
    lists: u32,
    listing_away: bool,
    listing_refused: bool,
    /// Milliseconds after which a message is listed.
    listing_lag: u64,
    /// Milliseconds that its clock is ahead of the store's.
    ahead: i64,
    /// Messages are listed under this number, whatever they were sent to.
    listed_under: Option<String>,
}

#[derive(Clone)]
pub(crate) struct FakeTwilio {
    inner: Arc<Mutex<Inner>>,
    now: Arc<AtomicU64>,
    pub(crate) url: String,
}

impl FakeTwilio {
    pub(crate) async fn start(now: Arc<AtomicU64>) -> Self {
        let mut twilio = Self { inner: Arc::default(), now, url: String::new() };
        let path = "/2010-04-01/Accounts/{account}/Messages.json";
        let router = Router::new().route(path, post(create).get(list)).with_state(twilio.clone());
        twilio.url = serve(router).await;
        twilio
    }

    pub(crate) fn next(&self, next: Next) {
        self.inner.lock().unwrap().next.push_back(next);
    }

    pub(crate) fn set_listing_away(&self, away: bool) {
        self.inner.lock().unwrap().listing_away = away;
    }

    /// Whether a listing is refused for its credentials.
    pub(crate) fn set_listing_refused(&self, refused: bool) {
        self.inner.lock().unwrap().listing_refused = refused;
    }

    /// Lists a message only so many seconds after it was created.
    pub(crate) fn list_after(&self, seconds: u64) {
        self.inner.lock().unwrap().listing_lag = seconds * 1_000;
    }

    /// Sets its clock so many seconds ahead of the store's.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.inner.lock().unwrap().ahead = seconds * 1_000;
    }

    /// Lists every message under another notation of its customer.
    pub(crate) fn list_under(&self, number: &str) {
        self.inner.lock().unwrap().listed_under = Some(number.to_owned());
    }

    /// Messages that exist, oldest first.
    pub(crate) fn created(&self) -> Vec<Created> {
        self.inner.lock().unwrap().created.clone()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.created().iter().map(|created| created.field("Body").to_owned()).collect()
    }

    /// A message to a customer that somebody else sends from the same number.
    pub(crate) fn accept_elsewhere(&self, customer: u8) {
        let to = format!("whatsapp:+1401000{customer:04}");
        let form = [("From", SENDER), ("To", &to), ("Body", "Uw factuur")];
        let form = form.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.accept(form.to_vec(), "");
    }

    /// Creates that came in, whatever became of them.
    pub(crate) fn posts(&self) -> u32 {
        self.inner.lock().unwrap().posts
    }

    pub(crate) fn lists(&self) -> u32 {
        self.inner.lock().unwrap().lists
    }
}

async fn create(State(twilio): State<FakeTwilio>, headers: HeaderMap, body: String) -> Response {
    let next = {
        let mut inner = twilio.inner.lock().unwrap();
        inner.posts += 1;
        inner.next.pop_front()
    };
    if let Some(Next::Refuse(status, code)) = next {
        let status_code = StatusCode::from_u16(status).unwrap();
        let body = json!({ "code": code, "message": "no", "status": status });
        return (status_code, Json(body)).into_response();
    }
    if matches!(next, Some(Next::Fail)) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let sid = twilio.accept(pairs(&body), headers["authorization"].to_str().unwrap());
    match next {
        Some(Next::AcceptAndFail) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Next::AcceptAndHang) => std::future::pending().await,
        Some(Next::AcceptAfter(pause)) => {
            tokio::time::sleep(pause).await;
            (StatusCode::CREATED, Json(json!({ "sid": sid }))).into_response()
        }
        _ => (StatusCode::CREATED, Json(json!({ "sid": sid }))).into_response(),
    }
}

async fn list(State(twilio): State<FakeTwilio>, RawQuery(query): RawQuery) -> Response {
    let mut inner = twilio.inner.lock().unwrap();
    inner.lists += 1;
    if inner.listing_away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if inner.listing_refused {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let query = pairs(&query.unwrap());
    let wanted =
        |name: &str| query.iter().find(|(field, _)| field == name).map(|(_, v)| v.as_str());
    let page: usize = wanted("Page").map_or(0, |page| page.parse().unwrap());
    let now = twilio.now.load(Ordering::SeqCst).saturating_add_signed(inner.ahead);
    let under = |created: &Created| {
        inner.listed_under.clone().unwrap_or_else(|| created.field("To").to_owned())
    };
    let messages: Vec<_> = inner
        .created
        .iter()
        .rev()
        .filter(|created| created.at + inner.listing_lag <= now)
        .filter(|created| Some(under(created).as_str()) == wanted("To"))
        .skip(page * PAGE)
        .take(PAGE)
        .map(|created| {
            json!({
                "sid": created.sid,
                "from": created.field("From"),
                "to": under(created),
                "body": created.field("Body"),
                "date_created": created.date,
            })
        })
        .collect();
    let next = (messages.len() == PAGE).then(|| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("To", wanted("To").unwrap()).append_pair("Page", &(page + 1).to_string());
        format!("/2010-04-01/Accounts/AC1/Messages.json?{}", query.finish())
    });
    let date = twilio.date(inner.ahead);
    let body = Json(json!({ "messages": messages, "next_page_uri": next }));
    ([("date", date)], body).into_response()
}

impl FakeTwilio {
    fn accept(&self, form: Vec<(String, String)>, authorization: &str) -> String {
        let mut inner = self.inner.lock().unwrap();
        let ahead = inner.ahead;
        let date = self.date(ahead);
        let sid = format!("SM{:032}", inner.created.len());
        inner.created.push(Created {
            sid: sid.clone(),
            form,
            authorization: authorization.to_owned(),
            date,
            at: self.now.load(Ordering::SeqCst).saturating_add_signed(ahead),
        });
        sid
    }

    fn date(&self, ahead: i64) -> String {
        let now = i64::try_from(self.now.load(Ordering::SeqCst)).unwrap() + ahead;
        let now = jiff::Timestamp::from_millisecond(now).unwrap();
        now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }
}

fn pairs(encoded: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(encoded.as_bytes()).into_owned().collect()
}

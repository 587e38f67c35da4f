//! The floor's line: one HMAC, admit, ask, commit, send, done.
//!
//! Takes a webhook; answers it as soon as the message is durable, and works on it in a task. Its
//! signature is over the whole body, so that it costs one HMAC.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kanarie_fakes::twilio::http_client;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use tokio::sync::Semaphore;

use crate::floor::Options;
use crate::floor::embedded::Embedded;
use crate::floor::redis::Redis;
use crate::floor::rows::Message;

const EMPTY_TWIML: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response></Response>"#;

/// What the line needs.
pub(crate) struct Floor {
    key: Hmac<Sha1>,
    store: Store,
    client: reqwest::Client,
    messages_url: String,
    turns: Option<Arc<Semaphore>>,
    options: Options,
}

enum Store {
    Redis(Redis),
    Embedded(Embedded),
}

/// What an agent is asked.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    version: u32,
    message_sid: &'a str,
    conversation_id: &'a str,
    channel: &'a str,
    text: &'a str,
    media: [(); 0],
    received_at: &'a str,
}

/// What an agent says.
#[derive(Deserialize)]
struct Said {
    text: String,
}

/// What Twilio says.
#[derive(Deserialize)]
struct Created {
    sid: String,
}

impl Floor {
    /// Connects to its store.
    pub(crate) async fn new(options: Options) -> Result<Self> {
        let store = if options.store.starts_with("redis:") {
            Store::Redis(Redis::open(&options.store).await?)
        } else {
            Store::Embedded(Embedded::open(&options.store)?)
        };
        let messages_url = format!(
            "{}/2010-04-01/Accounts/{}/Messages.json",
            options.twilio.trim_end_matches('/'),
            options.account
        );
        Ok(Self {
            key: Hmac::new_from_slice(options.token.as_bytes()).context("any length is a key")?,
            store,
            client: http_client()?,
            messages_url,
            turns: (options.turns > 0).then(|| Arc::new(Semaphore::new(options.turns))),
            options,
        })
    }

    /// One HMAC over the whole body.
    fn signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let given = headers.get("x-twilio-signature").map(|value| STANDARD.decode(value));
        let mut mac = self.key.clone();
        mac.update(body);
        given.and_then(|given| mac.verify_slice(&given.ok()?).ok()).is_some()
    }

    /// Asks, commits, sends, ends.
    async fn answer(&self, message: &Message) -> Result<()> {
        let said = self.ask(message).await.context("ask")?;
        self.store.commit(message, &said.text).await.context("commit")?;
        let created = self.send(message, &said.text).await.context("send")?;
        self.store.done(message, &created.sid).await.context("done")
    }

    async fn ask(&self, message: &Message) -> Result<Said> {
        let question = Question {
            version: 1,
            message_sid: &message.sid,
            conversation_id: &message.conversation(),
            channel: "bench/shop",
            text: &message.text,
            media: [],
            received_at: "2026-01-01T12:00:00.000Z",
        };
        let request = self.client.post(&self.options.agent).json(&question);
        let answer = request.header("idempotency-key", &message.sid).send().await?;
        Ok(serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?)
    }

    async fn send(&self, message: &Message, text: &str) -> Result<Created> {
        let callback = format!(
            "https://kanarie.example.com/webhooks/twilio/status?kanarie={}.{}.0",
            message.conversation(),
            message.conversation()
        );
        let form = [
            ("To", message.customer.as_str()),
            ("From", message.sender.as_str()),
            ("Body", text),
            ("ValidityPeriod", "14400"),
            ("StatusCallback", &callback),
        ];
        let request = self.client.post(&self.messages_url).form(&form);
        let request = request.basic_auth(&self.options.account, Some(&self.options.token));
        let answer = request.send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}

impl Store {
    async fn admit(&self, message: &Message, account: &str) -> Result<()> {
        match self {
            Self::Redis(store) => store.admit(message, account).await,
            Self::Embedded(store) => store.admit(message, account).await,
        }
    }

    async fn commit(&self, message: &Message, text: &str) -> Result<()> {
        match self {
            Self::Redis(store) => store.commit(message, text).await,
            Self::Embedded(store) => store.commit(message, text).await,
        }
    }

    async fn done(&self, message: &Message, sid: &str) -> Result<()> {
        match self {
            Self::Redis(store) => store.done(message, sid).await,
            Self::Embedded(store) => store.done(message, sid).await,
        }
    }
}

/// A webhook.
pub(crate) async fn receive(
    State(floor): State<Arc<Floor>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !floor.signed(&headers, &body) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let message = Message::read(&body, now());
    if let Err(error) = floor.store.admit(&message, &floor.options.account).await {
        eprintln!("the floor does not admit: {error:#}");
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some(turns) = floor.turns.clone() {
        tokio::spawn(work(Arc::clone(&floor), turns, message));
    }
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], EMPTY_TWIML).into_response()
}

async fn work(floor: Arc<Floor>, turns: Arc<Semaphore>, message: Message) {
    let turn = turns.acquire_owned().await;
    if let Err(error) = floor.answer(&message).await {
        eprintln!("the floor does not answer {}: {error:#}", message.sid);
    }
    drop(turn);
}

#[expect(clippy::disallowed_methods, reason = "the floor's own clock, which nobody else reads")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

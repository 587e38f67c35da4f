//! Fake agents that speak the HTTP protocol of docs/agents.md, well or badly.
//!
//! Takes the way to behave, which can be changed while it runs; answers and remembers every
//! request. Never decides what a right reply is: the tests do.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::server::{Server, loopback};

/// How an agent behaves.
#[derive(Clone, Debug, PartialEq)]
pub enum Behaviour {
    /// Answers with the text before the customer's own.
    Echo(String),
    /// Answers this to everybody.
    Say(String),
    /// Answers with the second text of the first pair whose first one the customer's contains;
    /// otherwise as an echo with the last text.
    Script(Vec<(String, String)>, String),
    /// Refuses with an HTTP status.
    Fail(u16),
    /// Refuses with an HTTP status, and says after how many seconds to come again.
    RefuseFor(u16, u32),
    /// Does not answer as long as it behaves so.
    Hang,
    /// Echoes after a time, and refuses with 429 while it does so for so many others.
    Room(u32, Duration, String),
    /// Does as the inner one says, after a time.
    Slow(Duration, Box<Behaviour>),
    /// Refuses with an HTTP status whatever contains these words; does as the inner one says otherwise.
    Shun(String, u16, Box<Behaviour>),
    /// Refuses with 500 the first question about so many of ten thousand messages, drawn by their
    /// text, and by others than an agent that would answer differently; does as the inner one says
    /// otherwise.
    Noisy(u64, Box<Behaviour>),
    /// Answers 200 with something that is no JSON.
    BrokenJson,
    /// Answers 200 without any text.
    Blank,
    /// Answers 204: deliberately nothing.
    Silence,
}

/// What the gateway asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// MessageSid of the customer's message.
    pub sid: String,
    /// The conversation.
    pub conversation: String,
    /// The customer's text.
    pub text: String,
    /// The whole request.
    pub body: Value,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// When it came.
    pub at: Instant,
}

/// A running agent.
#[derive(Debug)]
pub struct FakeAgent {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    behaviour: watch::Sender<Behaviour>,
    inside: AtomicU32,
    asked: Mutex<Vec<Asked>>,
}

impl FakeAgent {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(behaviour: Behaviour) -> Result<Self> {
        Self::start_at(loopback(), behaviour).await
    }

    /// Starts one at an address.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start_at(address: SocketAddr, behaviour: Behaviour) -> Result<Self> {
        let behaviour = watch::Sender::new(behaviour);
        let shared = Arc::new(Shared {
            behaviour,
            inside: AtomicU32::new(0),
            asked: Mutex::new(Vec::new()),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        Ok(Self { server: Server::start(address, router).await?, shared })
    }

    /// The URL for a channel's `agent.http.url`.
    pub fn url(&self) -> String {
        format!("http://{}/", self.server.address())
    }

    /// Behaves differently from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(behaviour);
    }

    /// Everything that it was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// How often it was asked.
    pub fn count(&self) -> usize {
        lock(&self.shared.asked).len()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let text_of = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let header_of = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let asked = Asked {
        sid: text_of("messageSid"),
        conversation: text_of("conversationId"),
        text: text_of("text"),
        idempotency_key: header_of("idempotency-key"),
        authorization: header_of("authorization"),
        at: Instant::now(),
        body: body.clone(),
    };
    lock(&shared.asked).push(asked.clone());
    behave(decided(&shared, &asked).await, &asked.text)
}

/// How it behaves in the end: after its time, and no longer hanging.
async fn decided(shared: &Shared, asked: &Asked) -> Behaviour {
    let mut told = shared.behaviour.subscribe();
    let mut behaviour = told.borrow_and_update().clone();
    loop {
        behaviour = match behaviour {
            Behaviour::Slow(time, inner) => {
                // A sleep of nothing still takes up to a millisecond.
                if !time.is_zero() {
                    sleep(time).await;
                }
                *inner
            }
            Behaviour::Shun(words, code, _) if asked.text.contains(&words) => Behaviour::Fail(code),
            Behaviour::Noisy(share, inner) if is_drawn(share, &inner, &asked.text) => {
                let all = lock(&shared.asked);
                let is_first = all.iter().filter(|one| one.sid == asked.sid).count() == 1;
                if is_first { Behaviour::Fail(500) } else { *inner }
            }
            Behaviour::Shun(_, _, inner) | Behaviour::Noisy(_, inner) => *inner,
            Behaviour::Room(room, time, prefix) => {
                let before = shared.inside.fetch_add(1, Ordering::SeqCst);
                if before < room {
                    sleep(time).await;
                }
                shared.inside.fetch_sub(1, Ordering::SeqCst);
                return if before < room { Behaviour::Echo(prefix) } else { Behaviour::Fail(429) };
            }
            Behaviour::Hang => {
                if told.changed().await.is_err() {
                    // The agent is gone; its connections go with it.
                    return std::future::pending().await;
                }
                told.borrow_and_update().clone()
            }
            decided => return decided,
        }
    }
}

/// Whether a message is among so many of ten thousand.
fn is_drawn(of_ten_thousand: u64, inner: &Behaviour, text: &str) -> bool {
    let mut hasher = DefaultHasher::new();
    (format!("{inner:?}"), text).hash(&mut hasher);
    hasher.finish() % 10_000 < of_ten_thousand
}

fn behave(behaviour: Behaviour, text: &str) -> Response {
    let say = |text: String| axum::Json(json!({ "text": text })).into_response();
    match behaviour {
        Behaviour::Echo(prefix) => say(format!("{prefix}{text}")),
        Behaviour::Say(text) => say(text),
        Behaviour::Script(pairs, otherwise) => {
            let found = pairs.into_iter().find(|(word, _)| text.contains(word.as_str()));
            say(found.map_or_else(|| format!("{otherwise}{text}"), |(_, reply)| reply))
        }
        Behaviour::Fail(code) => status(code).into_response(),
        Behaviour::RefuseFor(code, seconds) => {
            (status(code), [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Behaviour::BrokenJson => {
            ([(header::CONTENT_TYPE, "application/json")], r#"{"text": "hal"#).into_response()
        }
        Behaviour::Blank => say("  ".to_owned()),
        Behaviour::Silence => StatusCode::NO_CONTENT.into_response(),
        // What was decided is none of these.
        Behaviour::Room(..)
        | Behaviour::Slow(..)
        | Behaviour::Shun(..)
        | Behaviour::Noisy(..)
        | Behaviour::Hang => status(500).into_response(),
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A fake LangGraph server: threads and runs that end at once, well or badly.
//!
//! Takes the way its graph behaves, which can be changed while it runs; keeps the messages of each
//! thread as the real one does. Never decides what a right reply is: the tests do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kanarie_fakes::server::{Server, loopback};
use serde_json::{Value, json};

/// How a graph behaves.
#[derive(Clone, Debug, PartialEq)]
pub enum Graph {
    /// Answers with the text before the customer's own.
    Echo(String),
    /// Fails: the run ends with `__error__`.
    Fail,
    /// The server itself refuses with an HTTP status.
    Refuse(u16),
}

/// A running server with one assistant.
#[derive(Debug)]
pub struct FakeGraph {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    graph: Mutex<Graph>,
    threads: Mutex<BTreeMap<String, Vec<Value>>>,
    runs: Mutex<u64>,
}

impl FakeGraph {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(graph: Graph) -> Result<Self> {
        let shared = Arc::new(Shared {
            graph: Mutex::new(graph),
            threads: Mutex::default(),
            runs: Mutex::default(),
        });
        let router = Router::new()
            .route("/threads/{thread}/runs/wait", post(wait))
            .route("/threads/{thread}/runs/{run}/join", get(ended))
            .route("/threads/{thread}/runs/{run}/cancel", post(ended))
            .route("/threads/{thread}/state", get(state))
            .with_state(Arc::clone(&shared));
        Ok(Self { server: Server::start(loopback(), router).await?, shared })
    }

    /// The URL for a channel's `agent.langGraph.url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Behaves differently from now on.
    pub fn behave(&self, graph: Graph) {
        *lock(&self.shared.graph) = graph;
    }

    /// How many runs were asked for.
    pub fn runs(&self) -> u64 {
        *lock(&self.shared.runs)
    }
}

async fn wait(
    State(shared): State<Arc<Shared>>,
    Path(thread): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let run = {
        let mut runs = lock(&shared.runs);
        *runs += 1;
        *runs
    };
    let graph = lock(&shared.graph).clone();
    if let Graph::Refuse(status) = graph {
        return StatusCode::from_u16(status)
            .unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
            .into_response();
    }
    let location = format!("/threads/{thread}/runs/{run:08x}");
    let mut threads = lock(&shared.threads);
    let messages = threads.entry(thread).or_default();
    let said = body["input"]["messages"].as_array().cloned().unwrap_or_default();
    for message in said {
        put(messages, "human", &message["id"], &message["content"]);
        if let Graph::Echo(prefix) = &graph {
            let text = format!("{prefix}{}", message["content"].as_str().unwrap_or_default());
            put(messages, "ai", &json!(format!("ai-{run}")), &json!(text));
        }
    }
    let values = match graph {
        Graph::Echo(_) => json!({"messages": messages}),
        _ => json!({"__error__": {"error": "RuntimeError", "message": "it fails on purpose"}}),
    };
    ([(header::CONTENT_LOCATION, location)], Json(values)).into_response()
}

/// A message with an id that stands already takes its place, as the reducer of the real one does.
fn put(messages: &mut Vec<Value>, kind: &str, id: &Value, content: &Value) {
    let message = json!({"type": kind, "id": id, "content": content});
    match messages.iter_mut().find(|standing| standing["id"] == *id) {
        Some(standing) => *standing = message,
        None => messages.push(message),
    }
}

/// No run goes on after its request, so there is none to join or to cancel.
async fn ended() -> StatusCode {
    StatusCode::NOT_FOUND
}

async fn state(State(shared): State<Arc<Shared>>, Path(thread): Path<String>) -> Response {
    match lock(&shared.threads).get(&thread) {
        Some(messages) => Json(json!({"values": {"messages": messages}})).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Agents in this process: one that speaks HTTP JSON, one that speaks LangGraph's runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::world::serve;

/// What an agent does with the next question.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// Answers with this text.
    Say(String),
    /// Answers with this status and no body.
    Status(u16),
    /// Answers 200 with this body.
    Body(String),
    /// Answers with this text after this time.
    Delay(Duration, String),
    /// Never answers.
    Hang,
    /// Redirects to this address.
    Redirect(String),
}

/// A question that came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) body: Value,
    pub(crate) idempotency_key: String,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct HttpInner {
    next: VecDeque<Next>,
    asked: Vec<Asked>,
    answering: u32,
    most_at_once: u32,
}

/// Answers `name: text` unless it is told otherwise.
#[derive(Clone)]
pub(crate) struct HttpAgent {
    inner: Arc<Mutex<HttpInner>>,
    name: &'static str,
    pub(crate) url: String,
}

impl HttpAgent {
    pub(crate) async fn start(name: &'static str) -> Self {
        let mut agent = Self { inner: Arc::default(), name, url: String::new() };
        let router = Router::new().route("/", post(answer)).with_state(agent.clone());
        agent.url = serve(router).await;
        agent
    }

    pub(crate) fn next(&self, next: Next) {
        self.inner.lock().unwrap().next.push_back(next);
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.lock().unwrap().asked.clone()
    }

    pub(crate) fn most_at_once(&self) -> u32 {
        self.inner.lock().unwrap().most_at_once
    }
}

async fn answer(
    State(agent): State<HttpAgent>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let text = body["text"].as_str().unwrap().to_owned();
    let word = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let next = {
        let mut inner = agent.inner.lock().unwrap();
        inner.asked.push(Asked {
            body,
            idempotency_key: word("idempotency-key").unwrap(),
            authorization: word("authorization"),
        });
        inner.answering += 1;
        inner.most_at_once = inner.most_at_once.max(inner.answering);
        inner.next.pop_front()
    };
    // Gives a second question of the same conversation the chance to come too early.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    agent.inner.lock().unwrap().answering -= 1;
    match next {
        None => Json(json!({ "text": format!("{}: {text}", agent.name) })).into_response(),
        Some(Next::Say(text)) => Json(json!({ "text": text })).into_response(),
        Some(Next::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Next::Body(body)) => body.into_response(),
        Some(Next::Delay(time, text)) => {
            tokio::time::sleep(time).await;
            Json(json!({ "text": text })).into_response()
        }
        Some(Next::Hang) => std::future::pending().await,
        Some(Next::Redirect(to)) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response()
        }
    }
}

/// What a LangGraph server does with the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextRun {
    /// Goes on until it is cancelled.
    Hang,
    /// Goes on for the waiter, but has finished for whoever cancels or joins.
    FinishUnseen,
    /// Its graph fails.
    Error,
}

#[derive(Default)]
struct GraphInner {
    next: VecDeque<NextRun>,
    calls: Vec<String>,
    /// Run, what it does, id of its message.
    runs: Vec<(NextRun, String)>,
}

/// Answers `name: text` unless it is told otherwise; runs are named r0, r1, ….
#[derive(Clone)]
pub(crate) struct LangGraph {
    inner: Arc<Mutex<GraphInner>>,
    pub(crate) url: String,
}

impl LangGraph {
    pub(crate) async fn start() -> Self {
        let mut graph = Self { inner: Arc::default(), url: String::new() };
        let router = Router::new()
            .route("/threads/{thread}/runs/wait", post(wait))
            .route("/threads/{thread}/runs/{run}/join", get(join))
            .route("/threads/{thread}/runs/{run}/cancel", post(cancel))
            .with_state(graph.clone());
        graph.url = serve(router).await;
        graph
    }

    pub(crate) fn next(&self, next: NextRun) {
        self.inner.lock().unwrap().next.push_back(next);
    }

    /// `wait agent`, `join r0`, `cancel r0`, in their order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.inner.lock().unwrap().calls.clone()
    }

    /// A run about this message goes on.
    pub(crate) fn begin(&self, sid: &str) {
        self.inner.lock().unwrap().runs.push((NextRun::Hang, sid.to_owned()));
    }

    /// From now on a run counts as finished.
    pub(crate) fn finish(&self, run: usize) {
        self.inner.lock().unwrap().runs[run].0 = NextRun::FinishUnseen;
    }
}

async fn wait(
    State(graph): State<LangGraph>,
    Path(thread): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let assistant = body["assistant_id"].as_str().unwrap().to_owned();
    let sid = body["input"]["messages"][0]["id"].as_str().unwrap().to_owned();
    let (next, run) = {
        let mut inner = graph.inner.lock().unwrap();
        inner.calls.push(format!("wait {assistant}"));
        let next = inner.next.pop_front();
        inner.runs.push((next.unwrap_or(NextRun::FinishUnseen), sid.clone()));
        (next, inner.runs.len() - 1)
    };
    let location = format!("/threads/{thread}/runs/r{run}");
    let values = match next {
        None => values(&sid, &format!("{assistant} answers")),
        Some(NextRun::Error) => json!({ "__error__": { "error": "ValueError", "message": "no" } }),
        Some(NextRun::Hang | NextRun::FinishUnseen) => {
            let heartbeats = futures::stream::once(async { Ok::<_, std::io::Error>("\n") });
            let never = futures::stream::pending();
            let body = futures::StreamExt::chain(heartbeats, never);
            let body = axum::body::Body::from_stream(body);
            return ([(header::CONTENT_LOCATION, location)], body).into_response();
        }
    };
    ([(header::CONTENT_LOCATION, location)], format!("\n\n{values}")).into_response()
}

async fn join(State(graph): State<LangGraph>, Path((_, run)): Path<(String, String)>) -> Response {
    let Some((state, sid)) = graph.called("join", &run) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match state {
        NextRun::FinishUnseen => Json(values(&sid, &format!("{run} answers"))).into_response(),
        NextRun::Hang | NextRun::Error => std::future::pending().await,
    }
}

async fn cancel(
    State(graph): State<LangGraph>,
    Path((_, run)): Path<(String, String)>,
) -> Response {
    match graph.called("cancel", &run) {
        Some((NextRun::Hang, _)) => Json(json!({})).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

impl LangGraph {
    fn called(&self, call: &str, run: &str) -> Option<(NextRun, String)> {
        let mut inner = self.inner.lock().unwrap();
        inner.calls.push(format!("{call} {run}"));
        let number: usize = run[1..].parse().unwrap();
        inner.runs.get(number).cloned()
    }
}

fn values(sid: &str, text: &str) -> Value {
    json!({ "messages": [
        { "type": "ai", "id": "before", "content": "an earlier answer" },
        { "type": "human", "id": sid, "content": "x" },
        { "type": "ai", "id": "after", "content": text },
    ] })
}

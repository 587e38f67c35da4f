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

use crate::worker::world::serve;

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
    /// Answers with this status and these seconds in Retry-After.
    Busy(u16, u64),
    /// Answers 200 with these bytes and this Content-Encoding.
    Bytes(&'static str, Vec<u8>),
}

/// A question that came in.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) body: Value,
    pub(crate) idempotency_key: String,
    pub(crate) authorization: Option<String>,
    pub(crate) accept_encoding: Option<String>,
}

#[derive(Default)]
struct HttpInner {
    next: VecDeque<Next>,
    always: Option<Next>,
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

    /// From now on every question that nothing else is said about; none answers them again.
    pub(crate) fn always(&self, next: Option<Next>) {
        self.inner.lock().unwrap().always = next;
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
            accept_encoding: word("accept-encoding"),
        });
        inner.answering += 1;
        inner.most_at_once = inner.most_at_once.max(inner.answering);
        inner.next.pop_front().or_else(|| inner.always.clone())
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
        Some(Next::Busy(status, seconds)) => busy(status, seconds),
        Some(Next::Bytes(encoding, body)) => {
            ([(header::CONTENT_ENCODING, encoding)], body).into_response()
        }
    }
}

fn busy(status: u16, seconds: u64) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
}

/// What a LangGraph server does with the next run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NextRun {
    /// Goes on until it is cancelled.
    Hang,
    /// The same, and the POST is not answered at all.
    HangUnheard,
    /// Goes on for the waiter, but has finished for whoever cancels or joins.
    FinishUnseen,
    /// Its graph fails.
    Error,
    /// Its graph stops to ask this value.
    Ask(Value),
    /// Its graph stops with two questions at once.
    AskTwice(Value, Value),
    /// Its graph answers, and keeps nothing of the customer's message.
    Trim,
    /// Its graph says nothing, and keeps nothing of the customer's message.
    TrimSilently,
    /// Ends with exactly these values.
    Values(Value),
    /// No run: the server refuses with this status.
    Refuse(u16),
}

/// A run: what it does, the id of its message, the mark in its metadata.
#[derive(Clone, Debug)]
struct FakeRun {
    next: NextRun,
    sid: String,
    mark: String,
}

#[derive(Default)]
struct GraphInner {
    next: VecDeque<NextRun>,
    calls: Vec<String>,
    runs: Vec<FakeRun>,
    /// Ids of the questions that wait for an answer.
    open: Vec<String>,
    /// What the thread's graph said before.
    said: Vec<Value>,
    forgets: bool,
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
        graph.inner.lock().unwrap().said = vec![ai("before", "an earlier answer")];
        let router = Router::new()
            .route("/threads/{thread}/runs/wait", post(wait))
            .route("/threads/{thread}/runs", get(list))
            .route("/threads/{thread}/runs/{run}/join", get(join))
            .route("/threads/{thread}/runs/{run}/cancel", post(cancel))
            .route("/threads/{thread}/state", get(state))
            .route("/threads/{thread}/state/{checkpoint}", get(state_before))
            .route("/threads/{thread}/history", post(history))
            .with_state(graph.clone());
        graph.url = serve(router).await;
        graph
    }

    pub(crate) fn next(&self, next: NextRun) {
        self.inner.lock().unwrap().next.push_back(next);
    }

    /// `wait agent`, `join r0`, `cancel r0`, …, in their order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.inner.lock().unwrap().calls.clone()
    }

    /// A run about this message goes on.
    pub(crate) fn begin(&self, sid: &str) {
        let (sid, mark) = (sid.to_owned(), String::new());
        self.inner.lock().unwrap().runs.push(FakeRun { next: NextRun::Hang, sid, mark });
    }

    /// From now on a run counts as finished.
    pub(crate) fn finish(&self, run: usize) {
        self.inner.lock().unwrap().runs[run].next = NextRun::FinishUnseen;
    }

    /// Somebody else answers every question.
    pub(crate) fn answer_elsewhere(&self) {
        self.inner.lock().unwrap().open.clear();
    }

    /// From now on the threads are gone.
    pub(crate) fn forget(&self) {
        self.inner.lock().unwrap().forgets = true;
    }

    /// Begins a run; gives what it does, its place and what it leaves.
    fn run(
        &self,
        thread: &str,
        body: &Value,
    ) -> Result<(Option<NextRun>, String, Value), Box<Response>> {
        let assistant = body["assistant_id"].as_str().unwrap();
        let word = |name: &str| body["metadata"][name].as_str().unwrap().to_owned();
        let (sid, mark) = (word("message_sid"), word("attempt"));
        let mut inner = self.inner.lock().unwrap();
        let next = match &body["command"]["resume"] {
            Value::Null => {
                assert_eq!(body["input"]["messages"][0]["id"], sid);
                inner.calls.push(format!("wait {assistant}"));
                inner.next.pop_front()
            }
            answer => {
                inner.calls.push(format!("resume {assistant} {answer}"));
                assert_eq!(body.get("if_not_exists"), None);
                if inner.forgets {
                    return Err(Box::new(StatusCode::NOT_FOUND.into_response()));
                }
                inner.open.pop();
                let heard = ai(&format!("heard {sid}"), &format!("{assistant} heard {answer}"));
                let all = json!({ "messages": [inner.said[0], heard] });
                Some(inner.next.pop_front().unwrap_or(NextRun::Values(all)))
            }
        };
        if let Some(NextRun::Refuse(status)) = next {
            return Err(Box::new(busy(status, 7)));
        }
        let run = FakeRun { next: next.clone().unwrap_or(NextRun::FinishUnseen), sid, mark };
        let values = inner.values(&run, &format!("{assistant} answers"));
        let location = format!("/threads/{thread}/runs/r{}", inner.runs.len());
        inner.runs.push(run);
        Ok((next, location, values))
    }

    fn called(&self, call: &str, run: &str) -> Option<FakeRun> {
        let mut inner = self.inner.lock().unwrap();
        inner.calls.push(format!("{call} {run}"));
        let number: usize = run[1..].parse().unwrap();
        inner.runs.get(number).cloned()
    }

    /// Notes a call that needs the thread to be there.
    fn has_thread(&self, call: &str) -> bool {
        let mut inner = self.inner.lock().unwrap();
        inner.calls.push(call.to_owned());
        !inner.forgets
    }
}

impl GraphInner {
    /// What is left when the run of a message is over.
    fn values(&mut self, run: &FakeRun, answer: &str) -> Value {
        let own = json!({ "type": "human", "id": run.sid, "content": "x" });
        let answer = ai(&format!("after {}", run.sid), answer);
        let mut questions = |values: &[&Value]| {
            let ids: Vec<_> = (0..values.len()).map(|at| format!("q{at} {}", run.sid)).collect();
            let both =
                ids.iter().zip(values).map(|(id, value)| json!({ "id": id, "value": value }));
            let asked: Vec<Value> = both.collect();
            self.open = ids;
            json!({ "messages": [self.said[0], own], "__interrupt__": asked })
        };
        match &run.next {
            NextRun::Error => json!({ "__error__": { "error": "ValueError", "message": "no" } }),
            NextRun::Ask(value) => questions(&[value]),
            NextRun::AskTwice(one, two) => questions(&[one, two]),
            NextRun::Trim => json!({ "messages": [self.said[0], answer] }),
            NextRun::TrimSilently => json!({ "messages": self.said }),
            NextRun::Values(values) => values.clone(),
            _ => json!({ "messages": [self.said[0], own, answer] }),
        }
    }
}

async fn wait(
    State(graph): State<LangGraph>,
    Path(thread): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    let (next, location, values) = match graph.run(&thread, &body) {
        Ok(run) => run,
        Err(refused) => return *refused,
    };
    match next {
        Some(NextRun::HangUnheard) => std::future::pending().await,
        Some(NextRun::Hang | NextRun::FinishUnseen) => {
            let heartbeats = futures::stream::once(async { Ok::<_, std::io::Error>("\n") });
            let never = futures::stream::pending();
            let body = futures::StreamExt::chain(heartbeats, never);
            let body = axum::body::Body::from_stream(body);
            ([(header::CONTENT_LOCATION, location)], body).into_response()
        }
        _ => ([(header::CONTENT_LOCATION, location)], format!("\n\n{values}")).into_response(),
    }
}

async fn join(State(graph): State<LangGraph>, Path((_, run)): Path<(String, String)>) -> Response {
    let Some(state) = graph.called("join", &run) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match state.next {
        NextRun::Hang | NextRun::HangUnheard => std::future::pending().await,
        _ => {
            let mut inner = graph.inner.lock().unwrap();
            Json(inner.values(&state, &format!("{run} answers"))).into_response()
        }
    }
}

async fn cancel(
    State(graph): State<LangGraph>,
    Path((_, run)): Path<(String, String)>,
) -> Response {
    match graph.called("cancel", &run) {
        Some(FakeRun { next: NextRun::Hang | NextRun::HangUnheard, .. }) => {
            Json(json!({})).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn list(State(graph): State<LangGraph>) -> Response {
    if !graph.has_thread("runs") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let inner = graph.inner.lock().unwrap();
    let run = |(at, run): (usize, &FakeRun)| {
        json!({
            "run_id": format!("r{at}"),
            "metadata": { "message_sid": run.sid, "attempt": run.mark },
        })
    };
    let runs: Vec<Value> = inner.runs.iter().enumerate().rev().map(run).collect();
    Json(runs).into_response()
}

async fn state(State(graph): State<LangGraph>) -> Response {
    if !graph.has_thread("state") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let open = graph.inner.lock().unwrap().open.clone();
    let open: Vec<Value> = open.iter().map(|id| json!({ "id": id, "value": "?" })).collect();
    let checkpoint = json!({ "checkpoint_id": "c1" });
    Json(json!({ "values": {}, "interrupts": open, "checkpoint": checkpoint })).into_response()
}

async fn state_before(
    State(graph): State<LangGraph>,
    Path((_, checkpoint)): Path<(String, String)>,
) -> Response {
    graph.has_thread(&format!("state {checkpoint}"));
    let said = graph.inner.lock().unwrap().said.clone();
    Json(json!({ "values": { "messages": said } })).into_response()
}

async fn history(State(graph): State<LangGraph>, Json(body): Json<Value>) -> Response {
    let run = body["metadata"]["run_id"].as_str().unwrap();
    assert_eq!((&body["limit"], &body["metadata"]["source"]), (&json!(1), &json!("input")));
    graph.has_thread(&format!("history {run}"));
    let said = graph.inner.lock().unwrap().said.clone();
    Json(json!([{ "values": { "messages": said } }])).into_response()
}

fn ai(id: &str, text: &str) -> Value {
    json!({ "type": "ai", "id": id, "content": text })
}

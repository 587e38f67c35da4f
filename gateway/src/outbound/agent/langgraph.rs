//! The client of a LangGraph server: one run per message on the customer's thread.
//!
//! Takes a server and a question, gives how the attempt ended. The id of a run is kept before its
//! result is waited for, so whoever takes the message over waits for the same run instead of
//! beginning a second one; a run whose id was not heard is looked for by its mark. A run that is
//! left is cancelled and rolled back first, for both tracks may share the thread. Never begins a
//! run twice, never repeats an earlier answer.

mod input;
mod message;
mod question;
mod thread;
mod values;

use std::time::Duration;

use kanarie_crds::route::SecretText;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use crate::outbound::agent::answer::{Answer, Attempt, Failure, Question, RunKeeper};
use crate::outbound::agent::call::{self, Wait};
use crate::outbound::agent::interrupt::Interrupt;
use crate::outbound::agent::json::Visit;
use crate::outbound::agent::langgraph::input::Input;
use crate::outbound::agent::langgraph::message::Said;
use crate::outbound::agent::langgraph::thread::{Earlier, Marked, Open};
use crate::outbound::agent::langgraph::values::{Found, Values};
use crate::outbound::agent::room::Rooms;
use crate::random;

/// Longest silence while a run goes on: the server sends a newline every five seconds.
const IDLE: Duration = Duration::from_secs(15);
/// Time to cancel a run, and again to fetch the answer of one that had finished; and for what is
/// asked besides the run.
const ASIDE: Duration = Duration::from_secs(5);
/// Pause before a broken wait is taken up again.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);
/// Runs of a thread among which a lost one is looked for, the newest first.
const RECENT_RUNS: &str = "10";

/// A server and the right to use it.
#[derive(Clone, Debug)]
pub(crate) struct Server<'a> {
    /// The checked client.
    pub(crate) client: &'a Client,
    /// Base URL.
    pub(crate) base: Url,
    /// The same as the route writes it, to recognise the server of a run.
    pub(crate) written: String,
    /// Sent as `x-api-key`.
    pub(crate) api_key: Option<&'a SecretText>,
    /// The memory for its answers.
    pub(crate) rooms: &'a Rooms,
}

/// A run that was begun: what the store keeps with the head of the conversation.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Base URL of its server, as the route wrote it.
    pub url: String,
    /// The assistant that was asked.
    pub assistant: String,
    /// Its thread.
    pub thread: String,
    /// Its id.
    pub run: String,
    /// Set for one that goes on after a question: what was there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Before>,
}

/// What was there before a run that resumed its graph.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// The checkpoint, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Names the last text of the graph, empty for none.
    #[serde(default)]
    pub said: String,
}

/// A run that is to be begun.
struct Start<'a> {
    assistant: &'a str,
    thread: String,
    input: Input,
    after: Option<Before>,
}

/// What came of the POST.
enum Begun {
    /// Its answer comes.
    Answering(Response),
    /// Nothing was heard of it, but it was begun under this id.
    Unheard(String),
    /// It was not begun, as far as anybody knows.
    Failed(Failure),
}

impl Run {
    /// The run that the store kept; none for one that this version cannot read.
    pub fn parse(kept: &str) -> Option<Self> {
        serde_json::from_str(kept).ok()
    }

    fn kept(&self) -> String {
        json!(self).to_string()
    }
}

impl Server<'_> {
    /// Waits for a run that was begun before, or begins one when there is none any more.
    pub(crate) async fn ask_or_resume(
        &self,
        begun: Option<&Run>,
        assistant: &str,
        question: Question<'_>,
        deadline: Instant,
        keep: &RunKeeper<'_>,
    ) -> Attempt {
        let lost = match begun {
            None if question.may_have_begun => self.begun_before(assistant, question).await,
            _ => None,
        };
        if let Some(run) = begun.or(lost.as_ref()) {
            let attempt = self.wait_for(run, question, deadline).await;
            // Cancelled by somebody who died before they could forget it: it left no trace.
            if attempt.outcome != Err(Failure::Status(404)) {
                return attempt;
            }
        }
        if let Some(resume) = self.resuming(assistant, question, deadline).await {
            let attempt = self.ask(&resume, question, deadline, keep).await;
            // The thread is gone, and the question with it.
            if attempt.outcome != Err(Failure::Status(404)) {
                return attempt;
            }
        }
        let thread = input::thread_id(question.message).to_string();
        let start = Start { assistant, thread, input: Input::Message, after: None };
        self.ask(&start, question, deadline, keep).await
    }

    /// Cancels a run and takes its traces off the thread; gives its answer if it had finished.
    pub(crate) async fn leave(&self, run: &Run, question: Question<'_>) -> Option<Answer> {
        if self.cancel(run).await {
            return None;
        }
        self.join(run, question, Instant::now() + ASIDE).await.ok()
    }

    /// The run that somebody began about the message who died before its id was kept.
    async fn begun_before(&self, assistant: &str, question: Question<'_>) -> Option<Run> {
        let thread = input::thread_id(question.message).to_string();
        let marked = Marked::message(question.message.sid.as_str());
        let run = self.find(&thread, marked, question).await.ok()??;
        Some(Run {
            url: self.written.clone(),
            assistant: assistant.to_owned(),
            thread,
            run,
            after: None,
        })
    }

    /// How the message answers a question that this assistant asked; none when it does not, or when
    /// somebody else answered it meanwhile.
    async fn resuming<'s>(
        &self,
        assistant: &'s str,
        question: Question<'_>,
        deadline: Instant,
    ) -> Option<Start<'s>> {
        let interrupt = question.interrupt?;
        let is_asked = interrupt.is_of(&self.written, assistant);
        if !is_asked || !interrupt.is_open(question.message.received_at) {
            return None;
        }
        let Interrupt { thread, id, said, .. } = interrupt;
        let (thread, said) = (thread.clone(), said.clone());
        let mut open = Open::default();
        let (input, checkpoint) =
            match self.get(&["threads", &thread, "state"], &mut open, question, deadline).await {
                Ok(()) if !open.has(id.as_deref()) => return None,
                Ok(()) => match id.clone().filter(|_| open.are_many()) {
                    Some(id) => (Input::ResumeOne(id), open.checkpoint()),
                    None => (Input::Resume, open.checkpoint()),
                },
                // Nobody knows better than the run itself.
                Err(_) => (Input::Resume, None),
            };
        Some(Start { assistant, thread, input, after: Some(Before { checkpoint, said }) })
    }

    /// Begins a run and waits for its end.
    async fn ask(
        &self,
        start: &Start<'_>,
        question: Question<'_>,
        deadline: Instant,
        keep: &RunKeeper<'_>,
    ) -> Attempt {
        let (response, run) = match self.begin(start, question, deadline).await {
            Begun::Answering(response) => {
                let run = run_id(&response);
                (Some(response), run)
            }
            Begun::Unheard(run) => (None, Some(run)),
            Begun::Failed(failure) => return Attempt::failed(failure),
        };
        let run = run.map(|run| Run {
            url: self.written.clone(),
            assistant: start.assistant.to_owned(),
            thread: start.thread.clone(),
            run,
            after: start.after.clone(),
        });
        if let Some(run) = &run
            && !keep(run.kept()).await
        {
            self.cancel(run).await;
            return Attempt::failed(Failure::LeaseLost);
        }
        let outcome = match response {
            Some(response) => self.answer(response, run.as_ref(), question, deadline).await,
            None => Err(Failure::Broken),
        };
        match (outcome, run) {
            // Without an id there is nothing to take up again or to cancel.
            (Err(Failure::Broken | Failure::Deadline), Some(run)) => {
                self.wait_for(&run, question, deadline).await
            }
            (outcome, _) => Attempt::ended(outcome),
        }
    }

    /// Posts the run. When nothing is heard of it, looks whether it was begun all the same.
    async fn begin(&self, start: &Start<'_>, question: Question<'_>, deadline: Instant) -> Begun {
        let mark = random::token();
        let body = input::body(start.assistant, question.message, &start.input, &mark);
        let mut may_repeat = true;
        loop {
            let path = ["threads", &start.thread, "runs", "wait"];
            let request = self.request(Method::POST, &path).json(&body);
            let unanswered = match call::send_once(request, deadline).await {
                Ok(response) => return begun(response),
                Err(unanswered) => unanswered,
            };
            if !matches!(unanswered.failure, Failure::Broken | Failure::Deadline) {
                return Begun::Failed(unanswered.failure);
            }
            match self.find(&start.thread, Marked::attempt(&mark), question).await {
                Ok(Some(run)) => return Begun::Unheard(run),
                Ok(None) if unanswered.was_closed && may_repeat => may_repeat = false,
                _ => return Begun::Failed(unanswered.failure),
            }
        }
    }

    async fn find(
        &self,
        thread: &str,
        mut marked: Marked<'_>,
        question: Question<'_>,
    ) -> Result<Option<String>, Failure> {
        let fields = ["run_id", "metadata"].map(|field| ("select", field));
        let request = self.request(Method::GET, &["threads", thread, "runs"]);
        let request = request.query(&[("limit", RECENT_RUNS)]).query(&fields);
        self.look(request, &mut marked, question, Instant::now() + ASIDE).await?;
        Ok(marked.found().filter(|id| is_id(id)))
    }

    /// Waits for the end of a run that was begun before, through broken connections.
    async fn wait_for(&self, run: &Run, question: Question<'_>, deadline: Instant) -> Attempt {
        while Instant::now() < deadline {
            let pause = match self.join(run, question, deadline).await {
                Err(Failure::Broken | Failure::Connect | Failure::Status(500..)) => REJOIN_PAUSE,
                Err(Failure::Busy { retry_after, .. }) => {
                    retry_after.unwrap_or_default().max(REJOIN_PAUSE)
                }
                Err(Failure::Deadline) => break,
                outcome => return Attempt::ended(outcome),
            };
            tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
        }
        match self.leave(run, question).await {
            Some(answer) => Attempt { outcome: Ok(answer), late: true },
            None => Attempt::failed(Failure::Deadline),
        }
    }

    /// False when the run had ended before: then its answer stands on the thread.
    async fn cancel(&self, run: &Run) -> bool {
        let request = self
            .request(Method::POST, &["threads", &run.thread, "runs", &run.run, "cancel"])
            .query(&[("wait", "true"), ("action", "rollback")]);
        let sent = call::send(request, Instant::now() + ASIDE).await;
        // A server that cannot be reached is left alone: the customer's answer matters more than
        // a tidy thread.
        !sent.is_ok_and(|response| matches!(response.status().as_u16(), 404 | 409))
    }

    async fn join(
        &self,
        run: &Run,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let path = ["threads", &run.thread, "runs", &run.run, "join"];
        let response = call::send(self.request(Method::GET, &path), deadline).await?;
        self.answer(accepted(response)?, Some(run), question, deadline).await
    }

    /// The answer in the result of a run.
    async fn answer(
        &self,
        response: Response,
        run: Option<&Run>,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut values = Values::new(question.message.sid.as_str());
        let wait = Wait { deadline, idle: Some(IDLE) };
        let room = self.rooms.room(&question.channel.namespace);
        call::read(response, &mut values, wait, room).await?;
        let said = match values.found() {
            Found::Failed => return Err(Failure::Graph),
            Found::Nothing => return Err(Failure::NoText),
            Found::Asked(asked, _) if asked.is_cut => return Err(Failure::TooLong),
            Found::Asked(asked, said) => {
                let Some(run) = run else { return Ok(Answer::Text(asked.text)) };
                let said = said.unwrap_or_default();
                let interrupt = self.interrupt(run, asked.id, said, question);
                return Ok(Answer::Interrupted { text: asked.text, interrupt });
            }
            Found::Undated(said) => {
                if !self.is_new(&said, run, question, deadline).await? {
                    return Err(Failure::NoText);
                }
                said
            }
            Found::Said(said) => said,
        };
        if said.is_cut { Err(Failure::TooLong) } else { Ok(Answer::Text(said.text)) }
    }

    fn interrupt(
        &self,
        run: &Run,
        id: Option<String>,
        said: String,
        question: Question<'_>,
    ) -> Interrupt {
        Interrupt {
            url: run.url.clone(),
            assistant: run.assistant.clone(),
            thread: run.thread.clone(),
            at: question.message.received_at,
            id,
            said,
        }
    }

    /// Whether the run said it: it was not in the state before. What cannot be proven is not.
    async fn is_new(
        &self,
        said: &Said,
        run: Option<&Run>,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<bool, Failure> {
        let Some(run) = run else { return Ok(false) };
        let mut earlier = Earlier::new(&said.name);
        let request = match &run.after {
            // The run's own first checkpoint holds the state before its input.
            None => self
                .request(Method::POST, &["threads", &run.thread, "history"])
                .json(&json!({ "limit": 1, "metadata": { "run_id": run.run, "source": "input" } })),
            Some(Before { checkpoint: Some(id), .. }) => {
                self.request(Method::GET, &["threads", &run.thread, "state", id])
            }
            Some(Before { checkpoint: None, said: before }) => return Ok(said.name != *before),
        };
        match self.look(request, &mut earlier, question, deadline).await {
            Ok(()) => Ok(earlier.is_there() == Some(false)),
            Err(Failure::Status(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn get(
        &self,
        path: &[&str],
        visitor: &mut impl Visit,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let deadline = deadline.min(Instant::now() + ASIDE);
        self.look(self.request(Method::GET, path), visitor, question, deadline).await
    }

    /// Asks something besides the run.
    async fn look(
        &self,
        request: RequestBuilder,
        visitor: &mut impl Visit,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let response = accepted(call::send(request, deadline).await?)?;
        let room = self.rooms.room(&question.channel.namespace);
        call::read(response, visitor, Wait { deadline, idle: Some(IDLE) }, room).await
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = self.client.request(method, url);
        match self.api_key {
            Some(key) => request.header("x-api-key", key.expose()),
            None => request,
        }
    }
}

/// A POST that was answered: a thread that has another run is busy.
fn begun(response: Response) -> Begun {
    let retry_after = call::retry_after(response.headers());
    match accepted(response) {
        Ok(response) => Begun::Answering(response),
        Err(Failure::Status(409)) => Begun::Failed(Failure::Busy { status: 409, retry_after }),
        Err(failure) => Begun::Failed(failure),
    }
}

fn accepted(response: Response) -> Result<Response, Failure> {
    match response.status().as_u16() {
        200 => Ok(response),
        _ => Err(call::refusal(&response)),
    }
}

/// The run's id: the segment after `runs` in the address that the server gives before the body.
fn run_id(response: &Response) -> Option<String> {
    ["content-location", "location"].into_iter().find_map(|name| {
        let location = response.headers().get(name)?.to_str().ok()?;
        let run = location.split('/').skip_while(|segment| *segment != "runs").nth(1)?;
        let run = run.split(['?', '#']).next()?;
        is_id(run).then(|| run.to_owned())
    })
}

fn is_id(run: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=64).contains(&run.len()) && run.bytes().all(is_plain)
}

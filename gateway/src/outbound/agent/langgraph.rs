//! The client of a LangGraph server: one run per message on the customer's thread.
//!
//! Takes a server and a question, gives how the attempt ended. The id of a run is kept before its
//! result is waited for, so whoever takes the message over waits for the same run instead of
//! beginning a second one. A run that is left is cancelled and rolled back first, for both tracks
//! may share the thread. Never posts a run twice.

use std::time::Duration;

use kanarie_crds::route::SecretText;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::envelope::{InboundMessage, MessageKind};
use crate::outbound::agent::answer::{Answer, Attempt, Failure, KeepRun, Question};
use crate::outbound::agent::call::{failure, read};

/// Longest silence while a run goes on: the server sends a newline every five seconds.
const IDLE: Duration = Duration::from_secs(15);
/// Time to cancel a run, and again to fetch the answer of one that had finished.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a broken wait is taken up again.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

/// A server and the right to use it.
#[derive(Clone, Debug)]
pub struct Server<'a> {
    /// The checked client.
    pub client: &'a Client,
    /// Base URL.
    pub base: Url,
    /// The same as the route writes it, to recognise the server of a run.
    pub written: String,
    /// Sent as `x-api-key`.
    pub api_key: Option<&'a SecretText>,
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
}

/// The customer's thread: the same for every revision.
pub fn thread_id(message: &InboundMessage) -> Uuid {
    let name = format!("{}|{}", message.sender, message.customer);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
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
    pub async fn ask_or_resume(
        &self,
        begun: Option<&Run>,
        assistant: &str,
        question: Question<'_>,
        deadline: Instant,
        keep: &KeepRun<'_>,
    ) -> Attempt {
        if let Some(run) = begun {
            let attempt = self.resume(run, question, deadline).await;
            // Cancelled by somebody who died before they could forget it: it left no trace.
            if attempt.outcome != Err(Failure::Status(404)) {
                return attempt;
            }
        }
        self.ask(assistant, question, deadline, keep).await
    }

    /// Begins a run and waits for its end.
    async fn ask(
        &self,
        assistant: &str,
        question: Question<'_>,
        deadline: Instant,
        keep: &KeepRun<'_>,
    ) -> Attempt {
        let thread = thread_id(question.message).to_string();
        let request = self
            .request(Method::POST, &["threads", &thread, "runs", "wait"])
            .json(&body(assistant, question.message));
        let mut response = match begin(request, deadline).await {
            Ok(response) => response,
            Err(failure) => return Attempt::failed(failure),
        };
        let Some(run) = run_id(&response) else {
            // Without an id there is nothing to take up again or to cancel.
            let body = read(&mut response, IDLE, deadline).await;
            return Attempt::ended(body.and_then(|body| answer(&body, question.message)));
        };
        let (url, assistant) = (self.written.clone(), assistant.to_owned());
        let run = Run { url, assistant, thread, run };
        if !keep(run.kept()).await {
            self.cancel(&run).await;
            return Attempt::failed(Failure::LeaseLost);
        }
        match read(&mut response, IDLE, deadline).await {
            Ok(body) => Attempt::ended(answer(&body, question.message)),
            Err(Failure::TooLarge) => Attempt::failed(Failure::TooLarge),
            Err(_) => self.resume(&run, question, deadline).await,
        }
    }

    /// Waits for the end of a run that was begun before, through broken connections.
    async fn resume(&self, run: &Run, question: Question<'_>, deadline: Instant) -> Attempt {
        while Instant::now() < deadline {
            match self.join(run, question.message, deadline).await {
                Err(Failure::Broken | Failure::Connect | Failure::Status(500..)) => {
                    tokio::time::sleep_until(deadline.min(Instant::now() + REJOIN_PAUSE)).await;
                }
                Err(Failure::Deadline) => break,
                outcome => return Attempt::ended(outcome),
            }
        }
        match self.leave(run, question).await {
            Some(answer) => Attempt { outcome: Ok(answer), late: true },
            None => Attempt::failed(Failure::Deadline),
        }
    }

    /// Cancels a run and takes its traces off the thread; gives its answer if it had finished.
    pub async fn leave(&self, run: &Run, question: Question<'_>) -> Option<Answer> {
        if self.cancel(run).await {
            return None;
        }
        self.join(run, question.message, Instant::now() + LEAVE_TIMEOUT).await.ok()
    }

    /// False when the run had ended before: then its answer stands on the thread.
    async fn cancel(&self, run: &Run) -> bool {
        let request = self
            .request(Method::POST, &["threads", &run.thread, "runs", &run.run, "cancel"])
            .query(&[("wait", "true"), ("action", "rollback")]);
        let sent = tokio::time::timeout(LEAVE_TIMEOUT, request.send()).await;
        // A server that cannot be reached is left alone: the customer's answer matters more than
        // a tidy thread.
        !matches!(sent, Ok(Ok(response)) if matches!(response.status().as_u16(), 404 | 409))
    }

    async fn join(
        &self,
        run: &Run,
        message: &InboundMessage,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let path = ["threads", &run.thread, "runs", &run.run, "join"];
        let mut response = begin(self.request(Method::GET, &path), deadline).await?;
        let body = read(&mut response, IDLE, deadline).await?;
        answer(&body, message)
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

fn body(assistant: &str, message: &InboundMessage) -> Value {
    json!({
        "assistant_id": assistant,
        "if_not_exists": "create",
        "multitask_strategy": "enqueue",
        "on_disconnect": "continue",
        "metadata": { "message_sid": message.sid, "provider": "twilio" },
        "input": {
            "messages": [{ "role": "user", "id": message.sid, "content": content(message) }]
        },
    })
}

/// The customer's text, and a word in brackets for everything that is none.
fn content(message: &InboundMessage) -> String {
    let mut parts = Vec::new();
    if !message.text.is_empty() {
        parts.push(message.text.as_str());
    } else if let Some(button) = &message.button {
        parts.push(button.text.as_str());
    }
    parts.extend(message.media.iter().map(|media| media_word(&media.content_type, message.kind)));
    if message.location.is_some() {
        parts.push("[location]");
    }
    if parts.is_empty() {
        parts.push(kind_word(message.kind));
    }
    parts.join("\n")
}

fn media_word(content_type: &str, kind: MessageKind) -> &'static str {
    match content_type.split('/').next().unwrap_or_default() {
        "image" if kind == MessageKind::Sticker => "[sticker]",
        "image" => "[image]",
        "audio" => "[audio]",
        "video" => "[video]",
        "" => kind_word(kind),
        "text" if kind == MessageKind::Contacts => "[contacts]",
        _ => "[document]",
    }
}

fn kind_word(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Text => "[empty]",
        MessageKind::Image => "[image]",
        MessageKind::Audio => "[audio]",
        MessageKind::Video => "[video]",
        MessageKind::Document => "[document]",
        MessageKind::Sticker => "[sticker]",
        MessageKind::Contacts => "[contacts]",
        MessageKind::Location => "[location]",
        MessageKind::Interactive => "[button]",
    }
}

async fn begin(request: RequestBuilder, deadline: Instant) -> Result<Response, Failure> {
    let sent = tokio::time::timeout_at(deadline, request.send()).await;
    let response = sent.map_err(|_| Failure::Deadline)?.map_err(|error| failure(&error))?;
    match response.status().as_u16() {
        200 => Ok(response),
        status => Err(Failure::Status(status)),
    }
}

/// The run's id: the segment after `runs` in the address that the server gives before the body.
fn run_id(response: &Response) -> Option<String> {
    ["content-location", "location"].into_iter().find_map(|name| {
        let location = response.headers().get(name)?.to_str().ok()?;
        let run = location.split('/').skip_while(|segment| *segment != "runs").nth(1)?;
        let run = run.split(['?', '#']).next()?;
        let plain = !run.is_empty()
            && run.len() <= 64
            && run.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain.then(|| run.to_owned())
    })
}

/// The last text of the graph after the customer's own message: an earlier one answers an earlier
/// message. Heartbeats before the JSON are white space.
fn answer(body: &[u8], message: &InboundMessage) -> Result<Answer, Failure> {
    let values: Value = serde_json::from_slice(body).map_err(|_| Failure::NotJson)?;
    if values.get("__error__").is_some() {
        return Err(Failure::Graph);
    }
    let messages = values.get("messages").and_then(Value::as_array).ok_or(Failure::NoText)?;
    let own = messages
        .iter()
        .rposition(|said| said.get("id").and_then(Value::as_str) == Some(&message.sid))
        .ok_or(Failure::NoText)?;
    let texts = messages[own + 1..].iter().rev().filter(|said| is_ai(said)).map(text);
    texts.into_iter().find(|text| !text.trim().is_empty()).map(Answer::Text).ok_or(Failure::NoText)
}

fn is_ai(said: &Value) -> bool {
    let word = |field| said.get(field).and_then(Value::as_str);
    matches!(word("type"), Some("ai" | "AIMessageChunk")) || word("role") == Some("assistant")
}

/// The content as text: a string, or the text blocks of a list.
fn text(said: &Value) -> String {
    match said.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => blocks
            .iter()
            .filter_map(|block| match block {
                Value::String(text) => Some(text.as_str()),
                block if block.get("type").and_then(Value::as_str) == Some("text") => {
                    block.get("text").and_then(Value::as_str)
                }
                _ => None,
            })
            .collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{answer, body, content, thread_id};
    use crate::envelope::{InboundMessage, Media, MessageKind};
    use crate::outbound::agent::answer::{Answer, Failure};

    fn message(text: &str, kind: MessageKind) -> InboundMessage {
        InboundMessage {
            sid: "SM2".to_owned(),
            account: "AC1".to_owned(),
            sender: "whatsapp:+14155238886".to_owned(),
            customer: "whatsapp:+14017122661".to_owned(),
            text: text.to_owned(),
            media: Vec::new(),
            location: None,
            button: None,
            kind,
            received_at: 0,
        }
    }

    fn answered(messages: serde_json::Value) -> Result<Answer, Failure> {
        let state = json!({ "messages": messages }).to_string();
        answer(format!("\n\n{state}").as_bytes(), &message("Hallo", MessageKind::Text))
    }

    #[test]
    fn the_thread_is_the_uuid_of_sender_and_customer() {
        let thread = thread_id(&message("Hallo", MessageKind::Text));
        assert_eq!(thread.to_string(), "f56f5df1-cee8-549c-bb4d-6ab0c830f20d");
    }

    #[test]
    fn a_run_names_the_message_so_that_a_repetition_replaces_it() {
        let body = body("agent", &message("Hallo", MessageKind::Text));
        assert_eq!(body["input"]["messages"][0]["id"], "SM2");
        assert_eq!(body["metadata"]["message_sid"], "SM2");
        assert_eq!(body["if_not_exists"], "create");
        assert_eq!(body["multitask_strategy"], "enqueue");
    }

    #[test]
    fn the_answer_is_the_last_text_after_the_own_message() {
        let answer = answered(json!([
            {"type": "human", "id": "SM1", "content": "Eerder"},
            {"type": "ai", "content": "Oud"},
            {"type": "human", "id": "SM2", "content": "Hallo"},
            {"type": "ai", "content": "Even kijken"},
            {"type": "tool", "content": "rows"},
            {"type": "ai", "content": [{"type": "text", "text": "Dag "}, {"type": "text", "text": "jij"}]},
            {"type": "ai", "content": "", "tool_calls": []},
        ]));
        assert_eq!(answer, Ok(Answer::Text("Dag jij".to_owned())));
    }

    #[test]
    fn an_earlier_answer_is_never_repeated() {
        let before = json!({"type": "ai", "content": "Oud"});
        assert_eq!(answered(json!([before.clone()])), Err(Failure::NoText));
        let own = json!({"type": "human", "id": "SM2", "content": "Hallo"});
        assert_eq!(answered(json!([before, own])), Err(Failure::NoText));
    }

    #[test]
    fn a_failed_graph_is_a_failure_although_the_status_is_200() {
        let body = br#"{"__error__": {"error": "ValueError", "message": "x"}}"#;
        let message = message("Hallo", MessageKind::Text);
        assert_eq!(answer(body, &message), Err(Failure::Graph));
    }

    #[test]
    fn what_is_not_text_is_a_word_in_brackets() {
        let picture = Media { url: "u".to_owned(), content_type: "image/jpeg".to_owned() };
        let mut captioned = message("Kijk", MessageKind::Image);
        captioned.media = vec![picture.clone()];
        assert_eq!(content(&captioned), "Kijk\n[image]");
        let mut alone = message("", MessageKind::Image);
        alone.media = vec![picture];
        assert_eq!(content(&alone), "[image]");
        assert_eq!(content(&message("", MessageKind::Location)), "[location]");
        assert_eq!(content(&message("", MessageKind::Audio)), "[audio]");
    }
}

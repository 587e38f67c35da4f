//! Asks the agent of a revision about one message.
//!
//! Takes a question, a revision and where to keep the id of a run; gives how the attempt ended,
//! within the revision's deadline. Never follows a redirect, never connects to an address that
//! `address` refuses, never reads more than 8 MiB, never asks twice, and never puts a URL, a text
//! or a token into a failure.

pub mod address;
pub mod breaker;
pub mod http;
pub mod langgraph;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use kanarie_crds::route::{AgentRoute, ChannelRef, RevisionRoute, SecretText};
use kanarie_queue::types::{Class, ConversationId};
use reqwest::{Client, Response, redirect, retry};
use tokio::time::Instant;

use crate::envelope::InboundMessage;
use crate::outbound::agent::address::{AddressRefused, Allow};
use crate::outbound::agent::breaker::{Breaker, Permission};
use crate::outbound::agent::langgraph::{Run, Server};

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Below the five seconds after which common servers close an idle connection, so that a question
/// is not written into a connection that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// Most bytes of an answer.
pub const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// From so many agents on, those without trouble are forgotten.
const MANY_BREAKERS: usize = 1_024;

/// The client of every agent, and what is known about their health.
#[derive(Debug)]
pub struct Agents {
    client: Client,
    allow: Arc<Allow>,
    breakers: Mutex<HashMap<String, Breaker>>,
}

/// What an agent is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The channel that the customer wrote to.
    pub channel: &'a ChannelRef,
    /// The conversation, stable per customer and channel.
    pub conversation: &'a ConversationId,
    /// The message.
    pub message: &'a InboundMessage,
}

/// Keeps the id of a run with the head of the conversation; false when the lease is lost.
pub type KeepRun<'a> = dyn Fn(String) -> BoxFuture<'a, bool> + Send + Sync + 'a;

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This text, not blank.
    Text(String),
    /// Deliberately nothing.
    Silence,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The answer, or why there is none.
    pub outcome: Result<Answer, Failure>,
    /// The answer came after the deadline: it is used, and the attempt counts as a timeout.
    pub late: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its URL cannot be used.
    #[error("the agent's URL is not usable: give an http or https URL with a host")]
    Url,
    /// It is at an address that is not asked.
    #[error(
        "the agent is at a loopback, link-local or metadata address: allow it by --agent-allow"
    )]
    Address,
    /// It cannot be connected to.
    #[error("the agent cannot be connected to")]
    Connect,
    /// The connection broke.
    #[error("the connection to the agent broke")]
    Broken,
    /// It did not answer before its deadline.
    #[error("the agent did not answer before its deadline")]
    Deadline,
    /// It answered with this status.
    #[error("the agent answered with status {0}")]
    Status(u16),
    /// Its graph failed.
    #[error("the agent's graph failed: see the log of the LangGraph server")]
    Graph,
    /// Its answer is over 8 MiB.
    #[error("the agent's answer is over 8 MiB")]
    TooLarge,
    /// Its text is too long for a chat.
    #[error("the agent's text is too long: more than 20 messages of 1,600 characters")]
    TooLong,
    /// Its answer cannot be read.
    #[error("the agent's answer is not the JSON of its protocol")]
    NotJson,
    /// It answered without a text.
    #[error("the agent answered without a text")]
    NoText,
    /// The lease was lost meanwhile: this is nobody's outcome.
    #[error("the conversation was taken over by another worker")]
    LeaseLost,
}

impl Agents {
    /// A client that connects to public and private addresses, and to what `allow` names.
    pub fn new(allow: Allow) -> Result<Self, reqwest::Error> {
        let allow = Arc::new(allow);
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .dns_resolver(address::Resolver::new(Arc::clone(&allow)))
            .build()
            .map_err(reqwest::Error::without_url)?;
        Ok(Self { client, allow, breakers: Mutex::default() })
    }

    /// Whether the agent may be asked now. A Go must be followed by [`Agents::ask`].
    pub fn permit(&self, channel: &ChannelRef, agent: &AgentRoute) -> Permission {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        match breakers.get_mut(&identity(channel, agent)) {
            Some(breaker) => breaker.permit(Instant::now()),
            None => Permission::Go,
        }
    }

    /// Asks, or with `resume` waits for a run that was begun before.
    pub async fn ask(
        &self,
        question: Question<'_>,
        revision: &RevisionRoute,
        resume: Option<&Run>,
        keep: &KeepRun<'_>,
    ) -> Attempt {
        let deadline = Instant::now() + Duration::from_millis(revision.timeout_ms);
        let attempt = match &revision.agent {
            AgentRoute::LangGraph { url, assistant_id, api_key } => {
                match self.server(url, api_key.as_ref()) {
                    Ok(server) => {
                        server.ask_or_resume(resume, assistant_id, question, deadline, keep).await
                    }
                    Err(failure) => Attempt::failed(failure),
                }
            }
            AgentRoute::Http { url, token } => match address::check_url(url, &self.allow) {
                Ok(url) => http::ask(&self.client, url, token.as_ref(), question, deadline).await,
                Err(failure) => Attempt::failed(failure),
            },
        };
        self.record(question.channel, &revision.agent, &attempt);
        attempt
    }

    /// Leaves a run that an earlier owner began: cancels it, and gives its answer if it had
    /// finished.
    pub async fn leave(
        &self,
        run: &Run,
        api_key: Option<&SecretText>,
        question: Question<'_>,
    ) -> Option<Answer> {
        let server = self.server(&run.url, api_key).ok()?;
        server.leave(run, question).await
    }

    fn server<'a>(
        &'a self,
        url: &str,
        api_key: Option<&'a SecretText>,
    ) -> Result<Server<'a>, Failure> {
        let base = address::check_url(url, &self.allow)?;
        Ok(Server { client: &self.client, base, written: url.to_owned(), api_key })
    }

    fn record(&self, channel: &ChannelRef, agent: &AgentRoute, attempt: &Attempt) {
        let Some(healthy) = attempt.health() else { return };
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() >= MANY_BREAKERS {
            breakers.retain(|_, breaker| !breaker.is_idle());
        }
        breakers.entry(identity(channel, agent)).or_default().record(healthy, Instant::now());
    }
}

impl Attempt {
    /// An attempt that ended in time.
    pub fn ended(outcome: Result<Answer, Failure>) -> Self {
        Self { outcome, late: false }
    }

    /// An attempt without an answer.
    pub fn failed(failure: Failure) -> Self {
        Self::ended(Err(failure))
    }

    /// How it counts as evidence, the latency limit aside; none for an attempt that its own worker
    /// cut off.
    pub fn class(&self) -> Option<Class> {
        match &self.outcome {
            Ok(_) if self.late => Some(Class::Timeout),
            Ok(_) => Some(Class::Success),
            Err(failure) => failure.class(),
        }
    }

    /// Whether the agent is in good health; none when the attempt says nothing about that. An
    /// agent that answers badly is judged by its revision's evidence, not by its breaker.
    fn health(&self) -> Option<bool> {
        Some(match self.outcome {
            Ok(_) => !self.late,
            Err(Failure::LeaseLost) => return None,
            Err(Failure::Status(status)) => status < 500,
            Err(Failure::Connect | Failure::Broken | Failure::Deadline | Failure::Address) => false,
            Err(_) => true,
        })
    }
}

impl Failure {
    /// How it counts as evidence; none for an attempt that its own worker cut off.
    pub fn class(self) -> Option<Class> {
        Some(match self {
            Self::LeaseLost => return None,
            Self::Deadline => Class::Timeout,
            Self::Url
            | Self::Address
            | Self::Connect
            | Self::Broken
            | Self::Status(_)
            | Self::Graph => Class::Http,
            Self::TooLarge | Self::TooLong | Self::NotJson => Class::Invalid,
            Self::NoText => Class::NoAnswer,
        })
    }
}

/// What a breaker stands for: one endpoint, whichever channels and revisions of a namespace ask it.
/// Another namespace could name the same URL with a deadline that nobody meets, and so stop the
/// channels of this one.
fn identity(channel: &ChannelRef, agent: &AgentRoute) -> String {
    let namespace = &channel.namespace;
    match agent {
        AgentRoute::LangGraph { url, assistant_id, .. } => {
            format!("{namespace} {url} {assistant_id}")
        }
        AgentRoute::Http { url, .. } => format!("{namespace} {url}"),
    }
}

/// What an error of the client means. The error itself names the URL, so it goes no further.
fn failure(error: &reqwest::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<AddressRefused>() {
            return Failure::Address;
        }
        source = cause.source();
    }
    if error.is_connect() {
        Failure::Connect
    } else if error.is_timeout() {
        Failure::Deadline
    } else {
        Failure::Broken
    }
}

/// The body up to 8 MiB, waiting at most `idle` for the next part of it.
async fn read(
    response: &mut Response,
    idle: Duration,
    deadline: Instant,
) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        let until = deadline.min(Instant::now() + idle);
        let chunk = match tokio::time::timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(body),
            Ok(Err(error)) => return Err(failure(&error)),
            Err(_) if Instant::now() >= deadline => return Err(Failure::Deadline),
            Err(_) => return Err(Failure::Broken),
        };
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use kanarie_crds::route::{AgentRoute, ChannelRef};

    use super::{Agents, Attempt, Failure};
    use crate::outbound::agent::address::Allow;
    use crate::outbound::agent::breaker::Permission;

    #[test]
    fn a_breaker_opens_for_the_channels_of_its_namespace_only() {
        // Another test may have chosen it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let agents = Agents::new(Allow::default()).unwrap();
        let agent = AgentRoute::Http { url: "http://agent".to_owned(), token: None };
        let channel = |namespace: &str, name: &str| ChannelRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
        };
        for _ in 0..5 {
            agents.record(&channel("a", "one"), &agent, &Attempt::failed(Failure::Deadline));
        }
        assert!(matches!(agents.permit(&channel("a", "two"), &agent), Permission::Wait(_)));
        assert_eq!(agents.permit(&channel("b", "three"), &agent), Permission::Go);
    }
}

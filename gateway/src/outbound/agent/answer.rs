//! What an agent is asked, and how an attempt ended: the words of both protocols.
//!
//! Takes what a client of an agent found out, gives how it counts. Pure. Never holds a URL or a
//! token, and no failure holds a text.

use futures::future::BoxFuture;
use kanarie_crds::route::ChannelRef;
use kanarie_queue::types::{Class, ConversationId};

use crate::envelope::InboundMessage;

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
    pub(crate) fn health(&self) -> Option<bool> {
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

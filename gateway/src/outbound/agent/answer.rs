//! What an agent is asked, and how an attempt ended: the words of both protocols.
//!
//! Takes what a client of an agent found out, gives how it counts. Pure. No failure holds a URL, a
//! text or a token.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use kanarie_crds::route::ChannelRef;
use kanarie_words::class::Class;
use kanarie_words::ids::ConversationId;

use crate::envelope::InboundMessage;
use crate::outbound::agent::breaker::Health;
use crate::outbound::agent::interrupt::Interrupt;

/// Longest text that fits into 20 messages of 1,600 characters, in bytes.
pub(crate) const LONGEST_TEXT: usize = 20 * 1_600 * 4;

/// What an agent is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The channel that the customer wrote to.
    pub channel: &'a ChannelRef,
    /// The conversation, stable per customer and channel.
    pub conversation: &'a ConversationId,
    /// The message.
    pub message: &'a InboundMessage,
    /// The question of a graph that this message may answer.
    pub interrupt: Option<&'a Interrupt>,
    /// Whether somebody may have begun to ask about it before, and died.
    pub may_have_begun: bool,
}

/// Keeps the id of a run with the head of the conversation; false when the lease is lost.
pub type RunKeeper<'a> = dyn Fn(String) -> BoxFuture<'a, bool> + Send + Sync + 'a;

/// What an agent answers. What it says to the customer is not shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Answer {
    /// This text, not blank.
    Text(String),
    /// Deliberately nothing.
    Silence,
    /// The graph stopped to ask this: the next message of the conversation answers it.
    Interrupted {
        /// The question, not blank.
        text: String,
        /// To be kept with the conversation and handed back with its next message.
        interrupt: Interrupt,
    },
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
        "the agent is at a loopback, link-local or metadata address, or its URL leads to a private one \
         where --agent-private denies those: name its Service, or allow it by --agent-allow"
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
    /// It asks to be left alone for a while.
    #[error("the agent is busy: it answered with status {status}")]
    Busy {
        /// The status.
        status: u16,
        /// How long it asks for, an hour at the most.
        retry_after: Option<Duration>,
    },
    /// Its graph failed.
    #[error("the agent's graph failed: see the log of the LangGraph server")]
    Graph,
    /// Its answer is over 256 MiB.
    #[error("the agent's answer is over 256 MiB")]
    TooLarge,
    /// Its text is too long for a chat.
    #[error("the agent's text is too long: more than 20 messages of 1,600 characters")]
    TooLong,
    /// Its answer cannot be read.
    #[error("the agent's answer is not the JSON of its protocol")]
    NotJson,
    /// Its answer is compressed in a way that nobody asked for.
    #[error("the agent's answer is compressed, but not by gzip: answer as Accept-Encoding asks")]
    Encoded,
    /// It answered without a text.
    #[error("the agent answered without a text")]
    NoText,
    /// There was no memory for its answer: this is nobody's outcome.
    #[error("too many long answers to the agent's namespace are being read: this one waits")]
    NoMemory,
    /// The lease was lost meanwhile: this is nobody's outcome.
    #[error("the conversation was taken over by another worker")]
    LeaseLost,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Silence => f.write_str("Silence"),
            Self::Interrupted { text, .. } => write!(f, "Interrupted({} bytes)", text.len()),
        }
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

    /// What it says about the agent's health; none when it says nothing. An agent that answers
    /// badly is judged by its revision's evidence, not by its breaker.
    pub(crate) fn health(&self) -> Option<Health> {
        Some(match self.outcome {
            Ok(_) if self.late => Health::Ill(None),
            Ok(_) => Health::Well,
            Err(Failure::LeaseLost | Failure::NoMemory | Failure::Url) => return None,
            Err(failure @ Failure::Busy { .. }) if !failure.is_busy() => return None,
            Err(Failure::Busy { retry_after, .. }) => Health::Ill(retry_after),
            Err(Failure::Status(status)) if status < 500 => Health::Well,
            Err(
                Failure::Status(_)
                | Failure::Connect
                | Failure::Broken
                | Failure::Deadline
                | Failure::Address
                | Failure::Graph,
            ) => Health::Ill(None),
            Err(
                Failure::TooLarge
                | Failure::TooLong
                | Failure::NotJson
                | Failure::Encoded
                | Failure::NoText,
            ) => Health::Well,
        })
    }
}

impl Failure {
    /// Whether the agent has no room for more now. A thread that is busy says nothing of its server.
    pub(crate) fn is_busy(self) -> bool {
        matches!(self, Self::Busy { status, .. } if status != 409)
    }

    /// How it counts as evidence; none for an attempt that its own worker cut off.
    pub fn class(self) -> Option<Class> {
        Some(match self {
            Self::LeaseLost | Self::NoMemory => return None,
            Self::Deadline => Class::Timeout,
            Self::Url | Self::Address => Class::Unavailable,
            Self::Connect | Self::Broken | Self::Status(_) | Self::Busy { .. } | Self::Graph => {
                Class::Http
            }
            Self::TooLarge | Self::TooLong | Self::NotJson | Self::Encoded => Class::Invalid,
            Self::NoText => Class::NoAnswer,
        })
    }
}

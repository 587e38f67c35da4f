//! What happens to the turns of the outbound line, as events.
//!
//! Takes an event, gives its metric and its log line; an error comes as the sentence that its own
//! file made of it. Never sees customer text, a phone number or a secret.

use std::time::Duration;

use kanarie_words::class::Class;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use crate::events::metrics::{Counters, Histograms, counter, registered};
use crate::labels::{DeadLetterClass, Label as _, SendClass};

/// One thing that happened to a turn.
#[derive(Clone, Debug)]
pub enum OutboundEvent {
    /// The store did not answer a verb of a worker; it is asked again.
    StoreFailed {
        /// The store's error; store errors name no customer.
        error: String,
    },
    /// Another replica fell silent: what it held goes on.
    TakenOver {
        /// Its name.
        replica: String,
        /// How many leases ended.
        leases: u64,
    },
    /// A worker stopped because its lease is, or may be, somebody else's.
    LeaseLost,
    /// A message was left for a newer gateway, which wrote it.
    LeftForNewer,
    /// An agent was asked.
    Asked {
        /// How it counts.
        class: Class,
        /// From the question to the answer or the failure.
        took: Duration,
        /// Why there is no answer.
        failure: Option<String>,
    },
    /// Stable answered a message that the canary had failed on.
    Rescued,
    /// A segment was posted to Twilio.
    Posted {
        /// Why it was not sent; none when it was.
        refused: Option<SendClass>,
        /// Twilio's error code, if it gave one.
        code: Option<u32>,
        /// Whether this version has a class for that code: all others are one label.
        known: bool,
    },
    /// Twilio did not list its messages, so an unknown outcome stays unknown for now.
    ListFailed {
        /// Why.
        error: String,
    },
    /// Twilio refuses the credentials of a channel: its replies wait.
    CredentialsRefused {
        /// The channel, as `namespace/name`.
        channel: String,
        /// Twilio's error code.
        code: Option<u32>,
    },
    /// The whole reply to a message is sent.
    Answered {
        /// From the admission of the message.
        took: Duration,
    },
    /// A message became a dead letter.
    DeadLetter {
        /// Why.
        class: DeadLetterClass,
    },
}

/// The metrics of the outbound line.
pub(super) struct OutboundMetrics {
    store_failures: IntCounter,
    leases_lost: IntCounter,
    taken_over: IntCounter,
    left_for_newer: IntCounter,
    attempts: Counters<Class>,
    attempt_seconds: Histograms<Class>,
    rescues: IntCounter,
    /// By outcome and Twilio's code; codes that this version does not know are one.
    sends: IntCounterVec,
    list_failures: IntCounter,
    credentials_refused: IntCounter,
    reply_seconds: Histogram,
    dead_letters: Counters<DeadLetterClass>,
}

/// Buckets for agents and whole replies: from loopback to the longest timeout.
const AGENT_BUCKETS: [f64; 12] =
    [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

impl OutboundMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let single = |name: &str, help: &str| counter(registry, name, help);
        let sends = Opts::new("kanarie_sends_total", "Posted segments by outcome and error code.");
        Self {
            store_failures: single(
                "kanarie_worker_store_failures_total",
                "Verbs of a worker that the store did not answer.",
            ),
            leases_lost: single(
                "kanarie_leases_lost_total",
                "Turns that ended because the lease was somebody else's.",
            ),
            taken_over: single(
                "kanarie_leases_taken_over_total",
                "Leases that this replica ended because another one fell silent.",
            ),
            left_for_newer: single(
                "kanarie_left_for_newer_total",
                "Messages that were put back because a newer gateway wrote them.",
            ),
            attempts: Counters::new(
                registry,
                "kanarie_agent_attempts_total",
                "Agent attempts that ended, by class.",
                "class",
            ),
            attempt_seconds: Histograms::new(
                registry,
                "kanarie_agent_seconds",
                "Time that agents took, by class.",
                "class",
                &AGENT_BUCKETS,
            ),
            rescues: single(
                "kanarie_rescues_total",
                "Messages that stable answered after the canary had failed on them.",
            ),
            sends: registered(registry, IntCounterVec::new(sends, &["outcome", "code"])),
            list_failures: single(
                "kanarie_list_failures_total",
                "Listings that Twilio did not answer.",
            ),
            credentials_refused: single(
                "kanarie_credentials_refused_total",
                "Channels whose sending began to wait for other credentials.",
            ),
            reply_seconds: reply_seconds(registry),
            dead_letters: Counters::new(
                registry,
                "kanarie_dead_letters_total",
                "Messages that could not be answered, by class.",
                "class",
            ),
        }
    }

    pub(super) fn count(&self, event: &OutboundEvent) {
        match event {
            OutboundEvent::StoreFailed { .. } => self.store_failures.inc(),
            OutboundEvent::LeaseLost => self.leases_lost.inc(),
            OutboundEvent::TakenOver { leases, .. } => self.taken_over.inc_by(*leases),
            OutboundEvent::LeftForNewer => self.left_for_newer.inc(),
            OutboundEvent::Asked { class, took, .. } => {
                self.attempts.inc(*class);
                self.attempt_seconds.observe(*class, *took);
            }
            OutboundEvent::Rescued => self.rescues.inc(),
            OutboundEvent::Posted { refused, code, known } => {
                let outcome = refused.map_or("sent", SendClass::as_str);
                self.sends.with_label_values(&[outcome, &code_word(*code, *known)]).inc();
            }
            OutboundEvent::ListFailed { .. } => self.list_failures.inc(),
            OutboundEvent::CredentialsRefused { .. } => self.credentials_refused.inc(),
            OutboundEvent::Answered { took } => self.reply_seconds.observe(took.as_secs_f64()),
            OutboundEvent::DeadLetter { class } => self.dead_letters.inc(*class),
        }
    }
}

fn reply_seconds(registry: &Registry) -> Histogram {
    let text = "Time from the admission of a message to its sent reply.";
    let options = HistogramOpts::new("kanarie_reply_seconds", text);
    registered(registry, Histogram::with_opts(options.buckets(AGENT_BUCKETS.to_vec())))
}

/// A code as a label: every one that has a class, and one word for all others.
fn code_word(code: Option<u32>, known: bool) -> String {
    match code {
        None => "none".to_owned(),
        Some(code) if known => code.to_string(),
        Some(_) => "other".to_owned(),
    }
}

impl OutboundEvent {
    /// Writes its line; a reply that was sent is a number, not a line.
    pub(super) fn log(&self) {
        match self {
            Self::StoreFailed { error } => {
                tracing::debug!(%error, "a worker waits: the store gave no answer");
            }
            Self::TakenOver { replica, leases } => {
                tracing::warn!(%replica, leases, "a replica fell silent: its conversations go on here");
            }
            Self::LeaseLost => {
                tracing::warn!("a worker stopped: its conversation is another's now")
            }
            Self::LeftForNewer => {
                tracing::warn!("a newer gateway wrote this message or its reply: it waits for one");
            }
            Self::Asked { class, took, failure } => match failure {
                Some(failure) => tracing::warn!(class = class.as_str(), %failure, "no answer"),
                None => {
                    let took_ms = took.as_millis();
                    tracing::debug!(class = class.as_str(), took_ms, "an agent answered");
                }
            },
            Self::Rescued => tracing::info!("stable answered in place of the canary"),
            Self::Posted { refused: None, .. } => tracing::debug!("a segment was sent"),
            Self::Posted { refused: Some(class), code, .. } => {
                tracing::warn!(outcome = class.as_str(), code, "a segment was not sent");
            }
            Self::ListFailed { error } => tracing::warn!(%error, "an unknown send stays unknown"),
            Self::CredentialsRefused { channel, code } => {
                tracing::error!(channel, code, "Twilio refuses the credentials: replies wait");
            }
            Self::Answered { took } => {
                tracing::debug!(took_ms = took.as_millis(), "a message was answered");
            }
            Self::DeadLetter { class } => {
                tracing::error!(class = class.as_str(), "a message became a dead letter");
            }
        }
    }
}

//! The numbers and lines of the second line's events.
//!
//! Takes an event of the workers, gives its metric and its log line. Never sees customer text, a
//! phone number or a secret.

use kanarie_queue::types::Class;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use crate::events::metrics::{Counters, Histograms, counter, registered};
use crate::events::{DeadLetterClass, Event, Label as _, SendOutcome};
use crate::outbound::twilio::classify::classify_code;

/// The metrics of the second line.
pub(super) struct WorkerMetrics {
    store_failures: IntCounter,
    leases_lost: IntCounter,
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

impl WorkerMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let single = |name: &str, help: &str| counter(registry, name, help);
        let sends = Opts::new("kanarie_sends_total", "Posted segments by outcome and error code.");
        let replies = HistogramOpts::new(
            "kanarie_reply_seconds",
            "Time from the admission of a message to its sent reply.",
        );
        Self {
            store_failures: single(
                "kanarie_worker_store_failures_total",
                "Verbs of a worker that the store did not answer.",
            ),
            leases_lost: single(
                "kanarie_leases_lost_total",
                "Turns that ended because the lease was somebody else's.",
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
            reply_seconds: registered(
                registry,
                Histogram::with_opts(replies.buckets(AGENT_BUCKETS.to_vec())),
            ),
            dead_letters: Counters::new(
                registry,
                "kanarie_dead_letters_total",
                "Messages that could not be answered, by class.",
                "class",
            ),
        }
    }

    pub(super) fn count(&self, event: &Event) {
        match event {
            Event::WorkerStoreFailed { .. } => self.store_failures.inc(),
            Event::LeaseLost => self.leases_lost.inc(),
            Event::Asked { class, took, .. } => {
                self.attempts.inc(*class);
                self.attempt_seconds.observe(*class, *took);
            }
            Event::Rescued => self.rescues.inc(),
            Event::Posted { outcome, code } => {
                self.sends.with_label_values(&[outcome.as_str(), &code_word(*code)]).inc();
            }
            Event::ListFailed { .. } => self.list_failures.inc(),
            Event::CredentialsRefused { .. } => self.credentials_refused.inc(),
            Event::Answered { took } => self.reply_seconds.observe(took.as_secs_f64()),
            Event::DeadLetter { class } => self.dead_letters.inc(*class),
            Event::Webhook { .. }
            | Event::StoreFailed { .. }
            | Event::ConnectionClosed { .. }
            | Event::Lifecycle { .. }
            | Event::Routes(_) => {}
        }
    }
}

/// A code as a label: every one that has a class, and one word for all others.
fn code_word(code: Option<u32>) -> String {
    match code {
        None => "none".to_owned(),
        Some(code) if classify_code(code).is_some() => code.to_string(),
        Some(_) => "other".to_owned(),
    }
}

/// The lines of the second line; a reply that was sent is a number, not a line.
pub(super) fn log(event: &Event) {
    match event {
        Event::WorkerStoreFailed { error } => {
            tracing::warn!(%error, "a worker waits: the store gave no answer");
        }
        Event::LeaseLost => tracing::warn!("a worker stopped: its conversation is another's now"),
        Event::Asked { class, took, failure } => match failure {
            Some(failure) => tracing::warn!(class = class.as_str(), %failure, "no answer"),
            None => {
                let took_ms = took.as_millis();
                tracing::debug!(class = class.as_str(), took_ms, "an agent answered");
            }
        },
        Event::Rescued => tracing::info!("stable answered in place of the canary"),
        Event::Posted { outcome: SendOutcome::Sent, .. } => tracing::debug!("a segment was sent"),
        Event::Posted { outcome, code } => {
            tracing::warn!(outcome = outcome.as_str(), code, "a segment was not sent");
        }
        Event::ListFailed { error } => tracing::warn!(%error, "an unknown send stays unknown"),
        Event::CredentialsRefused { channel, code } => {
            tracing::error!(channel, code, "Twilio refuses the credentials: replies wait");
        }
        Event::Answered { took } => {
            tracing::debug!(took_ms = took.as_millis(), "a message was answered");
        }
        Event::DeadLetter { class } => {
            tracing::error!(class = class.as_str(), "a message became a dead letter");
        }
        Event::Webhook { .. }
        | Event::StoreFailed { .. }
        | Event::ConnectionClosed { .. }
        | Event::Lifecycle { .. }
        | Event::Routes(_) => {}
    }
}

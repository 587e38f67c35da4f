//! Everything worth telling, as typed events: each one is logged and counted in one place.
//!
//! Takes an event, gives a log line where a person would want one and a number for `/metrics`.
//! Labels come from enums only. Never sees customer text, a phone number or a secret: no event has
//! a field for one. Histograms carry no channel.

mod metrics;
pub mod routes;
mod workers;

use std::sync::LazyLock;
use std::time::Duration;

use kanarie_queue::types::Class;
use prometheus::{Encoder as _, IntCounter, Registry, TextEncoder};

use crate::events::metrics::{Counters, Counters2, Histograms, counter};
use crate::events::routes::{RoutesEvent, RoutesTrouble};
use crate::events::workers::WorkerMetrics;
use crate::outbound::agent::Failure;
use crate::outbound::twilio::ListError;

/// Logs and counts an event.
pub fn emit(event: &Event) {
    METRICS.count(event);
    log(event);
}

/// The page of `/metrics`, in Prometheus' text format.
pub fn render() -> String {
    METRICS.render()
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A webhook was answered.
    Webhook {
        /// Which of the two URLs.
        endpoint: Endpoint,
        /// How it was answered.
        outcome: WebhookOutcome,
        /// From the complete header to the answer.
        took: Duration,
    },
    /// The store did not answer an admission.
    StoreFailed {
        /// The store's error; store errors name no customer.
        error: String,
    },
    /// A connection was closed because its client took too long or too many were open.
    ConnectionClosed {
        /// Why.
        reason: CloseReason,
    },
    /// The gateway's own state changed.
    Lifecycle {
        /// What happened.
        change: LifecycleChange,
    },
    /// Something happened to the routes that this replica obeys.
    Routes(RoutesEvent),
    /// The store did not answer a verb of a worker; it is asked again.
    WorkerStoreFailed {
        /// The store's error; store errors name no customer.
        error: String,
    },
    /// A worker stopped because its lease is, or may be, somebody else's.
    LeaseLost,
    /// An agent was asked.
    Asked {
        /// How it counts.
        class: Class,
        /// From the question to the answer or the failure.
        took: Duration,
        /// Why there is no answer.
        failure: Option<Failure>,
    },
    /// Stable answered a message that the canary had failed on.
    Rescued,
    /// A segment was posted to Twilio.
    Posted {
        /// What came of it.
        outcome: SendOutcome,
        /// Twilio's error code.
        code: Option<u32>,
    },
    /// Twilio did not list its messages, so an unknown outcome stays unknown for now.
    ListFailed {
        /// Why.
        error: ListError,
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

/// What came of a POST to Twilio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The message exists.
    Sent,
    /// Not processed; it is repeated.
    Retry,
    /// Not processed; it is repeated later.
    RetryAfter,
    /// It may exist.
    Unknown,
    /// The account, its credentials or its sender are not accepted.
    Credentials,
    /// The customer does not want messages.
    OptOut,
    /// It will never be accepted.
    Permanent,
    /// Only a template is accepted now.
    NeedsTemplate,
}

/// Why a message could not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterClass {
    /// The agent finally did not answer in time.
    Timeout,
    /// The agent finally could not be reached or answered with an error.
    Http,
    /// The agent's last answer was none of its protocol.
    Invalid,
    /// The agent finally gave no text.
    NoAnswer,
    /// Three workers died on it.
    Crashed,
    /// Its channel was gone for a day.
    NoChannel,
    /// It was stored by a version that writes something else.
    Unreadable,
    /// Whether its reply was sent is not known, twice.
    Unknown,
    /// Twilio could not be reached, or was over a limit, for a day.
    NotAccepted,
    /// The customer does not want messages.
    OptOut,
    /// Twilio will never accept its reply.
    Permanent,
    /// Its reply came after the customer's 24 hours.
    NeedsTemplate,
}

/// A webhook URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/webhooks/twilio/whatsapp`.
    Message,
    /// `/webhooks/twilio/status`.
    Status,
}

/// How a webhook was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// 200: the message is durable.
    Queued,
    /// 200: the message was admitted before.
    Duplicate,
    /// 200: a kind of message that no agent is asked about.
    Ignored,
    /// 200: a status callback.
    StatusCallback,
    /// 429.
    Limited,
    /// 503: no room.
    Full,
    /// 503: the store does not answer.
    StoreDown,
    /// 503: routes are not loaded, or the channel's route has just gone.
    NotReady,
    /// 403.
    Forbidden,
    /// 400.
    Malformed,
    /// 413.
    TooLarge,
    /// 408: the body did not come in time.
    TooSlow,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The request's header did not come in time.
    SlowHeader,
    /// The client took nothing of its answer in time.
    SlowAnswer,
    /// The drain deadline passed.
    Drained,
}

/// A change of the gateway's own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleChange {
    /// Listening on both ports.
    Started,
    /// No new work; what runs is finished or given back.
    Draining,
    /// Everything is finished or given back.
    Stopped,
}

/// A closed set of words for one label.
pub trait Label: Copy + 'static {
    /// Every value, in the order of its discriminants.
    const ALL: &'static [Self];
    /// The word on the metric and in the log.
    fn as_str(self) -> &'static str;
    /// Place in [`Label::ALL`].
    fn index(self) -> usize;
}

/// Gives an enum its words; a variant that is left out does not compile.
macro_rules! label {
    ($name:ty { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label!(Endpoint { Message => "message", Status => "status" });
label!(WebhookOutcome {
    Queued => "queued",
    Duplicate => "duplicate",
    Ignored => "ignored",
    StatusCallback => "status-callback",
    Limited => "limited",
    Full => "full",
    StoreDown => "store-down",
    NotReady => "not-ready",
    Forbidden => "forbidden",
    Malformed => "malformed",
    TooLarge => "too-large",
    TooSlow => "too-slow",
});
label!(CloseReason {
    SlowHeader => "slow-header",
    SlowAnswer => "slow-answer",
    Drained => "drained",
});
label!(Class {
    Success => "success",
    Timeout => "timeout",
    Http => "http",
    Invalid => "invalid",
    NoAnswer => "no-answer",
    Slow => "slow",
});
label!(SendOutcome {
    Sent => "sent",
    Retry => "retry",
    RetryAfter => "retry-after",
    Unknown => "unknown",
    Credentials => "credentials",
    OptOut => "opt-out",
    Permanent => "permanent",
    NeedsTemplate => "needs-template",
});
label!(DeadLetterClass {
    Timeout => "timeout",
    Http => "http",
    Invalid => "invalid",
    NoAnswer => "no-answer",
    Crashed => "crashed",
    NoChannel => "no-channel",
    Unreadable => "unreadable",
    Unknown => "unknown",
    NotAccepted => "not-accepted",
    OptOut => "opt-out",
    Permanent => "permanent",
    NeedsTemplate => "needs-template",
});
label!(RoutesTrouble {
    Unreadable => "unreadable",
    Unavailable => "unavailable",
    Refused => "refused",
    Heartbeat => "heartbeat",
});
label!(LifecycleChange { Started => "started", Draining => "draining", Stopped => "stopped" });

/// Every metric of the process, its children resolved once.
struct Metrics {
    registry: Registry,
    webhooks: Counters2<Endpoint, WebhookOutcome>,
    webhook_seconds: Histograms<Endpoint>,
    store_failures: IntCounter,
    connections_closed: Counters<CloseReason>,
    routes_trouble: Counters<RoutesTrouble>,
    worker: WorkerMetrics,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// Buckets for answers to Twilio: a millisecond to the two seconds nobody may wait.
const ANSWER_BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 2.0];

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        Self {
            webhooks: Counters2::new(
                &registry,
                "kanarie_webhooks_total",
                "Webhooks by URL and answer.",
                ["endpoint", "outcome"],
            ),
            webhook_seconds: Histograms::new(
                &registry,
                "kanarie_webhook_seconds",
                "Time from a webhook's header to its answer.",
                "endpoint",
                &ANSWER_BUCKETS,
            ),
            store_failures: counter(
                &registry,
                "kanarie_admission_store_failures_total",
                "Admissions that the store did not answer.",
            ),
            connections_closed: Counters::new(
                &registry,
                "kanarie_connections_closed_total",
                "Connections closed by the gateway before their request was complete.",
                "reason",
            ),
            routes_trouble: Counters::new(
                &registry,
                "kanarie_routes_trouble_total",
                "What kept routes from being what they should be, by kind.",
                "kind",
            ),
            worker: WorkerMetrics::new(&registry),
            registry,
        }
    }

    fn count(&self, event: &Event) {
        match event {
            Event::Webhook { endpoint, outcome, took } => {
                self.webhooks.inc(*endpoint, *outcome);
                self.webhook_seconds.observe(*endpoint, *took);
            }
            Event::StoreFailed { .. } => self.store_failures.inc(),
            Event::ConnectionClosed { reason } => self.connections_closed.inc(*reason),
            Event::Lifecycle { .. } => {}
            Event::Routes(event) => {
                event.trouble().into_iter().for_each(|kind| self.routes_trouble.inc(kind));
            }
            event => self.worker.count(event),
        }
    }

    fn render(&self) -> String {
        let mut page = Vec::new();
        // Writing to memory cannot fail, and names were checked when they were registered; should
        // it fail all the same, an empty page is better than none.
        if TextEncoder::new().encode(&self.registry.gather(), &mut page).is_err() {
            page.clear();
        }
        String::from_utf8(page).unwrap_or_default()
    }
}

/// Writes the line of an event, if it has one: an accepted webhook is a number, not a line.
fn log(event: &Event) {
    match event {
        Event::Webhook { endpoint, outcome, took } => {
            let (endpoint, outcome) = (endpoint.as_str(), outcome.as_str());
            tracing::debug!(endpoint, outcome, took_us = took.as_micros(), "webhook answered");
        }
        Event::StoreFailed { error } => {
            tracing::warn!(%error, "admission refused: the store gave no answer");
        }
        Event::ConnectionClosed { reason } => {
            tracing::debug!(reason = reason.as_str(), "connection closed early");
        }
        Event::Lifecycle { change } => tracing::info!(change = change.as_str(), "gateway"),
        Event::Routes(event) => event.log(),
        event => workers::log(event),
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Event, Label, LifecycleChange, Metrics, WebhookOutcome};
    use std::time::Duration;

    #[test]
    fn an_answered_webhook_is_counted_by_url_and_answer() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        let (endpoint, outcome) = (Endpoint::Status, WebhookOutcome::Forbidden);
        metrics.count(&Event::Webhook { endpoint, outcome, took });
        let page = metrics.render();
        let line = r#"kanarie_webhooks_total{endpoint="status",outcome="forbidden"} 1"#;
        assert!(page.contains(line), "{page}");
        assert!(page.contains(r#"kanarie_webhook_seconds_count{endpoint="status"} 1"#), "{page}");
    }

    #[test]
    fn every_series_is_there_before_anything_happened() {
        let page = Metrics::new().render();
        for outcome in WebhookOutcome::ALL {
            let line = format!(r#"outcome="{}"}} 0"#, outcome.as_str());
            assert!(page.contains(&line), "{line}");
        }
    }

    #[test]
    fn a_label_finds_its_own_place() {
        for (place, outcome) in WebhookOutcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), place);
        }
        assert_eq!(LifecycleChange::Stopped.index(), LifecycleChange::ALL.len() - 1);
    }
}

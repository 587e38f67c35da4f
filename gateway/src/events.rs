//! Everything worth telling, as typed events: each one is logged and counted in one place.
//!
//! Takes an event, gives a log line where a person would want one and a number for `/metrics`.
//! Labels come from enums only. Never sees customer text, a phone number or a secret: no event has
//! a field for one. Histograms carry no channel.

mod metrics;
pub mod outbound;
pub mod routes;

use std::net::SocketAddr;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use prometheus::{Encoder as _, IntCounter, Registry, TextEncoder};
use tracing_appender::non_blocking::ErrorCounter;

use crate::events::metrics::{Counters, Counters2, Histograms, counter};
use crate::events::outbound::{OutboundEvent, OutboundMetrics};
use crate::events::routes::RoutesEvent;
use crate::labels::{
    Bound, Caller, CloseReason, Endpoint, Label as _, LifecycleChange, RoutesTrouble,
    WebhookOutcome,
};

/// Logs and counts an event.
pub fn emit(event: impl Into<Event>) {
    let event = event.into();
    METRICS.count(&event);
    log(&event);
}

/// The page of `/metrics`, in Prometheus' text format.
pub fn render() -> String {
    METRICS.render()
}

/// Shows what the log drops from now on.
pub fn count_dropped(lines: ErrorCounter) {
    // A process has one log.
    let _ = DROPPED.set(lines);
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
    /// A path or a method of the public port that nobody answers.
    Unanswered {
        /// Who asked.
        caller: Caller,
        /// What is said about it, when it is time to say something.
        line: Option<Unanswered>,
    },
    /// The store did not answer an admission.
    StoreFailed {
        /// The store's error; store errors name no customer.
        error: String,
    },
    /// The store began to fail; until it is well again nothing more is said about that.
    StoreOutageBegan {
        /// The store's error; store errors name no customer.
        error: String,
    },
    /// The store is well again.
    StoreOutageEnded {
        /// Questions that it did not answer.
        failures: u64,
        /// From the first of them to the last.
        lasted: Duration,
    },
    /// A channel came to a bound of its own.
    ChannelFull {
        /// The channel, as `namespace/name`.
        channel: String,
        /// Of what.
        bound: Bound,
    },
    /// It is under that bound again.
    ChannelHasRoom {
        /// The channel, as `namespace/name`.
        channel: String,
        /// Of what.
        bound: Bound,
    },
    /// This machine has no IPv6: a port listens on every IPv4 address instead.
    WithoutIpv6 {
        /// Where it listens.
        instead: SocketAddr,
    },
    /// Connections can no longer be accepted.
    AcceptFailed {
        /// The system's error.
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
    /// A task ended that the gateway cannot do without.
    TaskEnded {
        /// Which one, and how.
        error: String,
    },
    /// Something happened to the routes that this replica obeys.
    Routes(RoutesEvent),
    /// Something happened to a turn.
    Outbound(OutboundEvent),
}

/// What a line about unanswered requests says.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// The last one's method.
    pub method: &'static str,
    /// The shape of the last one's path: no query, no number, no long word.
    pub path: String,
    /// How many there were since the last line.
    pub requests: u64,
}

impl From<RoutesEvent> for Event {
    fn from(event: RoutesEvent) -> Self {
        Self::Routes(event)
    }
}

impl From<OutboundEvent> for Event {
    fn from(event: OutboundEvent) -> Self {
        Self::Outbound(event)
    }
}

/// Every metric of the process, its children resolved once.
struct Metrics {
    registry: Registry,
    webhooks: Counters2<Endpoint, WebhookOutcome>,
    webhook_seconds: Histograms<Endpoint>,
    unanswered: Counters<Caller>,
    store_failures: IntCounter,
    accept_failures: IntCounter,
    channels_full: Counters<Bound>,
    connections_closed: Counters<CloseReason>,
    routes_trouble: Counters<RoutesTrouble>,
    lines_dropped: IntCounter,
    outbound: OutboundMetrics,
}

/// The count of lines that the log has dropped, once it is kept.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
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
            unanswered: Counters::new(
                &registry,
                "kanarie_unanswered_requests_total",
                "Requests to the public port that nobody answers, by whether they carry a signature.",
                "caller",
            ),
            store_failures: counter(
                &registry,
                "kanarie_admission_store_failures_total",
                "Admissions that the store did not answer.",
            ),
            accept_failures: counter(
                &registry,
                "kanarie_accept_failures_total",
                "How often accepting connections began to fail: out of descriptors, most likely.",
            ),
            channels_full: Counters::new(
                &registry,
                "kanarie_channel_full_total",
                "How often a channel came to a bound of its own, by bound.",
                "bound",
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
            lines_dropped: counter(
                &registry,
                "kanarie_log_lines_dropped_total",
                "Lines of the log that nobody read in time.",
            ),
            outbound: OutboundMetrics::new(&registry),
            registry,
        }
    }

    fn count(&self, event: &Event) {
        match event {
            Event::Webhook { endpoint, outcome, took } => {
                self.webhooks.inc(*endpoint, *outcome);
                self.webhook_seconds.observe(*endpoint, *took);
            }
            Event::Unanswered { caller, .. } => self.unanswered.inc(*caller),
            Event::StoreFailed { .. } => self.store_failures.inc(),
            Event::ConnectionClosed { reason } => self.connections_closed.inc(*reason),
            Event::AcceptFailed { .. } => self.accept_failures.inc(),
            Event::ChannelFull { bound, .. } => self.channels_full.inc(*bound),
            Event::ChannelHasRoom { .. }
            | Event::StoreOutageBegan { .. }
            | Event::StoreOutageEnded { .. }
            | Event::WithoutIpv6 { .. }
            | Event::Lifecycle { .. }
            | Event::TaskEnded { .. } => {}
            Event::Routes(event) => {
                event.trouble().into_iter().for_each(|kind| self.routes_trouble.inc(kind));
            }
            Event::Outbound(event) => self.outbound.count(event),
        }
    }

    fn render(&self) -> String {
        let dropped = DROPPED.get().map_or(0, |lines| lines.dropped_lines() as u64);
        self.lines_dropped.inc_by(dropped.saturating_sub(self.lines_dropped.get()));
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
        Event::Unanswered { caller, line } => {
            line.iter().for_each(|line| log_unanswered(*caller, line));
        }
        Event::StoreFailed { error } => {
            tracing::debug!(%error, "admission refused: the store gave no answer");
        }
        Event::StoreOutageBegan { error } => {
            tracing::error!(%error, "the store gives no answers: this is said once, and its end");
        }
        Event::StoreOutageEnded { failures, lasted } => {
            let lasted_ms = lasted.as_millis();
            tracing::warn!(failures, lasted_ms, "the store answers again");
        }
        Event::ConnectionClosed { reason } => {
            tracing::debug!(reason = reason.as_str(), "connection closed early");
        }
        Event::WithoutIpv6 { instead } => {
            tracing::warn!(%instead, "there is no IPv6 here: listening on IPv4 only");
        }
        Event::AcceptFailed { error } => {
            tracing::warn!(%error, "connections are not accepted at present")
        }
        Event::ChannelFull { channel, bound } => {
            let bound = bound.as_str();
            tracing::error!(channel, bound, "a channel holds as much as it may: it gets no more");
        }
        Event::ChannelHasRoom { channel, bound } => {
            tracing::info!(channel, bound = bound.as_str(), "a full channel has room again");
        }
        Event::Lifecycle { change } => tracing::info!(change = change.as_str(), "gateway"),
        Event::TaskEnded { error } => tracing::error!(%error, "the gateway ends"),
        Event::Routes(event) => event.log(),
        Event::Outbound(event) => event.log(),
    }
}

fn log_unanswered(caller: Caller, line: &Unanswered) {
    let Unanswered { method, path, requests } = line;
    match caller {
        Caller::Signed => tracing::warn!(
            method,
            path,
            requests,
            "signed requests that nobody answers: the path of a webhook URL must end with \
             /webhooks/twilio/whatsapp, and its method be POST"
        ),
        Caller::Unsigned => {
            tracing::info!(method, path, requests, "requests that nobody answers");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Event, Metrics};
    use crate::labels::{Endpoint, Label as _, WebhookOutcome};

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
}

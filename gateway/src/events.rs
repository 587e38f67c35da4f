//! Everything worth telling, as typed events: each one is logged and counted in one place.
//!
//! Takes an event, gives a log line where a person would want one and a number for `/metrics`.
//! Labels come from enums only. Never sees customer text, a phone number or a secret: no event has
//! a field for one. Histograms carry no channel.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry, TextEncoder,
};

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
label!(CloseReason { SlowHeader => "slow-header", Drained => "drained" });
label!(LifecycleChange { Started => "started", Draining => "draining", Stopped => "stopped" });

/// Every metric of the process, its children resolved once.
struct Metrics {
    registry: Registry,
    webhooks: Counters2<Endpoint, WebhookOutcome>,
    webhook_seconds: Histograms<Endpoint>,
    store_failures: IntCounter,
    connections_closed: Counters<CloseReason>,
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
    }
}

/// A counter with one label.
pub struct Counters<A>(Vec<IntCounter>, std::marker::PhantomData<A>);

impl<A: Label> Counters<A> {
    fn new(registry: &Registry, name: &str, help: &str, label: &str) -> Self {
        let family = registered(registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        let child = |value: &A| family.with_label_values(&[value.as_str()]);
        Self(A::ALL.iter().map(child).collect(), std::marker::PhantomData)
    }

    fn inc(&self, value: A) {
        self.0[value.index()].inc();
    }
}

/// A counter with two labels.
pub struct Counters2<A, B>(Vec<IntCounter>, std::marker::PhantomData<(A, B)>);

impl<A: Label, B: Label> Counters2<A, B> {
    fn new(registry: &Registry, name: &str, help: &str, labels: [&str; 2]) -> Self {
        let family = registered(registry, IntCounterVec::new(Opts::new(name, help), &labels));
        let children = A::ALL.iter().flat_map(|first| {
            B::ALL.iter().map(|second| family.with_label_values(&[first.as_str(), second.as_str()]))
        });
        Self(children.collect(), std::marker::PhantomData)
    }

    fn inc(&self, first: A, second: B) {
        self.0[first.index() * B::ALL.len() + second.index()].inc();
    }
}

/// A histogram of seconds with one label.
pub struct Histograms<A>(Vec<Histogram>, std::marker::PhantomData<A>);

impl<A: Label> Histograms<A> {
    fn new(registry: &Registry, name: &str, help: &str, label: &str, buckets: &[f64]) -> Self {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = registered(registry, HistogramVec::new(opts, &[label]));
        let child = |value: &A| family.with_label_values(&[value.as_str()]);
        Self(A::ALL.iter().map(child).collect(), std::marker::PhantomData)
    }

    fn observe(&self, value: A, took: Duration) {
        self.0[value.index()].observe(took.as_secs_f64());
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.expect("names and labels are literals of this file");
    registry.register(Box::new(metric.clone())).expect("every name of this file is used once");
    metric
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

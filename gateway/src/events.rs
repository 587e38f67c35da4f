//! Everything worth telling, as typed events: each one is logged and counted in one place.
//!
//! Takes an event, gives a log line where a person would want one and a number for `/metrics`.
//! Labels come from enums, names of channels and error codes only. Never sees customer text, a phone
//! number or a secret: no event has a field for one. Histograms carry no channel.

/// A line of the log, within a span that names the subject of the task: made when the line is written.
macro_rules! tell {
    ($level:ident, $($told:tt)+) => {
        if tracing::enabled!(tracing::Level::$level) {
            let _subject = $crate::subject::entered();
            tracing::event!(tracing::Level::$level, $($told)+);
        }
    };
}

pub mod control;
pub mod deliveries;
mod levels;
pub mod outbound;
pub mod routes;
pub mod store;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kanarie_metrics::label::Label as _;
use kanarie_metrics::page::{MetricsPage, OWN_BUCKETS};
use kanarie_metrics::series::{Counter, CounterBy, CounterBy2, TimingBy};
use tracing_appender::non_blocking::ErrorCounter;

use crate::clock::millis;
use crate::events::control::ControlEvent;
use crate::events::deliveries::{DeliveryEvent, DeliveryMetrics};
use crate::events::levels::LevelMetrics;
use crate::events::outbound::{OutboundEvent, OutboundMetrics};
use crate::events::routes::RoutesEvent;
use crate::events::store::{StoreEvent, StoreMetrics};
use crate::labels::{
    Bound, Caller, CloseReason, ControlAct, Endpoint, LifecycleChange, RoutesTrouble,
    WebhookOutcome,
};
use crate::levels::{GONE, Standing};

/// Logs and counts an event.
pub fn emit(event: impl Into<Event>) {
    let event = event.into();
    METRICS.count(&event);
    log(&event);
}

/// The page of `/metrics`, in Prometheus' text format: how everything stands, and what was counted of the
/// channels that are there.
pub fn render(standing: &Standing, channels: &HashSet<String>) -> String {
    METRICS.render(standing, channels)
}

/// A line for every metric: its name, its kind and its labels.
pub fn outline() -> String {
    METRICS.page.outline()
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
    /// A connection found a store that lacks something, for the first time or something else.
    StoreLacks {
        /// What it lacks to keep every message that it accepted.
        lacks: String,
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
    /// This process may have few files open, so the public port takes fewer connections.
    FewFiles {
        /// How many files.
        files: u64,
        /// How many connections it takes.
        connections: u64,
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
    /// Something happened to the store of this machine.
    Store(StoreEvent),
    /// Something happened to a turn.
    Outbound(OutboundEvent),
    /// Something happened to a reply after it was sent.
    Delivery(DeliveryEvent),
    /// Somebody used the control token.
    Control(ControlEvent),
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

impl From<ControlEvent> for Event {
    fn from(event: ControlEvent) -> Self {
        Self::Control(event)
    }
}

impl From<StoreEvent> for Event {
    fn from(event: StoreEvent) -> Self {
        Self::Store(event)
    }
}

impl From<OutboundEvent> for Event {
    fn from(event: OutboundEvent) -> Self {
        Self::Outbound(event)
    }
}

impl From<DeliveryEvent> for Event {
    fn from(event: DeliveryEvent) -> Self {
        Self::Delivery(event)
    }
}

/// Every metric of the process, its children resolved once.
struct Metrics {
    page: MetricsPage,
    looks: Mutex<()>,
    webhooks: CounterBy2<Endpoint, WebhookOutcome>,
    webhook_seconds: TimingBy<Endpoint>,
    unanswered: CounterBy<Caller>,
    store_failures: Counter,
    accept_failures: Counter,
    channels_full: CounterBy<Bound>,
    connections_closed: CounterBy<CloseReason>,
    routes_trouble: CounterBy<RoutesTrouble>,
    control_acts: CounterBy<ControlAct>,
    lines_dropped: Counter,
    levels: LevelMetrics,
    store: StoreMetrics,
    outbound: OutboundMetrics,
    deliveries: DeliveryMetrics,
}

/// The count of lines that the log has dropped, once it is kept.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let page = MetricsPage::new("gateway", env!("CARGO_PKG_VERSION"));
        Self {
            looks: Mutex::new(()),
            webhooks: page.counter_by2(
                "kanarie_webhooks_total",
                "Webhooks by URL and answer.",
                ["endpoint", "outcome"],
            ),
            webhook_seconds: page.timing_by(
                "kanarie_webhook_duration_seconds",
                "Time from a webhook's header to its answer.",
                "endpoint",
                &OWN_BUCKETS,
            ),
            unanswered: page.counter_by(
                "kanarie_unanswered_requests_total",
                "Requests to the public port that nobody answers, by whether they carry a signature.",
                "caller",
            ),
            store_failures: page.counter(
                "kanarie_admission_store_failures_total",
                "Admissions that the store did not answer.",
            ),
            accept_failures: page.counter(
                "kanarie_accept_failures_total",
                "How often accepting connections began to fail: out of descriptors, most likely.",
            ),
            channels_full: page.counter_by(
                "kanarie_channel_full_total",
                "How often a channel came to a bound of its own, by bound.",
                "bound",
            ),
            connections_closed: page.counter_by(
                "kanarie_connections_closed_total",
                "Connections closed by the gateway before their request was complete.",
                "reason",
            ),
            routes_trouble: page.counter_by(
                "kanarie_routes_trouble_total",
                "What kept routes from being what they should be, by kind.",
                "kind",
            ),
            control_acts: page.counter_by(
                "kanarie_control_acts_total",
                "What was done with the control token, by act.",
                "act",
            ),
            lines_dropped: page.counter(
                "kanarie_log_lines_dropped_total",
                "Lines of the log that nobody read in time.",
            ),
            levels: LevelMetrics::new(&page),
            store: StoreMetrics::new(&page),
            outbound: OutboundMetrics::new(&page),
            deliveries: DeliveryMetrics::new(&page),
            page,
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
            | Event::StoreLacks { .. }
            | Event::WithoutIpv6 { .. }
            | Event::FewFiles { .. }
            | Event::Lifecycle { .. }
            | Event::TaskEnded { .. } => {}
            Event::Routes(event) => {
                event.trouble().into_iter().for_each(|kind| self.routes_trouble.inc(kind));
            }
            Event::Store(event) => self.store.count(event),
            Event::Outbound(event) => self.outbound.count(event),
            Event::Delivery(event) => self.deliveries.count(event),
            Event::Control(event) => self.control_acts.inc(event.act),
        }
    }

    fn render(&self, standing: &Standing, channels: &HashSet<String>) -> String {
        // Two that look at once would show each other's.
        let _looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        self.levels.show(standing);
        self.page.keep_channels(|channel| channel == GONE || channels.contains(channel));
        let dropped = DROPPED.get().map_or(0, |lines| lines.dropped_lines() as u64);
        self.lines_dropped.reach(dropped);
        self.page.render()
    }
}

/// Writes the line of an event, if it has one: an accepted webhook is a number, not a line.
fn log(event: &Event) {
    match event {
        Event::Webhook { endpoint, outcome, took } => {
            let (endpoint, outcome) = (endpoint.as_str(), outcome.as_str());
            tell!(DEBUG, endpoint, outcome, took_us = took.as_micros(), "webhook answered");
        }
        Event::Unanswered { caller, line } => {
            line.iter().for_each(|line| log_unanswered(*caller, line));
        }
        Event::StoreFailed { error } => {
            tell!(DEBUG, %error, "admission refused: the store gave no answer");
        }
        Event::StoreOutageBegan { error } => {
            tell!(ERROR, %error, "the store gives no answers: this is said once, and its end");
        }
        Event::StoreOutageEnded { failures, lasted } => {
            let lasted_ms = millis(*lasted);
            tell!(WARN, failures, lasted_ms, "the store answers again");
        }
        Event::StoreLacks { lacks } => {
            tell!(WARN, "{lacks}; --store-durability=relaxed allows that");
        }
        Event::ConnectionClosed { reason } => {
            tell!(DEBUG, reason = reason.as_str(), "connection closed early");
        }
        Event::WithoutIpv6 { instead } => {
            tell!(WARN, %instead, "there is no IPv6 here: listening on IPv4 only");
        }
        Event::FewFiles { files, connections } => {
            tell!(WARN, files, connections, "few files may be open: fewer connections are taken");
        }
        Event::AcceptFailed { error } => {
            tell!(WARN, %error, "connections are not accepted at present")
        }
        Event::ChannelFull { channel, bound } => {
            let bound = bound.as_str();
            tell!(ERROR, channel, bound, "a channel holds as much as it may: it gets no more");
        }
        Event::ChannelHasRoom { channel, bound } => {
            tell!(INFO, channel, bound = bound.as_str(), "a full channel has room again");
        }
        Event::Lifecycle { change } => tell!(INFO, change = change.as_str(), "gateway"),
        Event::TaskEnded { error } => tell!(ERROR, %error, "the gateway ends"),
        Event::Routes(event) => event.log(),
        Event::Store(event) => event.log(),
        Event::Outbound(event) => event.log(),
        Event::Delivery(event) => event.log(),
        Event::Control(event) => event.log(),
    }
}

fn log_unanswered(caller: Caller, line: &Unanswered) {
    let Unanswered { method, path, requests } = line;
    match caller {
        Caller::Signed => tell!(
            WARN,
            method,
            path,
            requests,
            "signed requests that nobody answers: the path of a webhook URL must end with \
             /webhooks/twilio/whatsapp, and its method be POST"
        ),
        Caller::Unsigned => {
            tell!(INFO, method, path, requests, "requests that nobody answers");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use kanarie_metrics::label::Label as _;

    use super::{Event, Metrics};
    use crate::events::outbound::OutboundEvent;
    use crate::labels::{Endpoint, ReplyOf, WebhookOutcome};
    use crate::levels::{GONE, Standing};

    #[test]
    fn an_answered_webhook_is_counted_by_url_and_answer() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        let (endpoint, outcome) = (Endpoint::Status, WebhookOutcome::Forbidden);
        metrics.count(&Event::Webhook { endpoint, outcome, took });
        let page = metrics.render(&Standing::default(), &HashSet::new());
        let line = r#"kanarie_webhooks_total{endpoint="status",outcome="forbidden"} 1"#;
        assert!(page.contains(line), "{page}");
        let line = r#"kanarie_webhook_duration_seconds_count{endpoint="status"} 1"#;
        assert!(page.contains(line), "{page}");
    }

    #[test]
    fn what_was_counted_of_a_channel_goes_with_it() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        for channel in ["shop/one", GONE] {
            let (channel, of) = (channel.to_owned(), ReplyOf::Stable);
            metrics.count(&Event::Outbound(OutboundEvent::Answered { channel, of, took }));
        }
        let replies = |channels: &[&str]| {
            let channels = channels.iter().map(|&channel| channel.to_owned()).collect();
            let page = metrics.render(&Standing::default(), &channels);
            let lines = page.lines().filter(|line| line.starts_with("kanarie_replies_total{"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let of =
            |channel| format!(r#"kanarie_replies_total{{channel="{channel}",track="stable"}} 1"#);
        assert_eq!(replies(&["shop/one"]), [of(GONE), of("shop/one")]);
        assert_eq!(replies(&[]), [of(GONE)]);
    }

    #[test]
    fn every_series_is_there_before_anything_happened() {
        let page = Metrics::new().render(&Standing::default(), &HashSet::new());
        for outcome in WebhookOutcome::ALL {
            let line = format!(r#"outcome="{}"}} 0"#, outcome.as_str());
            assert!(page.contains(&line), "{line}");
        }
    }
}

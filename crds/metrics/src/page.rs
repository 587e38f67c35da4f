//! The page of `/metrics`: every metric of a process, registered once.
//!
//! Takes a name, a line of help and label names for each metric; gives the metric, and the page in
//! Prometheus' text format. Begins with the version of the process and what the system says of it. Never
//! shows the same name twice: that is a mistake of the caller's source, and ends the process at its start.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::by_channel::{CHANNEL, CounterByChannel, Forgetful, GaugeByChannel};
use crate::label::Label;
use crate::of_channel::{GaugeOfChannel, ShownRows};
use crate::process::ProcessSeries;
use crate::series::{
    Counter, CounterBy, CounterBy2, CounterOfWords, Gauge, Timing, TimingBy, TimingBy2,
};

/// Seconds of what the process does by itself: half a millisecond to the two that nobody may wait.
pub const OWN_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];
/// Seconds of what waits for others: a millisecond to the longest patience.
pub const OTHERS_BUCKETS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
    900.0,
];

/// Every metric of a process.
pub struct MetricsPage {
    registry: Registry,
    process: ProcessSeries,
    by_channel: Mutex<ByChannel>,
    /// What was registered, a line each.
    outline: Mutex<Vec<String>>,
}

/// What is to be forgotten with a channel, and what is to be shown anew.
#[derive(Default)]
struct ByChannel {
    forgetful: Vec<Arc<dyn Forgetful>>,
    gauges: Vec<GaugeByChannel>,
    rows: Vec<Arc<ShownRows>>,
}

impl MetricsPage {
    /// The page of a process of this name, of this version.
    pub fn new(component: &str, version: &str) -> Self {
        let registry = Registry::new();
        let page = Self {
            process: process(&registry),
            registry,
            by_channel: Mutex::default(),
            outline: Mutex::new(PROCESS.map(|(name, kind, _)| format!("{name} {kind}")).into()),
        };
        let labels = ["component", "version", "commit"];
        let help = "1; says which version this is.";
        let info = IntGaugeVec::new(Opts::new("kanarie_build_info", help), &labels);
        let commit = option_env!("KANARIE_COMMIT").unwrap_or("unknown");
        let info = page.registered("kanarie_build_info", "gauge", &labels, info);
        info.with_label_values(&[component, version, commit]).set(1);
        page
    }

    /// A counter.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        Counter(self.registered(name, "counter", &[], IntCounter::new(name, help)))
    }

    /// A counter by a closed set of words.
    pub fn counter_by<A: Label>(&self, name: &str, help: &str, label: &str) -> CounterBy<A> {
        CounterBy::of(&self.counters(name, help, &[label]))
    }

    /// A counter by two of them.
    pub fn counter_by2<A: Label, B: Label>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; 2],
    ) -> CounterBy2<A, B> {
        CounterBy2::of(&self.counters(name, help, &labels))
    }

    /// A counter by words of closed sets that the caller answers for.
    pub fn counter_of_words<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> CounterOfWords<N> {
        CounterOfWords(self.counters(name, help, &labels))
    }

    /// A counter by channel and words of closed sets.
    pub fn counter_by_channel<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
    ) -> CounterByChannel<N> {
        let all: Vec<&str> = std::iter::once(CHANNEL).chain(labels).collect();
        let counter = CounterByChannel { family: self.counters(name, help, &all), labels };
        self.by_channel().forgetful.push(Arc::new(counter.clone()));
        counter
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        Gauge(self.registered(name, "gauge", &[], IntGauge::new(name, help)))
    }

    /// A gauge by channel.
    pub fn gauge_by_channel(&self, name: &str, help: &str) -> GaugeByChannel {
        let family = GaugeVec::new(Opts::new(name, help), &[CHANNEL]);
        let family = self.registered(name, "gauge", &[CHANNEL], family);
        let gauge = GaugeByChannel { family, values: Arc::default() };
        let mut by_channel = self.by_channel();
        by_channel.forgetful.push(Arc::new(gauge.clone()));
        by_channel.gauges.push(gauge.clone());
        gauge
    }

    /// A gauge by namespace and name of a channel and by words; the caller says when a channel is gone.
    pub fn gauge_of_channel<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> GaugeOfChannel<N> {
        let all: Vec<&str> = ["namespace", CHANNEL].into_iter().chain(labels).collect();
        // Registered for its name and never filled.
        self.registered(name, "gauge", &all, IntGaugeVec::new(Opts::new(name, help), &all));
        let shown = Arc::new(ShownRows::of(name, help));
        self.by_channel().rows.push(shown.clone());
        GaugeOfChannel { labels: labels.map(str::to_owned), shown }
    }

    /// A histogram of seconds.
    pub fn timing(&self, name: &str, help: &str, buckets: &[f64]) -> Timing {
        let made = Histogram::with_opts(histogram(name, help, buckets));
        Timing(self.registered(name, "histogram", &[], made))
    }

    /// A histogram of seconds by a closed set of words.
    pub fn timing_by<A: Label>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        buckets: &[f64],
    ) -> TimingBy<A> {
        TimingBy::of(&self.timings(histogram(name, help, buckets), name, &[label]))
    }

    /// A histogram of seconds by two of them.
    pub fn timing_by2<A: Label, B: Label>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        buckets: &[f64],
    ) -> TimingBy2<A, B> {
        TimingBy2::of(&self.timings(histogram(name, help, buckets), name, &labels))
    }

    /// Forgets the series of every channel that is not there.
    pub fn keep_channels(&self, is_there: impl Fn(&str) -> bool) {
        self.by_channel().forgetful.iter().for_each(|series| series.keep(&is_there));
    }

    /// The page, as things are now.
    pub fn render(&self) -> String {
        // Two that look at once would show half of each other's gauges.
        let by_channel = self.by_channel();
        self.process.read();
        by_channel.gauges.iter().for_each(GaugeByChannel::show);
        let mut page = Vec::new();
        // Writing to memory cannot fail, and names were checked when they were registered; should
        // it fail all the same, an empty page is better than none.
        if TextEncoder::new().encode(&self.registry.gather(), &mut page).is_err() {
            page.clear();
        }
        let mut page = String::from_utf8(page).unwrap_or_default();
        by_channel.rows.iter().for_each(|rows| rows.render(&mut page));
        page
    }

    /// A line for every metric, by name: its name, its kind, and the names of its labels.
    pub fn outline(&self) -> String {
        let mut lines = self.outline.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lines.sort();
        lines.iter().fold(String::new(), |mut text, line| {
            // Writing to memory cannot fail.
            let _ = writeln!(text, "{line}");
            text
        })
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let made = IntCounterVec::new(Opts::new(name, help), labels);
        self.registered(name, "counter", labels, made)
    }

    fn timings(&self, options: HistogramOpts, name: &str, labels: &[&str]) -> HistogramVec {
        self.registered(name, "histogram", labels, HistogramVec::new(options, labels))
    }

    fn registered<C: Collector + Clone + 'static>(
        &self,
        name: &str,
        kind: &str,
        labels: &[&str],
        made: prometheus::Result<C>,
    ) -> C {
        let line = [&[name, kind], labels].concat().join(" ");
        self.outline.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        registered(&self.registry, made)
    }

    fn by_channel(&self) -> std::sync::MutexGuard<'_, ByChannel> {
        self.by_channel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the system says of a process: name, kind, help.
const PROCESS: [(&str, &str, &str); 7] = [
    ("process_cpu_seconds_total", "counter", "Time on a processor, in seconds."),
    ("process_open_fds", "gauge", "Open file descriptors."),
    ("process_max_fds", "gauge", "Most file descriptors that may be open; 0 for no bound."),
    ("process_virtual_memory_bytes", "gauge", "Address space, in bytes."),
    ("process_resident_memory_bytes", "gauge", "Memory in use, in bytes."),
    ("process_start_time_seconds", "gauge", "When the process began, in Unix seconds."),
    ("process_threads", "gauge", "Threads of the process."),
];

fn process(registry: &Registry) -> ProcessSeries {
    let [(cpu, _, cpu_help), gauges @ ..] = PROCESS;
    let [open, most_open, virtual_memory, resident_memory, start, threads] =
        gauges.map(|(name, _, help)| registered(registry, prometheus::Gauge::new(name, help)));
    let cpu = registered(registry, prometheus::Counter::new(cpu, cpu_help));
    ProcessSeries { cpu, open, most_open, virtual_memory, resident_memory, start, threads }
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(buckets.to_vec())
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.expect("names and labels are literals of the callers");
    registry.register(Box::new(metric.clone())).expect("every name is used once");
    metric
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_words::class::Class;
    use kanarie_words::track::Track;

    use super::{MetricsPage, OWN_BUCKETS};

    fn page() -> MetricsPage {
        MetricsPage::new("test", "1.2.3")
    }

    #[test]
    fn a_page_says_which_version_it_is_of_and_what_its_process_needs() {
        let text = page().render();
        let info = r#"component="test",version="1.2.3"} 1"#;
        assert!(text.lines().any(|l| l.starts_with("kanarie_build_info{") && l.ends_with(info)));
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse().unwrap()
        };
        for name in ["resident_memory_bytes", "open_fds", "threads", "start_time_seconds"] {
            assert!(value(&format!("process_{name}")) > 0.0, "{name}");
        }
    }

    #[test]
    fn every_series_of_a_closed_set_is_there_before_anything_happened() {
        let page = page();
        page.counter_by2::<Track, Class>("a_total", "A.", ["track", "class"])
            .inc(Track::Canary, Class::NoAnswer);
        let seconds = page.timing_by::<Track>("b_seconds", "B.", "track", &OWN_BUCKETS);
        seconds.observe(Track::Stable, Duration::from_micros(700));
        let text = page.render();
        assert!(text.contains(r#"a_total{class="no-answer",track="canary"} 1"#), "{text}");
        assert!(text.contains(r#"a_total{class="timeout",track="stable"} 0"#), "{text}");
        assert!(text.contains(r#"b_seconds_bucket{track="stable",le="0.0005"} 0"#), "{text}");
        assert!(text.contains(r#"b_seconds_bucket{track="stable",le="0.001"} 1"#), "{text}");
        assert!(text.contains(r#"b_seconds_count{track="canary"} 0"#), "{text}");
    }

    #[test]
    fn the_series_of_a_channel_begin_with_it_and_go_with_it() {
        let page = page();
        let counter = page.counter_by_channel("a_total", "A.", ["track", "class"]);
        let gauge = page.gauge_by_channel("b", "B.");
        for channel in ["shop/one", "shop/two"] {
            counter.inc(channel, ["stable", "http"]);
            counter.inc(channel, ["canary", "http"]);
        }
        gauge.set_all([("shop/one".to_owned(), 1.5), ("shop/two".to_owned(), 2.0)]);
        let text = page.render();
        let line = r#"a_total{channel="shop/one",class="http",track="stable"} 1"#;
        assert!(text.contains(line) && text.contains(r#"b{channel="shop/one"} 1.5"#), "{text}");
        page.keep_channels(|channel| channel == "shop/two");
        let text = page.render();
        assert!(!text.contains("shop/one"), "{text}");
        assert_eq!(text.matches(r#"channel="shop/two""#).count(), 3, "{text}");
        gauge.set_all([]);
        assert_eq!(page.render().matches(r#"channel="shop/two""#).count(), 2);
    }

    #[test]
    fn an_outline_has_a_line_a_metric_whatever_was_counted() {
        let page = page();
        page.counter_by_channel("kanarie_a_total", "A.", ["track"]);
        page.timing("kanarie_b_seconds", "B.", &OWN_BUCKETS);
        let outline = page.outline();
        let lines: Vec<&str> = outline.lines().filter(|l| l.starts_with("kanarie_")).collect();
        let info = "kanarie_build_info gauge component version commit";
        let expected =
            ["kanarie_a_total counter channel track", "kanarie_b_seconds histogram", info];
        assert_eq!(lines, expected);
        assert_eq!(outline.lines().filter(|line| line.starts_with("process_")).count(), 7);
    }

    #[test]
    fn a_counter_that_follows_another_never_goes_back() {
        let page = page();
        let counter = page.counter("a_total", "A.");
        counter.reach(5);
        counter.reach(3);
        assert!(page.render().contains("a_total 5"));
    }
}

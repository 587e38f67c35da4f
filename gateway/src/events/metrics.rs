//! Counters and histograms whose labels are enums, their children resolved once.
//!
//! Takes a registry, names and words, gives metrics that are counted without a look-up. Never
//! takes a label from a string, so no name, number or text gets into one.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use crate::labels::Label;

/// A counter with one label.
pub(super) struct Counters<A>(Vec<IntCounter>, std::marker::PhantomData<A>);

impl<A: Label> Counters<A> {
    pub(super) fn new(registry: &Registry, name: &str, help: &str, label: &str) -> Self {
        let family = registered(registry, IntCounterVec::new(Opts::new(name, help), &[label]));
        let child = |value: &A| family.with_label_values(&[value.as_str()]);
        Self(A::ALL.iter().map(child).collect(), std::marker::PhantomData)
    }

    pub(super) fn inc(&self, value: A) {
        self.0[value.index()].inc();
    }
}

/// A counter with two labels.
pub(super) struct Counters2<A, B>(Vec<IntCounter>, std::marker::PhantomData<(A, B)>);

impl<A: Label, B: Label> Counters2<A, B> {
    pub(super) fn new(registry: &Registry, name: &str, help: &str, labels: [&str; 2]) -> Self {
        let family = registered(registry, IntCounterVec::new(Opts::new(name, help), &labels));
        let children = A::ALL.iter().flat_map(|first| {
            B::ALL.iter().map(|second| family.with_label_values(&[first.as_str(), second.as_str()]))
        });
        Self(children.collect(), std::marker::PhantomData)
    }

    pub(super) fn inc(&self, first: A, second: B) {
        self.0[first.index() * B::ALL.len() + second.index()].inc();
    }
}

/// A histogram of seconds with one label.
pub(super) struct Histograms<A>(Vec<Histogram>, std::marker::PhantomData<A>);

impl<A: Label> Histograms<A> {
    pub(super) fn new(
        registry: &Registry,
        name: &str,
        help: &str,
        label: &str,
        buckets: &[f64],
    ) -> Self {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = registered(registry, HistogramVec::new(opts, &[label]));
        let child = |value: &A| family.with_label_values(&[value.as_str()]);
        Self(A::ALL.iter().map(child).collect(), std::marker::PhantomData)
    }

    pub(super) fn observe(&self, value: A, took: Duration) {
        self.0[value.index()].observe(took.as_secs_f64());
    }
}

/// A counter without labels.
pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::new(name, help))
}

/// A metric that `/metrics` shows.
pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.expect("names and labels are literals of this module");
    registry.register(Box::new(metric.clone())).expect("every name of this module is used once");
    metric
}

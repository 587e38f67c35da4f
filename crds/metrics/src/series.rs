//! Counters, gauges and histograms; those whose labels are enums have their children resolved once.
//!
//! Takes what happened, gives it to the page that it was made by, without a look-up. Never takes a
//! label that was not there from the beginning, but for a counter of words, whose caller answers for
//! them.

use std::marker::PhantomData;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use crate::label::Label;

/// Something that only grows.
#[derive(Clone, Debug)]
pub struct Counter(pub(crate) IntCounter);

/// Something that goes up and down.
#[derive(Clone, Debug)]
pub struct Gauge(pub(crate) IntGauge);

/// How long something took.
#[derive(Clone, Debug)]
pub struct Timing(pub(crate) Histogram);

/// A counter with one label.
#[derive(Clone, Debug)]
pub struct CounterBy<A>(Vec<IntCounter>, PhantomData<A>);

/// A counter with two labels.
#[derive(Clone, Debug)]
pub struct CounterBy2<A, B>(Vec<IntCounter>, PhantomData<(A, B)>);

/// How long something took, with one label.
#[derive(Clone, Debug)]
pub struct TimingBy<A>(Vec<Histogram>, PhantomData<A>);

/// How long something took, with two labels.
#[derive(Clone, Debug)]
pub struct TimingBy2<A, B>(Vec<Histogram>, PhantomData<(A, B)>);

/// A counter whose labels are words of closed sets that no enum here lists: there is a series once one
/// was counted.
#[derive(Clone, Debug)]
pub struct CounterOfWords<const N: usize>(pub(crate) IntCounterVec);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// So many more.
    pub fn inc_by(&self, more: u64) {
        self.0.inc_by(more);
    }

    /// Brings it to what somebody else has counted; never back.
    pub fn reach(&self, all: u64) {
        self.0.inc_by(all.saturating_sub(self.0.get()));
    }
}

impl Gauge {
    /// As it is now.
    pub fn set(&self, value: u64) {
        self.0.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

impl Timing {
    /// It took so long.
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl<A: Label> CounterBy<A> {
    pub(crate) fn of(family: &IntCounterVec) -> Self {
        let child = |value: &A| family.with_label_values(&[value.as_str()]);
        Self(A::ALL.iter().map(child).collect(), PhantomData)
    }

    /// One more of these.
    pub fn inc(&self, value: A) {
        self.0[value.index()].inc();
    }
}

impl<A: Label, B: Label> CounterBy2<A, B> {
    pub(crate) fn of(family: &IntCounterVec) -> Self {
        let pairs = pairs::<A, B>().map(|pair| family.with_label_values(&pair));
        Self(pairs.collect(), PhantomData)
    }

    /// One more of these.
    pub fn inc(&self, first: A, second: B) {
        self.0[first.index() * B::ALL.len() + second.index()].inc();
    }
}

impl<A: Label> TimingBy<A> {
    pub(crate) fn of(family: &HistogramVec) -> Self {
        let child = |value: &A| family.with_label_values(&[value.as_str()]);
        Self(A::ALL.iter().map(child).collect(), PhantomData)
    }

    /// It took so long.
    pub fn observe(&self, value: A, took: Duration) {
        self.0[value.index()].observe(took.as_secs_f64());
    }
}

impl<A: Label, B: Label> TimingBy2<A, B> {
    pub(crate) fn of(family: &HistogramVec) -> Self {
        let pairs = pairs::<A, B>().map(|pair| family.with_label_values(&pair));
        Self(pairs.collect(), PhantomData)
    }

    /// It took so long.
    pub fn observe(&self, first: A, second: B, took: Duration) {
        self.0[first.index() * B::ALL.len() + second.index()].observe(took.as_secs_f64());
    }
}

impl<const N: usize> CounterOfWords<N> {
    /// One more of these words, each of a closed set.
    pub fn inc(&self, words: [&str; N]) {
        self.0.with_label_values(&words).inc();
    }
}

/// Every pair of words, in the order of their places.
fn pairs<A: Label, B: Label>() -> impl Iterator<Item = [&'static str; 2]> {
    A::ALL.iter().flat_map(|first| B::ALL.iter().map(|second| [first.as_str(), second.as_str()]))
}

//! What is counted or measured for each channel by itself.
//!
//! Takes the name of a channel as its route says it, `namespace/name`, and words of closed sets. A series
//! begins with its first number and goes with its channel, so there are never more than channels times
//! words. Never takes a name from anything that came from outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector as _;
use prometheus::{GaugeVec, IntCounterVec};

/// The label that every one of these begins with.
pub(crate) const CHANNEL: &str = "channel";

/// Something that only grows, by channel and `N` words.
#[derive(Clone, Debug)]
pub struct CounterByChannel<const N: usize> {
    pub(crate) family: IntCounterVec,
    pub(crate) labels: [&'static str; N],
}

/// Something that goes up and down, by channel; read when the page is made.
#[derive(Clone, Debug)]
pub struct GaugeByChannel {
    pub(crate) family: GaugeVec,
    pub(crate) values: Arc<Mutex<BTreeMap<String, f64>>>,
}

/// Forgets what belongs to channels that are not there.
pub(crate) trait Forgetful: Send + Sync {
    /// Keeps the series of channels that `is_there`, and no others.
    fn keep(&self, is_there: &dyn Fn(&str) -> bool);
}

impl<const N: usize> CounterByChannel<N> {
    /// One more of these words for a channel.
    pub fn inc(&self, channel: &str, words: [&str; N]) {
        let mut values = Vec::with_capacity(N + 1);
        values.push(channel);
        values.extend(words);
        self.family.with_label_values(&values).inc();
    }
}

impl<const N: usize> Forgetful for CounterByChannel<N> {
    fn keep(&self, is_there: &dyn Fn(&str) -> bool) {
        for metric in self.family.collect().iter().flat_map(|family| family.get_metric()) {
            let pairs = metric.get_label();
            let value_of =
                |name: &str| pairs.iter().find(|pair| pair.name() == name).map(|pair| pair.value());
            if value_of(CHANNEL).is_none_or(is_there) {
                continue;
            }
            let names = std::iter::once(CHANNEL).chain(self.labels);
            let values: Vec<&str> = names.filter_map(value_of).collect();
            // An error says that somebody else has just forgotten it.
            let _ = self.family.remove_label_values(&values);
        }
    }
}

impl GaugeByChannel {
    /// As it is now, for every channel that has any.
    pub fn set_all(&self, values: impl IntoIterator<Item = (String, f64)>) {
        let values = values.into_iter().collect();
        *self.values.lock().unwrap_or_else(PoisonError::into_inner) = values;
    }

    /// Brings the series to what was set.
    pub(crate) fn show(&self) {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        self.family.reset();
        for (channel, value) in values.iter() {
            self.family.with_label_values(&[channel]).set(*value);
        }
    }
}

impl Forgetful for GaugeByChannel {
    fn keep(&self, is_there: &dyn Fn(&str) -> bool) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.retain(|channel, _| is_there(channel));
    }
}

//! Gauges of one channel, by its namespace, its name and words: each look replaces what was shown of it.
//!
//! Takes every row of a channel at once, gives those to the page and takes back what is no row any more.
//! Never shows a channel that was forgotten.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntGaugeVec;

/// Namespace and name of a channel.
type Key = (String, String);
/// The words of a row, and its value.
type Rows<const N: usize> = BTreeMap<[String; N], i64>;

/// A gauge by channel and `N` words. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GaugeOfChannel<const N: usize> {
    pub(crate) family: IntGaugeVec,
    pub(crate) shown: Arc<Mutex<BTreeMap<Key, Rows<N>>>>,
}

impl<const N: usize> GaugeOfChannel<N> {
    /// What is shown of this channel from now on; what was and is not among it goes.
    pub fn show(
        &self,
        namespace: &str,
        channel: &str,
        rows: impl IntoIterator<Item = ([String; N], u64)>,
    ) {
        let rows: Rows<N> = rows
            .into_iter()
            .map(|(words, value)| (words, i64::try_from(value).unwrap_or(i64::MAX)))
            .collect();
        let key = (namespace.to_owned(), channel.to_owned());
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.get(&key);
        if before.map_or(rows.is_empty(), |before| *before == rows) {
            return;
        }
        for words in before.into_iter().flat_map(BTreeMap::keys) {
            if !rows.contains_key(words) {
                // It was shown, or nobody has to take it back.
                let _ = self.family.remove_label_values(&labels(&key, words));
            }
        }
        for (words, value) in &rows {
            self.family.with_label_values(&labels(&key, words)).set(*value);
        }
        if rows.is_empty() {
            shown.remove(&key);
        } else {
            shown.insert(key, rows);
        }
    }

    /// Nothing is shown of this channel any more.
    pub fn forget(&self, namespace: &str, channel: &str) {
        self.show(namespace, channel, []);
    }
}

fn labels<'a, const N: usize>(key: &'a Key, words: &'a [String; N]) -> Vec<&'a str> {
    [&key.0, &key.1].into_iter().chain(words).map(String::as_str).collect()
}

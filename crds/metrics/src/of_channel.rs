//! Gauges of one channel, by its namespace, its name and words: each look replaces what was shown of it.
//!
//! Takes every row of a channel at once, and keeps them as the text of the page: of ten thousand channels a series
//! of the library is a kilobyte, and this line a twentieth of it. Never shows a channel that was forgotten.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Namespace and name of a channel.
type Key = (String, String);

/// A gauge by channel and `N` words. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GaugeOfChannel<const N: usize> {
    pub(crate) labels: [String; N],
    pub(crate) shown: Arc<ShownRows>,
}

/// What is shown of one gauge.
#[derive(Debug)]
pub(crate) struct ShownRows {
    name: String,
    help: String,
    rows: Mutex<BTreeMap<Key, Box<str>>>,
}

impl<const N: usize> GaugeOfChannel<N> {
    /// What is shown of this channel from now on; what was and is not among it goes.
    pub fn show(
        &self,
        namespace: &str,
        channel: &str,
        rows: impl IntoIterator<Item = ([String; N], u64)>,
    ) {
        let mut text = String::new();
        for (words, value) in rows {
            for (label, word) in self.labels.iter().zip(&words) {
                let word = escaped(word);
                // Writing to memory cannot fail, here and below.
                let _ = write!(text, ",{label}=\"{word}\"");
            }
            let _ = writeln!(text, "}} {value}");
        }
        let key = (namespace.to_owned(), channel.to_owned());
        let mut shown = self.shown.lock();
        if text.is_empty() {
            shown.remove(&key);
        } else if shown.get(&key).is_none_or(|before| **before != *text) {
            shown.insert(key, text.into_boxed_str());
        }
    }

    /// Nothing is shown of this channel any more.
    pub fn forget(&self, namespace: &str, channel: &str) {
        self.show(namespace, channel, []);
    }
}

impl ShownRows {
    /// None yet, of a gauge with this name.
    pub(crate) fn of(name: &str, help: &str) -> Self {
        Self { name: name.to_owned(), help: help.to_owned(), rows: Mutex::default() }
    }

    /// Puts them on a page; nothing, if there are none.
    pub(crate) fn render(&self, page: &mut String) {
        let Self { name, help, .. } = self;
        let rows = self.lock();
        if rows.is_empty() {
            return;
        }
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} gauge");
        for ((namespace, channel), text) in &*rows {
            let (namespace, channel) = (escaped(namespace), escaped(channel));
            for row in text.lines() {
                let _ =
                    writeln!(page, "{name}{{channel=\"{channel}\",namespace=\"{namespace}\"{row}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Box<str>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As the page has it between quotation marks.
fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use crate::page::MetricsPage;

    #[test]
    fn a_word_that_would_end_its_row_is_escaped() {
        let page = MetricsPage::new("test", "1");
        let gauge = page.gauge_of_channel("a", "A.", ["word"]);
        gauge.show("shop", "care", [(["a\"\n\\".to_owned()], 7)]);
        let text = page.render();
        let row = r#"a{channel="care",namespace="shop",word="a\"\n\\"} 7"#;
        assert!(text.contains(&format!("# HELP a A.\n# TYPE a gauge\n{row}\n")), "{text}");
        gauge.show("shop", "care", []);
        assert!(!page.render().contains("care"));
    }
}

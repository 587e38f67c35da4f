//! What a graph asks when it stops, while it is read: a text, or the value as JSON.
//!
//! Takes what a reader tells about the values below one interrupt; gives the question. A string is
//! one; of an object its `text`, `question` or `message`, in this order; else the value as it is.
//! Never holds more of it than a reply can have.

use serde_json::json;

use crate::outbound::agent::answer::LONGEST_TEXT;
use crate::outbound::agent::json::{Nest, Path};

/// Longest id of an interrupt.
const LONGEST_ID: usize = 256;
/// Keys of an object that may hold the text, the best first.
const TEXTS: [&str; 3] = ["text", "question", "message"];
/// Values that ask nothing.
const NOTHING: [&str; 4] = ["", "null", "{}", "[]"];

/// An interrupt that is being read.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    id: String,
    /// The text, with its place among the keys.
    text: Option<(usize, String)>,
    json: String,
    is_first: bool,
    is_cut: bool,
}

/// What a graph asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The server's id of it, if it gives one.
    pub(crate) id: Option<String>,
    /// The text, not blank.
    pub(crate) text: String,
    /// There was more of it than a reply can have.
    pub(crate) is_cut: bool,
}

impl Draft {
    /// The question, if there is a text.
    pub(crate) fn asked(self) -> Option<Asked> {
        let text = self.text.map_or(self.json, |(_, text)| text);
        let asks = !NOTHING.contains(&text.trim());
        let id = Some(self.id).filter(|id| !id.is_empty());
        asks.then_some(Asked { id, text, is_cut: self.is_cut })
    }

    pub(crate) fn room(&self, below: Path<'_>) -> Option<usize> {
        match below {
            ["id"] => Some(LONGEST_ID),
            ["value", ..] => Some(LONGEST_TEXT.saturating_sub(self.json.len())),
            _ => None,
        }
    }

    pub(crate) fn string(&mut self, below: Path<'_>, text: &str, whole: bool) {
        if below == ["id"] {
            text.clone_into(&mut self.id);
            return;
        }
        self.is_cut |= !whole;
        match below {
            ["value"] => text.clone_into(&mut self.json),
            ["value", key] => {
                self.write(&json!(text).to_string());
                self.offer(key, text);
            }
            _ => self.write(&json!(text).to_string()),
        }
    }

    pub(crate) fn word(&mut self, below: Path<'_>, word: &str) {
        if below.first() == Some(&"value") {
            self.write(word);
        }
    }

    pub(crate) fn key(&mut self, below: Path<'_>, key: &str) {
        if below.first() == Some(&"value") {
            self.write(&json!(key).to_string());
            self.json.push(':');
            self.is_first = true;
        }
    }

    pub(crate) fn open(&mut self, below: Path<'_>, nest: Nest) {
        if below.first() == Some(&"value") {
            self.write(if nest == Nest::Object { "{" } else { "[" });
            self.is_first = true;
        }
    }

    pub(crate) fn close(&mut self, below: Path<'_>, nest: Nest) {
        if below.first() == Some(&"value") {
            self.is_first = true;
            self.write(if nest == Nest::Object { "}" } else { "]" });
        }
    }

    fn offer(&mut self, key: &str, text: &str) {
        let place = TEXTS.iter().position(|known| *known == key);
        let Some(place) = place.filter(|_| !text.trim().is_empty()) else { return };
        if self.text.as_ref().is_none_or(|(best, _)| place < *best) {
            self.text = Some((place, text.to_owned()));
        }
    }

    fn write(&mut self, part: &str) {
        if !self.is_first && !self.json.is_empty() {
            self.json.push(',');
        }
        self.is_first = false;
        if self.json.len() + part.len() > LONGEST_TEXT {
            self.is_cut = true;
        } else {
            self.json.push_str(part);
        }
    }
}

//! One message of a graph's state, while it is read: who said it, and its text.
//!
//! Takes what a reader tells about the values below the message; gives what the graph said, if it
//! was the graph. Never holds more of a text than a reply can have.

use kanarie_words::hex;
use sha2::{Digest as _, Sha256};

use crate::outbound::agent::answer::LONGEST_TEXT;
use crate::outbound::agent::json::Path;

/// Longest id that is told from others.
const LONGEST_ID: usize = 256;
/// Longest word for a role that means something.
const LONGEST_ROLE: usize = 16;

/// A message.
#[derive(Debug, Default)]
pub(crate) struct Message {
    id: String,
    is_ai: bool,
    text: String,
    is_cut: bool,
    block: Block,
}

/// A part of a message's content.
#[derive(Debug, Default)]
struct Block {
    is_text: bool,
    begins: usize,
    was_cut: bool,
}

/// A text of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Names it: its id, or for want of one a hash of the text.
    pub(crate) name: String,
    /// The text, not blank.
    pub(crate) text: String,
    /// There was more of it than a reply can have.
    pub(crate) is_cut: bool,
}

impl Message {
    /// Whether its id is this one.
    pub(crate) fn is(&self, id: &str) -> bool {
        self.id == id
    }

    /// What the graph said by it, if it is the graph's and has a text.
    pub(crate) fn said(&self) -> Option<Said> {
        if !self.is_ai || self.text.trim().is_empty() {
            return None;
        }
        let name = match self.id.as_str() {
            "" => format!("text:{}", hex::encode(&Sha256::digest(&self.text)[..16])),
            id => id.to_owned(),
        };
        Some(Said { name, text: self.text.clone(), is_cut: self.is_cut })
    }

    pub(crate) fn room(&self, below: Path<'_>) -> Option<usize> {
        match below {
            ["id"] => Some(LONGEST_ID),
            ["type" | "role"] | ["content", "[]", "type"] => Some(LONGEST_ROLE),
            ["content"] | ["content", "[]"] | ["content", "[]", "text"] => {
                Some(LONGEST_TEXT.saturating_sub(self.text.len()))
            }
            _ => None,
        }
    }

    pub(crate) fn string(&mut self, below: Path<'_>, text: &str, whole: bool) {
        match below {
            ["id"] => text.clone_into(&mut self.id),
            ["type"] => self.is_ai |= matches!(text, "ai" | "AIMessageChunk"),
            ["role"] => self.is_ai |= text == "assistant",
            ["content", "[]", "type"] => self.block.is_text = text == "text",
            _ => {
                self.text.push_str(text);
                self.is_cut |= !whole;
            }
        }
    }

    pub(crate) fn open(&mut self, below: Path<'_>) {
        if below == ["content", "[]"] {
            let (begins, was_cut) = (self.text.len(), self.is_cut);
            self.block = Block { is_text: false, begins, was_cut };
        }
    }

    pub(crate) fn close(&mut self, below: Path<'_>) {
        if below == ["content", "[]"] && !self.block.is_text {
            self.text.truncate(self.block.begins);
            self.is_cut = self.block.was_cut;
        }
    }
}

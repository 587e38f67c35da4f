//! The string, key or word that a reader of JSON is at: as much of it as there is room for.
//!
//! Takes bytes and escaped characters, keeps them up to its room. Half a surrogate becomes U+FFFD.
//! Never says what is UTF-8: who takes the bytes does.

use std::char::REPLACEMENT_CHARACTER;

/// What is kept for the next string.
const SMALL: usize = 256;

/// The string, key or word that is being read.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) room: Option<usize>,
    pub(super) cut: bool,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

impl Text {
    pub(super) fn begin(&mut self, room: Option<usize>) {
        self.bytes.clear();
        // One long string must not be paid for as long as the rest is read.
        self.bytes.shrink_to(SMALL);
        (self.room, self.cut, self.high) = (room, false, None);
    }

    /// Takes text that is not half a surrogate.
    pub(super) fn say(&mut self, text: &[u8]) {
        self.settle();
        self.keep(text);
    }

    pub(super) fn say_code(&mut self, code: u16) {
        let pair = self.high.take().map(|high| char::decode_utf16([high, code]).next());
        match pair {
            Some(Some(Ok(letter))) => return self.keep_char(letter),
            Some(_) => self.keep_char(REPLACEMENT_CHARACTER),
            None => {}
        }
        match code {
            0xD800..=0xDBFF => self.high = Some(code),
            code => self.keep_char(char::from_u32(code.into()).unwrap_or(REPLACEMENT_CHARACTER)),
        }
    }

    /// The first half of a pair that no second half follows.
    pub(super) fn settle(&mut self) {
        if self.high.take().is_some() {
            self.keep_char(REPLACEMENT_CHARACTER);
        }
    }

    fn keep_char(&mut self, letter: char) {
        self.keep(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) {
        let room = self.room.unwrap_or_default().saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }
}

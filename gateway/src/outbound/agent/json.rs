//! A lenient reader of JSON that comes in pieces, and keeps nothing but what its visitor asks for.
//!
//! Takes bytes as they arrive, tells a visitor what stands at which path. Half a surrogate and
//! bytes that are no UTF-8 become U+FFFD; a byte order mark, a control character inside a string
//! and Python's `NaN` and `Infinity` are passed over. Never builds a tree, never recurses, never
//! holds more of a string than the visitor has room for: an answer of any size takes the same memory.

mod text;

use std::io;

use crate::outbound::agent::json::text::Text;

/// Deepest nesting that is followed.
const DEEPEST: usize = 512;
/// Most bytes of a key, and of a number.
const LONGEST_WORD: usize = 256;
/// The step of a path for an element of a list.
const ITEM: &str = "[]";
/// Words beside numbers that stand for a value; the last three are Python's.
const WORDS: [&[u8]; 6] = [b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity"];

/// Where a value stands: the keys that lead to it, `"[]"` for an element of a list, `""` for a key
/// that the visitor does not know.
pub(crate) type Path<'a> = &'a [&'static str];

/// What a visitor is told. A value's path ends with its own key.
pub(crate) trait Visit {
    /// The keys that stand in a path by their name.
    const KEYS: &'static [&'static str];

    /// Most bytes of the string at a path; none passes over it.
    fn room(&self, path: Path<'_>) -> Option<usize>;

    /// A string that there was room for; cut off at its room when not `whole`.
    fn string(&mut self, path: Path<'_>, text: &str, whole: bool);

    /// A number, `true`, `false` or `null`.
    fn word(&mut self, _path: Path<'_>, _word: &str) {}

    /// A key of the object at a path.
    fn key(&mut self, _path: Path<'_>, _key: &str) {}

    /// An object or a list begins.
    fn open(&mut self, _path: Path<'_>, _nest: Nest) {}

    /// It ends.
    fn close(&mut self, _path: Path<'_>, _nest: Nest) {}
}

/// What holds other values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nest {
    Object,
    List,
}

/// Why reading goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is no JSON.
    Malformed,
    /// It has more bytes than are read.
    TooLarge,
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Json<'v, V> {
    visitor: &'v mut V,
    most: u64,
    left: u64,
    failed: Option<Unread>,
    at: At,
    path: Vec<&'static str>,
    text: Text,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    Value,
    FirstItem,
    Key,
    FirstKey,
    Colon,
    Text { key: bool },
    Escape { key: bool },
    Code { key: bool, digits: u8, code: u16 },
    Word,
    After,
    End,
}

impl<'v, V: Visit> Json<'v, V> {
    /// Reads at most `most` bytes for a visitor.
    pub(crate) fn new(visitor: &'v mut V, most: u64) -> Self {
        let text = Text::default();
        Self { visitor, most, left: most, failed: None, at: At::Start, path: Vec::new(), text }
    }

    /// Reads on.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), Unread> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(length).ok_or(Unread::TooLarge)?;
        let mut rest = bytes;
        while let [byte, tail @ ..] = rest {
            rest = match self.at {
                At::Text { key } => self.in_text(key, rest)?,
                At::Word if is_end_of_word(*byte) => {
                    self.end_word()?;
                    rest
                }
                at => {
                    self.step(at, *byte)?;
                    tail
                }
            };
        }
        Ok(())
    }

    /// How many bytes were read.
    pub(crate) fn read(&self) -> u64 {
        self.most - self.left
    }

    /// Tells whether what was read is whole.
    pub(crate) fn finish(&mut self) -> Result<(), Unread> {
        if self.at == At::Word && self.path.is_empty() {
            self.end_word()?;
        }
        match self.failed {
            Some(unread) => Err(unread),
            None if self.at == At::End => Ok(()),
            None => Err(Unread::Malformed),
        }
    }

    /// Why reading stopped, if it did while something was written.
    pub(crate) fn failed(&self) -> Option<Unread> {
        self.failed
    }

    fn step(&mut self, at: At, byte: u8) -> Result<(), Unread> {
        match (at, byte) {
            (At::Escape { key }, byte) => self.escape(key, byte),
            (At::Code { key, digits, code }, byte) => self.code(key, digits, code, byte)?,
            (At::Word, byte) => self.text.keep(&[byte]),
            (_, b' ' | b'\t' | b'\r' | b'\n') | (At::Start, 0xEF | 0xBB | 0xBF) => {}
            (At::FirstItem, b']') | (At::FirstKey, b'}') => self.close(),
            (At::Start | At::Value | At::FirstItem, byte) => self.value(byte)?,
            (At::Key | At::FirstKey, b'"') => self.begin_text(true),
            (At::Colon, b':') => self.at = At::Value,
            (At::After, b',') => self.at = if self.in_list() { At::Value } else { At::Key },
            (At::After, b']') if self.in_list() => self.close(),
            (At::After, b'}') if !self.in_list() => self.close(),
            _ => return Err(Unread::Malformed),
        }
        Ok(())
    }

    fn value(&mut self, first: u8) -> Result<(), Unread> {
        match first {
            b'"' => self.begin_text(false),
            b'{' => self.open(Nest::Object)?,
            b'[' => self.open(Nest::List)?,
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'N' | b'I' => {
                self.text.begin(Some(LONGEST_WORD));
                self.text.keep(&[first]);
                self.at = At::Word;
            }
            _ => return Err(Unread::Malformed),
        }
        Ok(())
    }

    fn open(&mut self, nest: Nest) -> Result<(), Unread> {
        if self.path.len() == DEEPEST {
            return Err(Unread::Malformed);
        }
        self.visitor.open(&self.path, nest);
        let (at, step) = match nest {
            Nest::Object => (At::FirstKey, ""),
            Nest::List => (At::FirstItem, ITEM),
        };
        self.at = at;
        self.path.push(step);
        Ok(())
    }

    fn close(&mut self) {
        let nest = if self.in_list() { Nest::List } else { Nest::Object };
        self.path.pop();
        self.visitor.close(&self.path, nest);
        self.end_value();
    }

    fn end_value(&mut self) {
        self.at = if self.path.is_empty() { At::End } else { At::After };
    }

    fn in_list(&self) -> bool {
        self.path.last() == Some(&ITEM)
    }

    fn begin_text(&mut self, key: bool) {
        self.text.begin(if key { Some(LONGEST_WORD) } else { self.visitor.room(&self.path) });
        self.at = At::Text { key };
    }

    /// Reads a string up to its end or to the next escape; gives what comes after.
    fn in_text<'b>(&mut self, key: bool, bytes: &'b [u8]) -> Result<&'b [u8], Unread> {
        let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        let (text, rest) = bytes.split_at(plain.unwrap_or(bytes.len()));
        if !text.is_empty() {
            self.text.say(text);
        }
        match rest {
            [b'"', rest @ ..] => {
                self.end_text(key);
                Ok(rest)
            }
            [_, rest @ ..] => {
                self.at = At::Escape { key };
                Ok(rest)
            }
            [] => Ok(rest),
        }
    }

    fn escape(&mut self, key: bool, byte: u8) {
        self.at = At::Text { key };
        match byte {
            b'u' => self.at = At::Code { key, digits: 0, code: 0 },
            b'b' => self.text.say(b"\x08"),
            b'f' => self.text.say(b"\x0c"),
            b'n' => self.text.say(b"\n"),
            b'r' => self.text.say(b"\r"),
            b't' => self.text.say(b"\t"),
            other => self.text.say(&[other]),
        }
    }

    fn code(&mut self, key: bool, digits: u8, code: u16, byte: u8) -> Result<(), Unread> {
        let digit = char::from(byte).to_digit(16).ok_or(Unread::Malformed)?;
        let code = code << 4 | u16::try_from(digit).unwrap_or_default();
        self.at = At::Code { key, digits: digits + 1, code };
        if digits == 3 {
            self.text.say_code(code);
            self.at = At::Text { key };
        }
        Ok(())
    }

    fn end_text(&mut self, key: bool) {
        self.text.settle();
        let text = String::from_utf8_lossy(&self.text.bytes);
        if !key {
            if let Some(room) = self.text.room {
                // What replaces a byte that is no UTF-8 is three times as long.
                let fits = text.floor_char_boundary(room);
                let whole = fits == text.len() && !self.text.cut;
                self.visitor.string(&self.path, &text[..fits], whole);
            }
            self.end_value();
            return;
        }
        let step = V::KEYS.iter().find(|known| **known == text).copied().unwrap_or_default();
        self.path.pop();
        self.visitor.key(&self.path, &text);
        self.path.push(step);
        self.at = At::Colon;
    }

    fn end_word(&mut self) -> Result<(), Unread> {
        let word = &self.text.bytes;
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        if !WORDS.contains(&word.as_slice()) && !word.iter().all(is_digit) {
            return Err(Unread::Malformed);
        }
        self.visitor.word(&self.path, &String::from_utf8_lossy(word));
        self.end_value();
        Ok(())
    }
}

/// A decoder writes into it; what was wrong is asked for afterwards.
impl<V: Visit> io::Write for Json<'_, V> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.feed(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(unread) => {
                self.failed = Some(unread);
                Err(io::Error::other("this is not read"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_end_of_word(byte: u8) -> bool {
    matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::{Strategy, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert_eq};
    use serde_json::Value;

    use super::{Json, Nest, Path, Unread, Visit};

    /// Writes down everything that it is told.
    #[derive(Default)]
    struct Log(String);

    impl Visit for Log {
        const KEYS: &'static [&'static str] = &["text", "list"];

        fn room(&self, path: Path<'_>) -> Option<usize> {
            (!path.contains(&"list")).then_some(8)
        }

        fn string(&mut self, path: Path<'_>, text: &str, whole: bool) {
            let _ = write!(self.0, "{}={text}{} ", path.join("."), if whole { "" } else { "…" });
        }

        fn word(&mut self, path: Path<'_>, word: &str) {
            let _ = write!(self.0, "{}:{word} ", path.join("."));
        }

        fn key(&mut self, path: Path<'_>, key: &str) {
            let _ = write!(self.0, "{}.{key}? ", path.join("."));
        }

        fn open(&mut self, _: Path<'_>, nest: Nest) {
            self.0 += if nest == Nest::List { "[ " } else { "{ " };
        }

        fn close(&mut self, _: Path<'_>, nest: Nest) {
            self.0 += if nest == Nest::List { "] " } else { "} " };
        }
    }

    fn read(pieces: &[&[u8]]) -> Result<String, Unread> {
        let mut log = Log::default();
        let mut json = Json::new(&mut log, 1_000);
        pieces.iter().try_for_each(|piece| json.feed(piece))?;
        json.finish()?;
        Ok(log.0.strip_suffix(' ').unwrap_or_default().to_owned())
    }

    #[test]
    fn everything_is_told_with_its_path() {
        let json = br#" {"text": "Dag", "x": [1, {"text": null}], "list": ["a", true]} "#;
        let told =
            "{ .text? text=Dag .x? [ .[]:1 { .[].text? .[].text:null } ] .list? [ list.[]:true ] }";
        assert_eq!(read(&[json]).as_deref(), Ok(told));
    }

    #[test]
    fn half_a_surrogate_and_what_is_no_utf_8_are_replaced() {
        for (json, text) in [
            (br#""a\ud83d""#.as_slice(), "a\u{fffd}"),
            (br#""\ud83da""#, "\u{fffd}a"),
            (br#""\ude00""#, "\u{fffd}"),
            (br#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (br#""\ud83d\n""#, "\u{fffd}\n"),
            (br#""\ud83d\u0041""#, "\u{fffd}A"),
            (br#""\uD83D\uDE00""#, "\u{1f600}"),
            (b"\"a\xff\"", "a\u{fffd}"),
            (b"\"\xc3\"", "\u{fffd}"),
        ] {
            assert_eq!(read(&[json]), Ok(format!("={text}")), "{}", json.escape_ascii());
        }
    }

    #[test]
    fn a_byte_order_mark_control_characters_and_the_words_of_python_are_passed_over() {
        assert_eq!(
            read(&[b"\n\n\xef\xbb\xbf{\"text\":\"a\nb\"}"]).as_deref(),
            Ok("{ .text? text=a\nb }")
        );
        assert_eq!(
            read(&[b"[NaN,-Infinity,1e-9]"]).as_deref(),
            Ok("[ []:NaN []:-Infinity []:1e-9 ]")
        );
    }

    #[test]
    fn a_string_is_kept_up_to_its_room() {
        assert_eq!(read(&[br#""0123456789""#]).as_deref(), Ok("=01234567…"));
        assert_eq!(read(&[br#""01234567""#]).as_deref(), Ok("=01234567"));
    }

    #[test]
    fn what_is_no_json_or_not_whole_is_malformed() {
        for json in [
            "",
            "Dag",
            "{",
            "[1",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{1:2}",
            "[1 2]",
            "{} {}",
            "]",
            "\"\\u12g4\"",
            "\"a",
            "tru",
            "{\"a\":1,}",
            "[1}",
            "<html>",
        ] {
            assert_eq!(read(&[json.as_bytes()]), Err(Unread::Malformed), "{json}");
        }
        assert_eq!(read(&[&b"[".repeat(600)]), Err(Unread::Malformed));
    }

    #[test]
    fn more_than_is_read_is_too_large() {
        assert_eq!(read(&[&b" ".repeat(900), &b" ".repeat(101)]), Err(Unread::TooLarge));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<Option<bool>>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                collection::btree_map("text|list|.{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_serde_writes_is_read_alike_in_one_piece_and_in_many(
            value in values(), size in 1_usize..9, pretty: bool,
        ) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let mut whole = Log::default();
            let mut json = Json::new(&mut whole, u64::MAX);
            prop_assert_eq!(json.feed(text.as_bytes()).and_then(|()| json.finish()), Ok(()));
            let mut parts = Log::default();
            let mut json = Json::new(&mut parts, u64::MAX);
            let fed = text.as_bytes().chunks(size).try_for_each(|piece| json.feed(piece));
            prop_assert_eq!(fed.and_then(|()| json.finish()), Ok(()));
            prop_assert_eq!(whole.0, parts.0);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&bytes]);
        }

        #[test]
        fn no_almost_json_makes_it_panic(text in r#"[\[\]{}",:\\u0-9dD83ntf -]{0,60}"#) {
            let _ = read(&[text.as_bytes()]);
        }
    }
}

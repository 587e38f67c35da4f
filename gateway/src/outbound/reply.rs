//! From an agent's text to the body of an intent: what is sent, in which pieces, and how.
//!
//! Takes a text and the revision that answered, gives the segments and the body that the store
//! keeps. Pure. Never sends, never drops a word: only white space at a cut goes.
//!
//! A segment is measured in UTF-16 units. Twilio refuses a body over 1,600 "characters" (error 21617)
//! without saying which. No usual reading counts more of them: a scalar value is one or two units, a
//! grapheme at least one.

use kanarie_crds::route::RevisionRoute;
use kanarie_words::class::Class;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// Most UTF-16 units of one segment.
pub const SEGMENT_LENGTH: usize = 1_600;
/// Most segments of one reply: a longer text is no answer to a chat message.
pub const MAX_SEGMENTS: usize = 20;
/// A border of a better kind is taken only after this part of a segment, so that a heading of one
/// line does not become a message of its own.
const SHORTEST_SEGMENT: usize = SEGMENT_LENGTH / 4;

/// The body of an intent: the segments and how to send them.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// What is sent, in order; at least one, none of them blank.
    pub segments: Vec<String>,
    /// Seconds after which Twilio may no longer deliver a segment.
    pub validity_seconds: u32,
    /// Messaging Service that sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging_service_sid: Option<String>,
    /// Set for a failure text: how the agent failed. The message becomes a dead letter of this
    /// class once the text is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Class>,
}

/// Schema of what this version writes; a body without a number is of the first one.
pub const SCHEMA: u32 = 1;

/// Why the body of an intent is no reply. Neither shows anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A newer version wrote it, which knows how to send it.
    #[error("a newer gateway wrote this reply: it waits for one")]
    Newer,
    /// No version wrote this.
    #[error("the stored reply cannot be read by any version")]
    Unreadable,
}

/// The body of an intent as the store keeps it.
pub fn write(reply: &Reply) -> String {
    let numbered = Numbered { schema: SCHEMA, reply };
    serde_json::to_string(&numbered).expect("a reply has string keys only")
}

/// Reads the body of an intent.
///
/// # Errors
/// When this version is not the one to send it.
pub fn read(body: &str) -> Result<Reply, ReplyError> {
    let head: Head = serde_json::from_str(body).map_err(|_| ReplyError::Unreadable)?;
    let is_known = head.failed.is_none_or(|class| Class::parse(&class).is_some());
    if head.schema > SCHEMA || !is_known {
        return Err(ReplyError::Newer);
    }
    serde_json::from_str(body).map_err(|_| ReplyError::Unreadable)
}

#[derive(Serialize)]
struct Numbered<'a> {
    schema: u32,
    #[serde(flatten)]
    reply: &'a Reply,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default = "first_schema")]
    schema: u32,
    #[serde(default)]
    failed: Option<String>,
}

fn first_schema() -> u32 {
    1
}

/// The reply with an agent's text, or none when the text is blank or has too many segments.
pub fn build(text: &str, revision: &RevisionRoute) -> Option<Reply> {
    let segments = split(text);
    (1..=MAX_SEGMENTS).contains(&segments.len()).then(|| Reply {
        segments,
        validity_seconds: revision.validity_seconds,
        messaging_service_sid: revision.messaging_service_sid.clone(),
        failed: None,
    })
}

/// The reply with the revision's failure text, or none when it has none.
pub fn build_failure(class: Class, revision: &RevisionRoute) -> Option<Reply> {
    let reply = build(&revision.failure_text, revision)?;
    Some(Reply { failed: Some(class), ..reply })
}

/// Splits a text into segments of at most [`SEGMENT_LENGTH`] UTF-16 units, on the border of a
/// paragraph, else of a line, a sentence, a word, a grapheme.
pub fn split(text: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = after_blanks(text).trim_end();
    while let Some(limit) = end_of(rest, SEGMENT_LENGTH) {
        let cut = border(rest, limit);
        let (head, tail) = rest.split_at(cut);
        segments.push(head.trim_end().to_owned());
        rest = after_blanks(tail);
    }
    if !rest.is_empty() {
        segments.push(rest.to_owned());
    }
    segments
}

/// Byte position of the first letter that is not within so many UTF-16 units; none when all are.
fn end_of(text: &str, units: usize) -> Option<usize> {
    let mut seen = 0;
    text.char_indices()
        .find(|(_, letter)| {
            seen += letter.len_utf16();
            seen > units
        })
        .map(|(at, _)| at)
}

/// Byte position of the best border at or before `limit`, never 0.
fn border(text: &str, limit: usize) -> usize {
    let window = &text[..limit];
    let shortest = end_of(text, SHORTEST_SEGMENT).unwrap_or(0);
    let good = |at: &usize| *at >= shortest;
    // White space right after the window is a border too: then the window is a whole word.
    let words = blanks(text, limit);
    last(window, "\n\n")
        .filter(good)
        .or_else(|| last(window, "\n").filter(good))
        .or_else(|| words.iter().copied().rfind(|at| ends_sentence(&text[..*at])).filter(good))
        .or_else(|| words.last().copied())
        .unwrap_or_else(|| grapheme_border(text, limit))
}

fn last(window: &str, separator: &str) -> Option<usize> {
    window.rfind(separator).filter(|at| *at > 0)
}

/// Byte positions of the white space at or before `limit`, except at the start.
fn blanks(text: &str, limit: usize) -> Vec<usize> {
    let graphemes = text.grapheme_indices(true).take_while(|(at, _)| *at <= limit);
    graphemes.filter(|(at, letter)| *at > 0 && is_blank(letter)).map(|(at, _)| at).collect()
}

fn ends_sentence(text: &str) -> bool {
    text.ends_with(['.', '!', '?', '…'])
}

/// What comes after the white space at the start.
fn after_blanks(text: &str) -> &str {
    let first = text.grapheme_indices(true).find(|(_, letter)| !is_blank(letter));
    first.map_or("", |(at, _)| &text[at..])
}

/// White space that bears a mark is none: it is seen.
fn is_blank(grapheme: &str) -> bool {
    grapheme.chars().all(char::is_whitespace)
}

/// The last border between graphemes; a single grapheme longer than a segment is cut at `limit`.
fn grapheme_border(text: &str, limit: usize) -> usize {
    text.grapheme_indices(true)
        .map(|(at, _)| at)
        .take_while(|at| *at <= limit)
        .last()
        .filter(|at| *at > 0)
        .unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use kanarie_crds::route::RevisionRoute;
    use kanarie_fakes::samples;
    use kanarie_words::class::Class;
    use proptest::prelude::{ProptestConfig, proptest};
    use proptest::prop_assert;
    use proptest::prop_assert_eq;

    use serde_json::json;
    use unicode_segmentation::UnicodeSegmentation as _;

    use super::{
        MAX_SEGMENTS, ReplyError, SEGMENT_LENGTH, build, build_failure, read, split, write,
    };

    fn revision(failure_text: &str) -> RevisionRoute {
        let agent = json!({"http": {"url": "http://agent"}});
        let mut revision = samples::revision("one", agent);
        revision["failureText"] = failure_text.into();
        revision["messagingServiceSid"] = "MG1".into();
        serde_json::from_value(revision).unwrap()
    }

    fn letters(text: &str) -> Vec<&str> {
        text.graphemes(true).filter(|letter| !letter.trim().is_empty()).collect()
    }

    #[test]
    fn a_text_of_exactly_1600_characters_is_one_segment() {
        assert_eq!(split(&"é".repeat(SEGMENT_LENGTH)).len(), 1);
    }

    #[test]
    fn a_text_of_1601_characters_is_two_segments() {
        let segments = split(&"a".repeat(SEGMENT_LENGTH + 1));
        assert_eq!(segments.iter().map(String::len).collect::<Vec<_>>(), [1_600, 1]);
    }

    #[test]
    fn emoji_are_counted_as_the_two_units_that_they_are() {
        let segments = split(&"😀".repeat(SEGMENT_LENGTH));
        assert_eq!(segments, ["😀".repeat(SEGMENT_LENGTH / 2), "😀".repeat(SEGMENT_LENGTH / 2)]);
        assert_eq!(split(&format!("a{}", "😀".repeat(SEGMENT_LENGTH / 2))).len(), 2);
    }

    #[test]
    fn a_paragraph_border_is_preferred_to_a_later_sentence() {
        let first = format!("{}.", "a".repeat(700));
        let second = format!("{}. {}", "b".repeat(600), "c".repeat(600));
        assert_eq!(split(&format!("{first}\n\n{second}")), [first, second]);
    }

    #[test]
    fn a_short_heading_does_not_become_a_segment_of_its_own() {
        let text = format!("Hallo!\n\n{}", "woord ".repeat(400));
        assert!(split(&text)[0].chars().count() > SEGMENT_LENGTH / 2);
    }

    #[test]
    fn a_sentence_border_is_preferred_to_a_later_word() {
        let sentence = format!("{}.", "a".repeat(1_000));
        let rest = "woord ".repeat(200);
        assert_eq!(split(&format!("{sentence} {rest}"))[0], sentence);
    }

    #[test]
    fn words_stay_whole() {
        let text = "elektrische ".repeat(400);
        assert!(split(&text).iter().flat_map(|part| part.split(' ')).all(|w| w == "elektrische"));
    }

    #[test]
    fn a_family_of_emoji_is_not_torn_apart() {
        let family = "👨‍👩‍👧‍👦";
        let segments = split(&format!("a{}", family.repeat(400)));
        assert!(segments.len() > 1);
        assert!(segments.iter().all(|part| part.ends_with(family)));
    }

    #[test]
    fn a_space_that_bears_a_mark_keeps_it() {
        let marked = format!("{} \u{301}{}", "a".repeat(1_590), "b".repeat(100));
        assert_eq!(split(&marked)[0], format!("{} \u{301}bbbbbbbb", "a".repeat(1_590)));
    }

    #[test]
    fn a_grapheme_longer_than_a_segment_is_cut() {
        let text = format!("a{}", "\u{301}".repeat(2_000));
        assert_eq!(split(&text).len(), 2);
    }

    #[test]
    fn a_blank_text_is_no_reply() {
        assert_eq!(build(" \n\t ", &revision("")), None);
    }

    #[test]
    fn a_text_of_more_than_twenty_segments_is_no_reply() {
        let most = "a".repeat(SEGMENT_LENGTH * MAX_SEGMENTS);
        assert!(build(&most, &revision("")).is_some());
        assert_eq!(build(&format!("{most}a"), &revision("")), None);
    }

    #[test]
    fn an_empty_failure_text_sends_nothing() {
        assert_eq!(build_failure(Class::Timeout, &revision("")), None);
    }

    #[test]
    fn a_failure_text_carries_how_the_agent_failed() {
        let reply = build_failure(Class::Timeout, &revision("Sorry")).unwrap();
        assert_eq!((reply.segments, reply.failed), (vec!["Sorry".into()], Some(Class::Timeout)));
    }

    #[test]
    fn a_reply_is_read_back_and_one_of_a_newer_gateway_is_left_alone() {
        let reply = build_failure(Class::Timeout, &revision("Sorry")).unwrap();
        let written = write(&reply);
        assert_eq!(read(&written).as_ref(), Ok(&reply));
        let newer = written.replacen("\"schema\":1", "\"schema\":2", 1);
        assert_eq!(read(&newer), Err(ReplyError::Newer));
        let class = written.replacen("timeout", "a-later-class", 1);
        assert_eq!(read(&class), Err(ReplyError::Newer));
    }

    #[test]
    fn a_body_of_the_first_version_is_read_and_what_is_none_is_unreadable() {
        let first = r#"{"segments":["Dag"],"validitySeconds":600}"#;
        assert_eq!(read(first).unwrap().segments, ["Dag"]);
        for body in ["", "[]", "{}", r#"{"segments":"Dag"}"#] {
            assert_eq!(read(body), Err(ReplyError::Unreadable), "{body}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_letter_is_lost_or_torn_and_no_segment_is_blank_or_too_long(
            text in proptest::string::string_regex("([a-z]{1,40}[ .\n]{0,3}|👩‍🚀|[\\PC]){0,2500}")
                .unwrap()
        ) {
            let segments = split(&text);
            let sent: Vec<&str> = segments.iter().flat_map(|segment| letters(segment)).collect();
            prop_assert_eq!(sent, letters(&text));
            for segment in segments {
                prop_assert!(!segment.trim().is_empty());
                prop_assert!(segment.encode_utf16().count() <= SEGMENT_LENGTH);
            }
        }
    }
}

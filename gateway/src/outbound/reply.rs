//! From an agent's text to the body of an intent: what is sent, in which pieces, and how.
//!
//! Takes a text and the revision that answered, gives the segments and the body that the store
//! keeps. Pure. Never sends, never drops a word: only white space at a cut goes.
//!
//! A segment is measured in Unicode scalar values. Twilio refuses a body over 1,600 "characters"
//! (error 21617) without saying which. A grapheme can be many scalar values, so counting graphemes
//! could exceed any reading of the limit; scalar values are what languages with real strings count.

use kanarie_crds::route::RevisionRoute;
use kanarie_queue::types::Class;
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// Most Unicode scalar values of one segment.
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

/// Splits a text into segments of at most [`SEGMENT_LENGTH`] scalar values, on the border of a
/// paragraph, else of a line, a sentence, a word, a grapheme.
pub fn split(text: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = text.trim();
    while let Some((limit, _)) = rest.char_indices().nth(SEGMENT_LENGTH) {
        let cut = border(rest, limit);
        let (head, tail) = rest.split_at(cut);
        segments.push(head.trim_end().to_owned());
        rest = tail.trim_start();
    }
    if !rest.is_empty() {
        segments.push(rest.to_owned());
    }
    segments
}

/// Byte position of the best border at or before `limit`, never 0.
fn border(text: &str, limit: usize) -> usize {
    let window = &text[..limit];
    let shortest = text.char_indices().nth(SHORTEST_SEGMENT).map_or(0, |(at, _)| at);
    let good = |at: &usize| *at >= shortest;
    // White space right after the window is a border too: then the window is a whole word.
    let fits = text[limit..].starts_with(char::is_whitespace).then_some(limit);
    last(window, "\n\n")
        .filter(good)
        .or_else(|| last(window, "\n").filter(good))
        .or_else(|| sentence_end(text, limit).filter(good))
        .or(fits)
        .or_else(|| window.rfind(char::is_whitespace).filter(|at| *at > 0))
        .unwrap_or_else(|| grapheme_border(text, limit))
}

fn last(window: &str, separator: &str) -> Option<usize> {
    window.rfind(separator).filter(|at| *at > 0)
}

/// Byte position after the last full stop, question or exclamation mark that white space follows,
/// at or before `limit`.
fn sentence_end(text: &str, limit: usize) -> Option<usize> {
    let (window, after) = text.split_at(limit);
    let mut following = after.chars().next();
    for (at, letter) in window.char_indices().rev() {
        if matches!(letter, '.' | '!' | '?' | '…') && following.is_some_and(char::is_whitespace) {
            return Some(at + letter.len_utf8());
        }
        following = Some(letter);
    }
    None
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
    use kanarie_crds::route::{AgentRoute, RevisionRoute};
    use kanarie_queue::types::Class;
    use proptest::prelude::{ProptestConfig, proptest};
    use proptest::prop_assert;
    use proptest::prop_assert_eq;

    use super::{MAX_SEGMENTS, SEGMENT_LENGTH, build, build_failure, split};

    fn revision(failure_text: &str) -> RevisionRoute {
        RevisionRoute {
            revision: "one".parse().unwrap(),
            agent: AgentRoute::Http { url: "http://agent".to_owned(), token: None },
            timeout_ms: 1_000,
            validity_seconds: 600,
            failure_text: failure_text.to_owned(),
            messaging_service_sid: Some("MG1".to_owned()),
        }
    }

    fn letters(text: &str) -> String {
        text.chars().filter(|letter| !letter.is_whitespace()).collect()
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_letter_is_lost_and_no_segment_is_blank_or_too_long(
            text in proptest::string::string_regex("([a-z]{1,40}[ .\n]{0,3}|👩‍🚀|[\\PC]){0,2500}")
                .unwrap()
        ) {
            let segments = split(&text);
            prop_assert_eq!(letters(&segments.concat()), letters(&text));
            for segment in segments {
                prop_assert!(!segment.trim().is_empty());
                prop_assert!(segment.chars().count() <= SEGMENT_LENGTH);
            }
        }
    }
}

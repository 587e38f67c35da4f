//! The id that ties a send to its status callbacks: conversation, reply and segment in one word.
//!
//! Takes and gives text only; it stands in the query of the callback's URL (`?o=…`), so it holds
//! nothing that needs escaping and nothing that names a person. Pure: the random part comes from
//! the caller.

use std::fmt;

use kanarie_queue::types::ConversationId;

/// Names one segment of one reply, as `<conversation>.<intent>.<segment>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentId {
    /// The conversation that the reply belongs to.
    pub conversation: ConversationId,
    /// Id of the intent: one to 64 ASCII letters and digits.
    pub intent: String,
    /// The segment, from 0.
    pub segment: u32,
}

impl IntentId {
    /// Longest random part that is parsed.
    const MAX_INTENT: usize = 64;

    /// Parses what [`fmt::Display`] writes; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let conversation = ConversationId::parse(parts.next()?)?;
        let intent = parts.next()?;
        let segment = parts.next()?;
        let plain = (1..=Self::MAX_INTENT).contains(&intent.len())
            && intent.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let digits = !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
        if !plain || !digits {
            return None;
        }
        Some(Self { conversation, intent: intent.to_owned(), segment: segment.parse().ok()? })
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.conversation.as_str(), self.intent, self.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::IntentId;
    use kanarie_queue::types::ConversationId;

    fn id(intent: &str) -> IntentId {
        let conversation = ConversationId::from_bytes([7; 16]);
        IntentId { conversation, intent: intent.to_owned(), segment: 3 }
    }

    #[test]
    fn an_id_is_parsed_back_from_its_own_text() {
        assert_eq!(IntentId::parse(&id("a1B2").to_string()), Some(id("a1B2")));
    }

    #[test]
    fn an_id_with_anything_but_letters_and_digits_is_none() {
        for intent in ["", "a b", "a.b", "a&b", "ü", &"a".repeat(65)] {
            assert_eq!(IntentId::parse(&id(intent).to_string()), None, "{intent}");
        }
    }

    #[test]
    fn a_segment_that_is_no_number_is_none() {
        let conversation = "07".repeat(16);
        for segment in ["", "+1", "-1", "x", "1.2", "4294967296"] {
            assert_eq!(IntentId::parse(&format!("{conversation}.abc.{segment}")), None);
        }
    }
}

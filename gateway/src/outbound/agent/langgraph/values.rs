//! What a run left: the values of its graph, read for the answer to one message.
//!
//! Takes what a reader tells about the result of a run, gives what was found. An answer is a text
//! of the graph after the customer's own message; where that is gone from the state, the last text
//! may be an earlier answer, and somebody has to prove that it is not. Never holds but the last.

use crate::outbound::agent::json::{Nest, Path, Visit};
use crate::outbound::agent::langgraph::message::{Message, Said};
use crate::outbound::agent::langgraph::question::{Asked, Draft};

/// The values, while they are read.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    own: &'a str,
    has_own: bool,
    failed: bool,
    message: Message,
    said: Option<Said>,
    draft: Draft,
    asked: Option<Asked>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The graph failed.
    Failed,
    /// It stopped to ask; with the name of the last thing it said before, if it said anything.
    Asked(Asked, Option<String>),
    /// It said this after the customer's message.
    Said(Said),
    /// It said this last, before or after the message.
    Undated(Said),
    /// It said nothing.
    Nothing,
}

impl<'a> Values<'a> {
    /// For the answer to the message with this id.
    pub(crate) fn new(own: &'a str) -> Self {
        Self {
            own,
            has_own: false,
            failed: false,
            message: Message::default(),
            said: None,
            draft: Draft::default(),
            asked: None,
        }
    }

    /// What was found.
    pub(crate) fn found(self) -> Found {
        match (self.asked, self.said) {
            _ if self.failed => Found::Failed,
            (Some(asked), said) => Found::Asked(asked, said.map(|said| said.name)),
            (None, Some(said)) if self.has_own => Found::Said(said),
            (None, Some(said)) => Found::Undated(said),
            (None, None) => Found::Nothing,
        }
    }
}

impl Visit for Values<'_> {
    const KEYS: &'static [&'static str] = &[
        "__error__",
        "__interrupt__",
        "value",
        "question",
        "message",
        "messages",
        "id",
        "type",
        "role",
        "content",
        "text",
    ];

    fn room(&self, path: Path<'_>) -> Option<usize> {
        match path {
            ["messages", "[]", below @ ..] => self.message.room(below),
            ["__interrupt__", "[]", below @ ..] => self.draft.room(below),
            _ => None,
        }
    }

    fn string(&mut self, path: Path<'_>, text: &str, whole: bool) {
        match path {
            ["messages", "[]", below @ ..] => self.message.string(below, text, whole),
            ["__interrupt__", "[]", below @ ..] => self.draft.string(below, text, whole),
            _ => {}
        }
    }

    fn word(&mut self, path: Path<'_>, word: &str) {
        if let ["__interrupt__", "[]", below @ ..] = path {
            self.draft.word(below, word);
        }
    }

    fn key(&mut self, path: Path<'_>, key: &str) {
        match path {
            [] => self.failed |= key == "__error__",
            ["__interrupt__", "[]", below @ ..] => self.draft.key(below, key),
            _ => {}
        }
    }

    fn open(&mut self, path: Path<'_>, nest: Nest) {
        match path {
            ["messages", "[]"] => self.message = Message::default(),
            ["messages", "[]", below @ ..] => self.message.open(below),
            ["__interrupt__", "[]"] => self.draft = Draft::default(),
            ["__interrupt__", "[]", below @ ..] => self.draft.open(below, nest),
            _ => {}
        }
    }

    fn close(&mut self, path: Path<'_>, nest: Nest) {
        match path {
            ["messages", "[]"] if self.message.is(self.own) => {
                self.has_own = true;
                self.said = None;
            }
            ["messages", "[]"] => self.said = self.message.said().or_else(|| self.said.take()),
            ["messages", "[]", below @ ..] => self.message.close(below),
            ["__interrupt__", "[]"] if self.asked.is_none() => {
                self.asked = std::mem::take(&mut self.draft).asked();
            }
            ["__interrupt__", "[]", below @ ..] => self.draft.close(below, nest),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Found, Values};
    use crate::outbound::agent::answer::LONGEST_TEXT;
    use crate::outbound::agent::json::Json;

    fn found(body: &[u8]) -> Found {
        let mut values = Values::new("SM2");
        let mut json = Json::new(&mut values, u64::MAX);
        assert_eq!(json.feed(body).and_then(|()| json.finish()), Ok(()));
        values.found()
    }

    fn said(messages: Value) -> Option<(String, bool)> {
        let state = json!({ "other": [1, {"messages": 2}], "messages": messages });
        match found(format!("\n\n{state}").as_bytes()) {
            Found::Said(said) => Some((said.text, true)),
            Found::Undated(said) => Some((said.text, false)),
            Found::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    fn asked(value: Value) -> Option<String> {
        let body = json!({ "__interrupt__": [{ "value": value, "id": "q" }] });
        match found(body.to_string().as_bytes()) {
            Found::Asked(asked, _) => Some(asked.text),
            _ => None,
        }
    }

    #[test]
    fn the_answer_is_the_last_text_after_the_own_message() {
        let messages = json!([
            {"type": "human", "id": "SM1", "content": "Eerder"},
            {"type": "ai", "content": "Oud"},
            {"type": "human", "id": "SM2", "content": "Hallo"},
            {"type": "ai", "content": "Even kijken"},
            {"type": "tool", "content": "rows"},
            {"type": "ai", "content": [
                {"type": "text", "text": "Dag "},
                {"type": "thinking", "thinking": "hm", "text": "no"},
                {"text": "jij", "type": "text"},
                "!",
            ]},
            {"type": "ai", "content": "", "tool_calls": [{"content": "x"}]},
        ]);
        assert_eq!(said(messages), Some(("Dag jij!".to_owned(), true)));
    }

    #[test]
    fn keys_may_come_in_any_order() {
        let messages = json!([
            {"content": "Hallo", "id": "SM2", "role": "user"},
            {"content": "Dag", "id": "a", "role": "assistant"},
        ]);
        assert_eq!(said(messages), Some(("Dag".to_owned(), true)));
    }

    #[test]
    fn a_text_before_the_own_message_is_no_answer_and_without_it_none_that_is_proven() {
        let before = json!({"type": "ai", "id": "a", "content": "Oud"});
        assert_eq!(said(json!([before.clone()])), Some(("Oud".to_owned(), false)));
        let own = json!({"type": "human", "id": "SM2", "content": "Hallo"});
        assert_eq!(said(json!([before, own])), None);
    }

    #[test]
    fn half_a_character_in_the_history_spoils_nothing() {
        let body = br#"{"messages": [{"type": "tool", "content": "x\ud83d"},
            {"type": "human", "id": "SM2", "content": "Hallo"},
            {"type": "ai", "content": "Dag \ud83d\ude00"}]}"#;
        assert!(matches!(found(body), Found::Said(said) if said.text == "Dag \u{1f600}"));
    }

    #[test]
    fn a_text_that_no_reply_can_have_is_cut_and_says_so() {
        let long = "a".repeat(LONGEST_TEXT + 1);
        let body = json!({"messages": [
            {"type": "human", "id": "SM2", "content": [{"type": "image_url", "text": long}]},
            {"type": "ai", "content": [{"type": "image", "text": long}, "kort"]},
            {"type": "human", "content": long},
        ]});
        assert!(matches!(found(body.to_string().as_bytes()), Found::Said(said) if !said.is_cut));
        let body = json!({"messages": [{"type": "ai", "content": long}]}).to_string();
        assert!(matches!(found(body.as_bytes()), Found::Undated(said) if said.is_cut));
    }

    #[test]
    fn a_failed_graph_is_a_failure_although_the_status_is_200() {
        let body = br#"{"__error__": {"error": "ValueError", "message": "x"}}"#;
        assert_eq!(found(body), Found::Failed);
    }

    #[test]
    fn the_value_of_an_interrupt_is_a_question() {
        assert_eq!(asked(json!("Which colour?")).as_deref(), Some("Which colour?"));
        assert_eq!(asked(json!({"question": "Which?", "n": 1})).as_deref(), Some("Which?"));
        let all = json!({"message": "m", "question": "q", "text": "t", "deep": {"text": "d"}});
        assert_eq!(asked(all).as_deref(), Some("t"));
        assert_eq!(asked(json!({"text": " ", "message": "m"})).as_deref(), Some("m"));
    }

    #[test]
    fn an_interrupt_without_a_text_is_asked_as_json() {
        let value = json!({"a": [1, {"text": "x"}, []], "b": {"c": null, "d": "\"é\""}, "text": 1});
        let text = asked(value.clone()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert_eq!(asked(json!(["red", "blue"])).as_deref(), Some(r#"["red","blue"]"#));
        assert_eq!(asked(json!(true)).as_deref(), Some("true"));
    }

    #[test]
    fn an_interrupt_that_asks_nothing_is_passed_over() {
        for value in [json!(null), json!(""), json!(" "), json!({}), json!([])] {
            assert_eq!(asked(value.clone()), None, "{value}");
        }
        let body = json!({
            "messages": [{"type": "ai", "id": "a", "content": "Even kijken"}],
            "__interrupt__": [{"value": null}, {"id": "q2", "value": "Which?"}, {"value": "no"}],
        });
        let Found::Asked(asked, before) = found(body.to_string().as_bytes()) else { panic!() };
        assert_eq!((asked.id.as_deref(), asked.text.as_str()), (Some("q2"), "Which?"));
        assert_eq!(before.as_deref(), Some("a"));
    }
}

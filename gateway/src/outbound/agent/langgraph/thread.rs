//! What a thread tells besides the result of a run: its open questions, its runs, its past.
//!
//! Takes what a reader tells about one of the server's answers, gives the one thing that was looked
//! for. Never holds a text but the one that is being read.

use crate::outbound::agent::json::{Nest, Path, Visit};
use crate::outbound::agent::langgraph::message::Message;

/// Longest id.
const LONGEST_ID: usize = 256;
/// Most open questions that are told apart.
const MOST_OPEN: usize = 64;

/// The open questions of a thread and its latest checkpoint, from its state.
#[derive(Debug, Default)]
pub(crate) struct Open {
    id: String,
    ids: Vec<String>,
    checkpoint: String,
}

/// The latest run with a mark in its metadata, from the list of a thread's runs.
#[derive(Debug)]
pub(crate) struct Marked<'a> {
    key: &'static str,
    mark: &'a str,
    id: String,
    is_marked: bool,
    found: Option<String>,
}

/// Whether a text of the graph stands in an earlier state, from that state or a list with it.
#[derive(Debug)]
pub(crate) struct Earlier<'a> {
    name: &'a str,
    message: Message,
    is_there: bool,
    has_state: bool,
}

impl Open {
    /// Whether this question waits for an answer; one without an id, when any does.
    pub(crate) fn has(&self, id: Option<&str>) -> bool {
        id.map_or(!self.ids.is_empty(), |id| self.ids.iter().any(|open| open == id))
    }

    /// Whether several do.
    pub(crate) fn are_many(&self) -> bool {
        self.ids.len() > 1
    }

    /// The checkpoint, if the state names it.
    pub(crate) fn checkpoint(self) -> Option<String> {
        Some(self.checkpoint).filter(|id| !id.is_empty())
    }
}

impl Visit for Open {
    const KEYS: &'static [&'static str] =
        &["interrupts", "tasks", "id", "checkpoint", "checkpoint_id"];

    fn room(&self, path: Path<'_>) -> Option<usize> {
        let is_id = match path {
            ["checkpoint", "checkpoint_id"] => true,
            [question @ .., "id"] => is_question(question),
            _ => false,
        };
        is_id.then_some(LONGEST_ID)
    }

    fn string(&mut self, path: Path<'_>, text: &str, _: bool) {
        let id = if path[0] == "checkpoint" { &mut self.checkpoint } else { &mut self.id };
        text.clone_into(id);
    }

    fn open(&mut self, path: Path<'_>, _: Nest) {
        if is_question(path) {
            self.id.clear();
        }
    }

    fn close(&mut self, path: Path<'_>, _: Nest) {
        // A state names its questions twice: by themselves and with their tasks.
        if is_question(path) && self.ids.len() < MOST_OPEN && !self.ids.contains(&self.id) {
            self.ids.push(self.id.clone());
        }
    }
}

fn is_question(path: Path<'_>) -> bool {
    matches!(path, ["interrupts", "[]"] | ["tasks", "[]", "interrupts", "[]"])
}

impl<'a> Marked<'a> {
    /// For the run of one POST.
    pub(crate) fn attempt(mark: &'a str) -> Self {
        Self::new("attempt", mark)
    }

    /// For the run about a message.
    pub(crate) fn message(sid: &'a str) -> Self {
        Self::new("message_sid", sid)
    }

    fn new(key: &'static str, mark: &'a str) -> Self {
        Self { key, mark, id: String::new(), is_marked: false, found: None }
    }

    /// Its id.
    pub(crate) fn found(self) -> Option<String> {
        self.found
    }
}

impl Visit for Marked<'_> {
    const KEYS: &'static [&'static str] = &["run_id", "metadata", "attempt", "message_sid"];

    fn room(&self, path: Path<'_>) -> Option<usize> {
        match path {
            ["[]", "run_id"] => Some(LONGEST_ID),
            ["[]", "metadata", key] => (*key == self.key).then_some(LONGEST_ID),
            _ => None,
        }
    }

    fn string(&mut self, path: Path<'_>, text: &str, _: bool) {
        match path {
            ["[]", "run_id"] => text.clone_into(&mut self.id),
            _ => self.is_marked = text == self.mark,
        }
    }

    fn open(&mut self, path: Path<'_>, _: Nest) {
        if path == ["[]"] {
            self.is_marked = false;
        }
    }

    fn close(&mut self, path: Path<'_>, _: Nest) {
        // The server lists the latest first.
        if path == ["[]"] && self.is_marked && self.found.is_none() {
            self.found = Some(self.id.clone());
        }
    }
}

impl<'a> Earlier<'a> {
    /// For the text with this name.
    pub(crate) fn new(name: &'a str) -> Self {
        Self { name, message: Message::default(), is_there: false, has_state: false }
    }

    /// Whether it stands there; none when there was no state.
    pub(crate) fn is_there(&self) -> Option<bool> {
        self.has_state.then_some(self.is_there)
    }
}

impl Visit for Earlier<'_> {
    const KEYS: &'static [&'static str] =
        &["values", "messages", "id", "type", "role", "content", "text"];

    fn room(&self, path: Path<'_>) -> Option<usize> {
        self.message.room(below_message(path)?)
    }

    fn string(&mut self, path: Path<'_>, text: &str, whole: bool) {
        if let Some(below) = below_message(path) {
            self.message.string(below, text, whole);
        }
    }

    fn open(&mut self, path: Path<'_>, _: Nest) {
        self.has_state |= path.last() == Some(&"values");
        match below_message(path) {
            Some([]) => self.message = Message::default(),
            Some(below) => self.message.open(below),
            None => {}
        }
    }

    fn close(&mut self, path: Path<'_>, _: Nest) {
        match below_message(path) {
            Some([]) => {
                let said = self.message.said();
                self.is_there |= said.is_some_and(|said| said.name == self.name);
            }
            Some(below) => self.message.close(below),
            None => {}
        }
    }
}

/// What is below a message of a state, or of one state of a list.
fn below_message<'p>(path: Path<'p>) -> Option<Path<'p>> {
    match path {
        ["values", "messages", "[]", below @ ..] => Some(below),
        ["[]", "values", "messages", "[]", below @ ..] => Some(below),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Earlier, Marked, Open};
    use crate::outbound::agent::json::{Json, Visit};

    fn read(visitor: &mut impl Visit, body: &Value) {
        let mut json = Json::new(visitor, u64::MAX);
        assert_eq!(json.feed(body.to_string().as_bytes()).and_then(|()| json.finish()), Ok(()));
    }

    fn open(body: &Value) -> Open {
        let mut open = Open::default();
        read(&mut open, body);
        open
    }

    #[test]
    fn an_open_question_is_known_by_its_id_and_counted_once() {
        let state = json!({
            "values": {"id": "x", "interrupts": [{"id": "no"}]},
            "tasks": [{"id": "t", "interrupts": [{"id": "q", "value": {"id": "v"}}]}],
            "checkpoint": {"checkpoint_id": "c1"},
            "interrupts": [{"id": "q", "value": "?"}],
        });
        let open = open(&state);
        assert!(open.has(Some("q")) && open.has(None) && !open.are_many());
        assert!(!open.has(Some("no")) && !open.has(Some("v")) && !open.has(Some("t")));
        assert_eq!(open.checkpoint().as_deref(), Some("c1"));
    }

    #[test]
    fn a_question_of_an_older_server_has_no_id() {
        let state = json!({"tasks": [{"interrupts": [{"value": "?"}]}]});
        assert!(open(&state).has(None) && !open(&state).has(Some("q")));
        assert!(!open(&json!({"tasks": [], "interrupts": []})).has(None));
    }

    #[test]
    fn a_run_is_found_by_its_mark() {
        let run = |id: &str, mark: &str| {
            json!({
                "metadata": {"message_sid": "SM1", "attempt": mark},
                "run_id": id,
                "kwargs": {"run_id": "no", "config": {"metadata": {"attempt": "m2"}}},
            })
        };
        let runs = json!([run("r3", "m3"), run("r2", "m2"), run("r1", "m1"), {"run_id": "r0"}]);
        let found = |mut marked: Marked<'_>| {
            read(&mut marked, &runs);
            marked.found()
        };
        assert_eq!(found(Marked::attempt("m2")).as_deref(), Some("r2"));
        assert_eq!(found(Marked::attempt("m4")), None);
        assert_eq!(found(Marked::message("SM1")).as_deref(), Some("r3"), "the latest");
    }

    #[test]
    fn a_text_stands_in_an_earlier_state_or_not_and_no_state_says_nothing() {
        let state = json!({"values": {"messages": [
            {"type": "human", "id": "h", "content": "x"},
            {"type": "ai", "id": "a", "content": "Oud"},
            {"type": "ai", "content": "zonder"},
        ]}});
        let is_there = |name, body: &Value| {
            let mut earlier = Earlier::new(name);
            read(&mut earlier, body);
            earlier.is_there()
        };
        for body in [state.clone(), json!([state])] {
            assert_eq!(is_there("a", &body), Some(true));
            assert_eq!(is_there("h", &body), Some(false), "the customer's own is none");
            assert_eq!(is_there("b", &body), Some(false));
        }
        assert_eq!(is_there("a", &json!([])), None);
        assert_eq!(is_there("a", &json!([{"values": {}}])), Some(false));
    }
}

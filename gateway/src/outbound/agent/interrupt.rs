//! The question of a graph that stopped to ask it: what is kept until the customer answers.
//!
//! Takes what the server said, gives what resumes the graph. Opaque to everybody who keeps it.
//! Never holds the question itself.

use kanarie_words::Millis;
use serde::{Deserialize, Serialize};

/// How long the customer has for an answer.
const OPEN_MS: Millis = 24 * 60 * 60 * 1_000;

/// A graph that waits for the customer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Base URL of its server, as the route wrote it.
    pub url: String,
    /// The assistant that asked.
    pub assistant: String,
    /// Its thread.
    pub thread: String,
    /// When the message came that led to the question.
    pub at: Millis,
    /// The server's id of the question, if it gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Names the last text of the graph before the question, empty for none.
    #[serde(default)]
    pub said: String,
}

impl Interrupt {
    /// What was kept; none for what this version cannot read.
    pub fn parse(kept: &str) -> Option<Self> {
        serde_json::from_str(kept).ok()
    }

    /// What is to be kept.
    pub fn kept(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Whether an assistant of a server asked it.
    pub fn is_of(&self, url: &str, assistant: &str) -> bool {
        self.url == url && self.assistant == assistant
    }

    /// Whether a message that came at `received_at` may still answer it.
    pub fn is_open(&self, received_at: Millis) -> bool {
        received_at.saturating_sub(self.at) <= OPEN_MS
    }
}

#[cfg(test)]
mod tests {
    use super::{Interrupt, OPEN_MS};

    fn interrupt() -> Interrupt {
        Interrupt {
            url: "http://graphs".to_owned(),
            assistant: "agent".to_owned(),
            thread: "t".to_owned(),
            at: 1_000,
            id: None,
            said: String::new(),
        }
    }

    #[test]
    fn a_question_is_open_for_a_day() {
        assert!(interrupt().is_open(1_000 + OPEN_MS) && !interrupt().is_open(1_001 + OPEN_MS));
        assert!(interrupt().is_open(0), "two replicas' clocks may differ");
    }

    #[test]
    fn what_is_kept_comes_back_and_what_is_not_read_is_none() {
        assert_eq!(Interrupt::parse(&interrupt().kept()), Some(interrupt()));
        assert_eq!(Interrupt::parse("{}"), None);
    }

    #[test]
    fn it_belongs_to_one_assistant_of_one_server() {
        assert!(interrupt().is_of("http://graphs", "agent"));
        assert!(!interrupt().is_of("http://graphs", "other"));
        assert!(!interrupt().is_of("http://elsewhere", "agent"));
    }
}

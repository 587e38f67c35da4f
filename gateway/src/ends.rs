//! How the last messages of this process ended, by MessageSid: for whoever has just sent one.
//!
//! Takes the end of a message, remembers the last thousand. A SID names no person, and nothing else
//! of a message is kept. Never asked by the pipeline itself, and lost with the process: evidence
//! and dead letters are in the store.
//!
//! The queue forgets a message when it ends, as it should, and the counters of `/metrics` cannot
//! tell one message from another; so `GET /outcomes/<MessageSid>` of the admin port tells it from
//! here. With several replicas the answer is known where the message ended; `send-test` then says
//! that it did not see the end. It needs no token beyond the admin port's own protection.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Path of the endpoint on the admin port, with the SID in its place.
pub const PATH: &str = "/outcomes/{sid}";

/// How a message ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum MessageEnd {
    /// Twilio has the whole reply.
    Answered,
    /// The agent wanted no reply.
    Silent,
    /// It is a dead letter.
    DeadLetter {
        /// Why, in the word of the metric.
        class: String,
    },
}

/// Messages that are remembered.
const REMEMBERED: usize = 1_000;

static LAST: Mutex<VecDeque<(String, MessageEnd)>> = Mutex::new(VecDeque::new());

/// Remembers the end of a message.
pub fn remember(sid: &str, outcome: MessageEnd) {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.len() == REMEMBERED {
        last.pop_front();
    }
    last.push_back((sid.to_owned(), outcome));
}

/// How a message ended, if it did so lately and here.
pub fn of(sid: &str) -> Option<MessageEnd> {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.iter().rev().find(|(known, _)| known == sid).map(|(_, outcome)| outcome.clone())
}

#[cfg(test)]
mod tests {
    use super::{MessageEnd, REMEMBERED, of, remember};

    #[test]
    fn the_newest_end_of_a_message_is_told_until_a_thousand_others_came() {
        remember("SM1", MessageEnd::DeadLetter { class: "http".to_owned() });
        remember("SM1", MessageEnd::Answered);
        assert_eq!(of("SM1"), Some(MessageEnd::Answered));
        (0..REMEMBERED)
            .for_each(|index| remember(&format!("SM-other-{index}"), MessageEnd::Silent));
        assert_eq!(of("SM1"), None);
    }
}

//! How the first agent attempt of a message ended: the agent's own classes.
//!
//! Takes a word, gives its class, and the way back. Never weighs one class against another: all but
//! success are failures.

use serde::{Deserialize, Serialize};

/// How the first agent attempt of a message ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// With an answer, or with a deliberate silence.
    Success,
    /// Not before its deadline.
    Timeout,
    /// With a refused connection or an HTTP error.
    Http,
    /// With something that is no answer.
    Invalid,
    /// Without an answer.
    NoAnswer,
    /// With an answer over the latency limit.
    Slow,
    /// It could not be asked: stable's breaker was open, or its address is refused or its URL
    /// unusable.
    Unavailable,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Timeout,
        Self::Http,
        Self::Invalid,
        Self::NoAnswer,
        Self::Slow,
        Self::Unavailable,
    ];

    /// The word in keys, labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Timeout => "timeout",
            Self::Http => "http",
            Self::Invalid => "invalid",
            Self::NoAnswer => "no-answer",
            Self::Slow => "slow",
            Self::Unavailable => "unavailable",
        }
    }

    /// Parses that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Whether the judge counts it as a failure.
    pub fn is_failure(self) -> bool {
        self != Self::Success
    }
}

#[cfg(test)]
mod tests {
    use super::Class;

    #[test]
    fn the_word_of_a_class_is_its_json() {
        for class in Class::ALL {
            assert_eq!(serde_json::to_value(class).ok(), Some(class.as_str().into()));
            assert_eq!(Class::parse(class.as_str()), Some(class));
        }
    }
}

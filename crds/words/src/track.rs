//! The two tracks of a channel.
//!
//! Takes a word, gives its track, and the way back. Never knows which revision a track has.

use serde::{Deserialize, Serialize};

/// Which revision was asked.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// The revision that serves everybody else.
    Stable,
    /// The revision that is rolled out.
    Canary,
}

impl Track {
    /// Both tracks.
    pub const ALL: [Self; 2] = [Self::Stable, Self::Canary];

    /// The word in keys, labels and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }

    /// Parses that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|track| track.as_str() == text)
    }
}

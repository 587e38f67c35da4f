//! What happens to the routes of a replica, as events.
//!
//! Takes nothing but names and errors that show no value of a Secret, gives lines and words.

use crate::labels::RoutesTrouble;

/// One thing that happened to the routes.
#[derive(Clone, Debug)]
pub enum RoutesEvent {
    /// Channels come from manifests, or from the environment, without an operator.
    Alone {
        /// How many there are.
        channels: usize,
    },
    /// The manifests changed and were read again.
    ReadAgain {
        /// How many channels there are now.
        channels: usize,
    },
    /// The store has another key than this process.
    OtherKey,
    /// Something kept the routes from being what they should be.
    Trouble {
        /// What kind of thing.
        kind: RoutesTrouble,
        /// What it was, without any value of a Secret.
        error: String,
    },
}

impl RoutesEvent {
    /// The store did not take the heartbeat. Store errors name no customer.
    pub fn heartbeat(error: String) -> Self {
        Self::Trouble { kind: RoutesTrouble::Heartbeat, error }
    }

    /// What is counted, if anything is.
    pub(super) fn trouble(&self) -> Option<RoutesTrouble> {
        match self {
            Self::Trouble { kind, .. } => Some(*kind),
            Self::OtherKey => Some(RoutesTrouble::OtherKey),
            Self::Alone { .. } | Self::ReadAgain { .. } => None,
        }
    }

    pub(super) fn log(&self) {
        match self {
            Self::Alone { channels } => tell!(
                WARN,
                channels,
                "all traffic goes to the channels as written: rollouts need the operator"
            ),
            Self::ReadAgain { channels } => {
                tell!(INFO, channels, "the channels were read again")
            }
            Self::OtherKey => tell!(
                ERROR,
                "the store has another key than this gateway, so it was emptied while this one \
                 ran: nothing is admitted or claimed here any more; restart this gateway"
            ),
            Self::Trouble { kind: RoutesTrouble::Unreadable, error } => {
                tell!(ERROR, %error, "a route cannot be read: the last good one stays, else its messages are answered 503");
            }
            Self::Trouble { kind: RoutesTrouble::Unavailable, error } => {
                tell!(WARN, %error, "the routes cannot be watched at present: they stay");
            }
            Self::Trouble { kind: RoutesTrouble::Refused, error } => {
                tell!(ERROR, %error, "the channels stay as they were");
            }
            Self::Trouble { kind: RoutesTrouble::Heartbeat, error } => {
                tell!(WARN, %error, "the store did not take the heartbeat");
            }
            // An event of its own.
            Self::Trouble { kind: RoutesTrouble::OtherKey, .. } => {}
        }
    }
}

//! How a turn ends: the one word that the driver of the line acts on.
//!
//! Takes nothing and does nothing: every hop that cannot go on returns one, and `turn` alone
//! carries it out.

use std::time::Duration;

use kanarie_queue::outcome::Outcome;
use kanarie_words::class::Class;
use kanarie_words::ids::RevisionName;

use crate::labels::DeadLetterClass;
use crate::random;

/// How a turn ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The whole reply is sent.
    Done,
    /// No reply is wanted; counts the attempt that said so.
    Silence(Option<Outcome>),
    /// The head is put back for `pause`, with all that was done for it.
    Later {
        /// For how long.
        pause: Duration,
        /// Whether its try counts.
        counted: bool,
    },
    /// The head waits for an agent that is left alone.
    Park {
        /// The revision of its channel whose agent it is.
        revision: RevisionName,
        /// For how long at the most.
        until: Duration,
        /// Until one of those that wait for it may try.
        probe: Duration,
    },
    /// The head becomes a dead letter.
    GiveUp(DeadLetterClass),
    /// The gateway stops: somebody else does the rest, at once.
    Cut,
    /// The store's answer makes no sense: somebody looks at the head again later.
    Damaged,
    /// The lease is, or may be, somebody else's: nothing more may be done.
    Lost,
}

impl End {
    /// Looked at again after about `pause`, its try uncounted.
    pub(crate) fn wait(pause: Duration) -> Self {
        Self::Later { pause: random::jittered(pause), counted: false }
    }

    /// Looked at again after `pause` exactly, its try uncounted.
    pub(crate) fn at(pause: Duration) -> Self {
        Self::Later { pause, counted: false }
    }

    /// The end of a message whose agent finally failed.
    pub(crate) fn failed(class: Class) -> Self {
        Self::GiveUp(match class {
            Class::Timeout => DeadLetterClass::Timeout,
            Class::Http | Class::Unavailable => DeadLetterClass::Http,
            Class::NoAnswer => DeadLetterClass::NoAnswer,
            // An answer that is in time or slow is none of a failed agent.
            Class::Invalid | Class::Success | Class::Slow => DeadLetterClass::Invalid,
        })
    }
}

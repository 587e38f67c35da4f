//! The gateway's own closed sets of words: what stands on a metric, in a log line and in a dead
//! letter.
//!
//! Takes nothing; gives an enum a set, and each value its one word. Stands below everything that
//! says such a word, so that events need to know neither line. Never holds a name or a number.

use kanarie_metrics::label::Label;
use kanarie_words::track::Track;

/// Gives an enum its words; a variant that is left out does not compile.
macro_rules! label {
    ($name:ty { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// Why a message could not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLetterClass {
    /// The agent finally did not answer in time.
    Timeout,
    /// The agent finally could not be reached or answered with an error.
    Http,
    /// The agent's last answer was none of its protocol.
    Invalid,
    /// The agent finally gave no text.
    NoAnswer,
    /// Three workers died on it.
    Crashed,
    /// Its channel was gone for a day.
    NoChannel,
    /// It was stored by a version that writes something else.
    Unreadable,
    /// Whether its reply was sent is not known, twice.
    Unknown,
    /// Twilio could not be reached, or was over a limit, for a day.
    NotAccepted,
    /// The customer does not want messages.
    OptOut,
    /// Twilio will never accept its reply.
    Permanent,
    /// Its reply came after the customer's 24 hours.
    NeedsTemplate,
}

/// Which revision's reply was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOf {
    /// Stable's.
    Stable,
    /// The canary's.
    Canary,
    /// The one that a turn before this one had committed or begun: nobody knows any more.
    Earlier,
}

impl From<Option<Track>> for ReplyOf {
    fn from(track: Option<Track>) -> Self {
        match track {
            Some(Track::Stable) => Self::Stable,
            Some(Track::Canary) => Self::Canary,
            None => Self::Earlier,
        }
    }
}

/// A webhook URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/webhooks/twilio/whatsapp`.
    Message,
    /// `/webhooks/twilio/status`.
    Status,
}

/// Who asked for something that nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The request carries a signature of Twilio, true or not: a webhook URL may be mistyped.
    Signed,
    /// It carries none.
    Unsigned,
}

/// How a webhook was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// 200: the message is durable.
    Queued,
    /// 200: the message was admitted before.
    Duplicate,
    /// 200: a kind of message that no agent is asked about.
    Ignored,
    /// 200: a status callback.
    StatusCallback,
    /// 429.
    Limited,
    /// 503: no room.
    Full,
    /// 503: no room for this channel, which holds as much as it may.
    ChannelFull,
    /// 503: the store does not answer.
    StoreDown,
    /// 503: routes are not loaded, the channel's route has just gone or cannot be read, or the store
    /// has another key.
    NotReady,
    /// 403.
    Forbidden,
    /// 400.
    Malformed,
    /// 413.
    TooLarge,
    /// 503: all bodies together are as large as they may be.
    NoRoom,
    /// 408: the body did not come in time.
    TooSlow,
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The request's header did not come in time.
    SlowHeader,
    /// The client took nothing of its answer in time.
    SlowAnswer,
    /// It was the oldest, and a new one needed its place or its descriptor.
    Crowded,
    /// The drain deadline passed.
    Drained,
}

/// A change of the gateway's own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleChange {
    /// Listening on both ports.
    Started,
    /// No new work; what runs is finished or given back.
    Draining,
    /// Everything is finished or given back.
    Stopped,
}

/// What to do about a POST to Twilio that was not answered 201.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendClass {
    /// Not processed: the same call may be repeated at once.
    Retry,
    /// Not processed: the same call may be repeated later.
    RetryAfter,
    /// It may have been processed: find out before repeating it.
    Unknown,
    /// The account, its credentials or its sender are not accepted: every send of the channel
    /// waits until somebody changes that.
    Credentials,
    /// The customer does not want messages.
    OptOut,
    /// This message will never be accepted.
    Permanent,
    /// Outside of the customer's 24 hours: only a template is accepted.
    NeedsTemplate,
}

/// What one channel may only hold so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Messages that wait.
    Messages,
    /// Their bytes.
    Bytes,
    /// Dead letters.
    DeadLetters,
}

/// What somebody with the control token did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAct {
    /// He read what a customer wrote in a dead letter.
    ShowText,
    /// He had dead letters sent again.
    Replay,
    /// He had dead letters erased.
    EraseLetters,
    /// He had a customer erased.
    EraseCustomer,
}

/// What keeps routes from being what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutesTrouble {
    /// A route's Secret cannot be read: the last good route stays, or its messages are answered 503.
    Unreadable,
    /// Kubernetes does not answer: the routes stay.
    Unavailable,
    /// The changed manifests are wrong: the routes stay.
    Refused,
    /// The store did not take the heartbeat.
    Heartbeat,
    /// The store has another key.
    OtherKey,
}

label!(ReplyOf { Stable => "stable", Canary => "canary", Earlier => "earlier" });
label!(Endpoint { Message => "message", Status => "status" });
label!(Caller { Signed => "signed", Unsigned => "unsigned" });
label!(WebhookOutcome {
    Queued => "queued",
    Duplicate => "duplicate",
    Ignored => "ignored",
    StatusCallback => "status-callback",
    Limited => "limited",
    Full => "full",
    ChannelFull => "channel-full",
    StoreDown => "store-down",
    NotReady => "not-ready",
    Forbidden => "forbidden",
    Malformed => "malformed",
    TooLarge => "too-large",
    NoRoom => "no-room",
    TooSlow => "too-slow",
});
label!(CloseReason {
    SlowHeader => "slow-header",
    SlowAnswer => "slow-answer",
    Crowded => "crowded",
    Drained => "drained",
});
label!(SendClass {
    Retry => "retry",
    RetryAfter => "retry-after",
    Unknown => "unknown",
    Credentials => "credentials",
    OptOut => "opt-out",
    Permanent => "permanent",
    NeedsTemplate => "needs-template",
});
label!(DeadLetterClass {
    Timeout => "timeout",
    Http => "http",
    Invalid => "invalid",
    NoAnswer => "no-answer",
    Crashed => "crashed",
    NoChannel => "no-channel",
    Unreadable => "unreadable",
    Unknown => "unknown",
    NotAccepted => "not-accepted",
    OptOut => "opt-out",
    Permanent => "permanent",
    NeedsTemplate => "needs-template",
});
label!(Bound { Messages => "messages", Bytes => "bytes", DeadLetters => "dead-letters" });
label!(ControlAct {
    ShowText => "show-text",
    Replay => "replay",
    EraseLetters => "erase-letters",
    EraseCustomer => "erase-customer",
});
label!(RoutesTrouble {
    Unreadable => "unreadable",
    Unavailable => "unavailable",
    Refused => "refused",
    Heartbeat => "heartbeat",
    OtherKey => "other-key",
});
label!(LifecycleChange { Started => "started", Draining => "draining", Stopped => "stopped" });

#[cfg(test)]
mod tests {
    use super::{Label, LifecycleChange, WebhookOutcome};

    #[test]
    fn a_label_finds_its_own_place() {
        for (place, outcome) in WebhookOutcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), place);
        }
        assert_eq!(LifecycleChange::Stopped.index(), LifecycleChange::ALL.len() - 1);
    }
}

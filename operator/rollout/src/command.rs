//! Commands: `retry`, `abort` and `promote-full`, each executed once, by its id. Pure.

use crate::observation::{Command, Observation};
use crate::state::{CommandAnswer, CommandResult, State, short};
use crate::timestamp::Timestamp;

/// What a person may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Clears a rejection, or starts a failed rollout again from its first step.
    Retry,
    /// Takes the canary off and rejects it.
    Abort,
    /// Makes the canary stable, without the remaining steps.
    PromoteFull,
}

impl Order {
    /// The order of this verb.
    pub(crate) fn parse(verb: &str) -> Option<Self> {
        match verb {
            "retry" => Some(Self::Retry),
            "abort" => Some(Self::Abort),
            "promote-full" => Some(Self::PromoteFull),
            _ => None,
        }
    }
}

/// What becomes of a command, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done.
    Executed(&'static str),
    /// It was not.
    Refused(&'static str),
}

/// The standing command, unless it was answered before. An empty id is no command.
pub(crate) fn unanswered<'a>(state: &State, seen: &'a Observation) -> Option<&'a Command> {
    let command = seen.command.as_ref().filter(|command| !command.id.is_empty())?;
    let answered = state.last_command.as_ref().is_some_and(|last| last.id == command.id);
    (!answered).then_some(command)
}

impl State {
    /// Remembers the answer, so that the command is never looked at again.
    pub(crate) fn with_answer(
        mut self,
        command: &Command,
        answer: &Answer,
        now: Timestamp,
    ) -> Self {
        let (result, message) = match answer {
            Answer::Executed(message) => (CommandResult::Executed, message),
            Answer::Refused(message) => (CommandResult::Refused, message),
        };
        let Command { id, verb } = Command::new(&command.id, &command.verb);
        self.last_command =
            Some(CommandAnswer { id, verb, result, message: short(message), at: now });
        self
    }
}

/// The answer to a command that meets a transition of higher rank in the same moment.
pub(crate) const OVERTAKEN: Answer = Answer::Refused(
    "something of higher rank happened in the same moment; look at it and, if the command is \
     still wanted, send it with a new id",
);

pub(crate) const ABORTED: Answer =
    Answer::Executed("the canary was taken off and its revision is rejected");
pub(crate) const PROMOTED: Answer = Answer::Executed("the canary is stable now");
pub(crate) const CLEARED: Answer = Answer::Executed("the rejection was cleared");
pub(crate) const RESTARTED: Answer =
    Answer::Executed("the rollout starts again from its first step");
pub(crate) const UNKNOWN_VERB: Answer =
    Answer::Refused("there is no such command; use retry, abort or promote-full");
pub(crate) const NO_ROLLOUT: Answer = Answer::Refused("no rollout is running");
pub(crate) const NOTHING_REJECTED: Answer =
    Answer::Refused("the revision that the spec asks for is not rejected");
pub(crate) const ROLLING_ALREADY: Answer =
    Answer::Refused("the revision is being rolled out and has not failed");
pub(crate) const IS_PAUSED: Answer = Answer::Refused(
    "the rollout is paused; set rollout.state to Running and send the command with a new id",
);

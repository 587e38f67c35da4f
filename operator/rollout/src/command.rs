//! Commands: `retry`, `abort`, `promote-full` and `undo`, each executed once, by its id. Pure.

use kanarie_words::timestamp::Timestamp;

use crate::observation::{Command, Observation};
use crate::state::{CommandAnswer, CommandResult, State, short};

/// What a person may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Clears a rejection, or starts a failed rollout again from its first step.
    Retry,
    /// Takes the canary off and rejects it.
    Abort,
    /// Makes the canary stable, without the remaining steps.
    PromoteFull,
    /// Puts the revision back that was stable before the last promotion.
    Undo,
}

impl Order {
    /// The order of this verb.
    pub(crate) fn parse(verb: &str) -> Option<Self> {
        match verb {
            "retry" => Some(Self::Retry),
            "abort" => Some(Self::Abort),
            "promote-full" => Some(Self::PromoteFull),
            "undo" => Some(Self::Undo),
            _ => None,
        }
    }
}

/// What becomes of a command, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It was done.
    Executed(&'static str),
    /// It was not.
    Refused(&'static str),
}

/// The standing command, unless it was answered before. An empty id is no command.
pub(crate) fn unanswered<'a>(state: &State, seen: &'a Observation) -> Option<&'a Command> {
    let command = seen.command.as_ref().filter(|command| !command.id.is_empty())?;
    let last = state.last_command.as_ref();
    let answered = last.is_some_and(|last| last.id == command.id);
    (!answered).then_some(command)
}

/// The state with the ruling remembered, so that the command is never looked at again.
pub(crate) fn with_ruling(
    mut state: State,
    command: &Command,
    ruling: &Ruling,
    now: Timestamp,
) -> State {
    let (result, message) = match ruling {
        Ruling::Executed(message) => (CommandResult::Executed, message),
        Ruling::Refused(message) => (CommandResult::Refused, message),
    };
    let Command { id, verb } = Command::new(&command.id, &command.verb);
    state.last_command = Some(CommandAnswer { id, verb, result, message: short(message), at: now });
    state
}

/// The ruling on a command that meets a transition of higher rank in the same moment.
pub(crate) const OVERTAKEN: Ruling = Ruling::Refused(
    "something of higher rank happened in the same moment; look at it and, if the command is \
     still wanted, send it with a new id",
);

pub(crate) const ABORTED: Ruling =
    Ruling::Executed("the canary was taken off and its revision is rejected");
pub(crate) const PROMOTED: Ruling = Ruling::Executed("the canary is stable now");
pub(crate) const UNDONE: Ruling = Ruling::Executed(
    "the former revision serves everybody again and the one that was stable is rejected",
);
pub(crate) const NOTHING_TO_UNDO: Ruling = Ruling::Refused(
    "there is no promotion to go back from, or rollout.rollbackWindowSeconds have passed since",
);
pub(crate) const UNDO_OF_A_ROLLOUT: Ruling =
    Ruling::Refused("a rollout is running; use abort, or apply the stable spec again");
pub(crate) const CLEARED: Ruling = Ruling::Executed("the rejection was cleared");
pub(crate) const RESTARTED: Ruling =
    Ruling::Executed("the rollout starts again from its first step");
pub(crate) const UNKNOWN_VERB: Ruling =
    Ruling::Refused("there is no such command; use retry, abort, promote-full or undo");
pub(crate) const NO_ROLLOUT: Ruling = Ruling::Refused("no rollout is running");
pub(crate) const NOTHING_REJECTED: Ruling =
    Ruling::Refused("the revision that the spec asks for is not rejected");
pub(crate) const ROLLING_ALREADY: Ruling =
    Ruling::Refused("the revision is being rolled out and has not failed");
pub(crate) const NOTHING_ASKED: Ruling = Ruling::Refused(
    "the spec cannot be carried out as it is; mend it and send the command with a new id",
);
pub(crate) const IS_PAUSED: Ruling = Ruling::Refused(
    "the rollout is paused; set rollout.state to Running and send the command with a new id",
);

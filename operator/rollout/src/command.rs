//! Commands: each executed once, or refused with a sentence. Pure.

use std::borrow::Cow;

use kanarie_words::ids::RevisionName;
use kanarie_words::timestamp::Timestamp;

use crate::bounds::MAX_MESSAGE_BYTES;
use crate::observation::Observation;
use crate::order::{Command, CommandOrder, CommandVerb};
use crate::state::{CommandAnswer, CommandResult, State, short};

/// What becomes of a command, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It was done.
    Executed(&'static str),
    /// It was not.
    Refused(Cow<'static, str>),
}

/// The standing command, unless it was answered before. An empty one is none.
pub(crate) fn unanswered<'a>(state: &State, seen: &'a Observation) -> Option<&'a Command> {
    let command = seen.command.as_ref().filter(|command| !command.id.is_empty())?;
    let last = state.last_command.as_ref();
    let answered = last.is_some_and(|last| command.is_answered_by(last));
    (!answered).then_some(command)
}

/// The state with the ruling remembered, so that the command is never looked at again; `before` is the
/// one that it was given in.
pub(crate) fn with_ruling(
    mut state: State,
    before: &State,
    command: &Command,
    ruling: &Ruling,
    now: Timestamp,
) -> State {
    let (result, message) = match ruling {
        Ruling::Executed(message) => (CommandResult::Executed, short(message, MAX_MESSAGE_BYTES)),
        Ruling::Refused(message) => (CommandResult::Refused, short(message, MAX_MESSAGE_BYTES)),
    };
    let Command { id, verb, actor, order: _ } = command.clone();
    if let (CommandResult::Executed, Some(actor)) = (result, &actor)
        && let Some(done) = state.history.first_mut().filter(|it| it.number > before.transition)
    {
        done.message = short(&format!("{}; said by {actor}", done.message), MAX_MESSAGE_BYTES);
    }
    state.last_command = Some(CommandAnswer { id, verb, actor, result, message, at: now });
    state
}

/// What a command orders of the one revision that it can be about now.
pub(crate) fn order_of(command: &Command, present: &RevisionName) -> Result<CommandVerb, Ruling> {
    let CommandOrder { verb, revision } = readable(command)?;
    match (verb, revision) {
        (_, Some(named)) if named == present => Ok(*verb),
        (_, Some(named)) => Err(Ruling::Refused(
            format!("the command names {named}, and it would be about {present} now").into(),
        )),
        (CommandVerb::Promote | CommandVerb::PromoteFull | CommandVerb::Undo, None) => {
            let verb = verb.as_str();
            Err(Ruling::Refused(
                format!("`{verb}` needs the revision that it is about: `{verb} {present}`").into(),
            ))
        }
        (CommandVerb::Retry | CommandVerb::Abort, None) => Ok(*verb),
    }
}

/// What a command orders, whatever it is about.
pub(crate) fn readable(command: &Command) -> Result<&CommandOrder, Ruling> {
    command.order.as_ref().map_err(|error| Ruling::Refused(error.to_string().into()))
}

const fn refused(sentence: &'static str) -> Ruling {
    Ruling::Refused(Cow::Borrowed(sentence))
}

/// The ruling on a command that meets a transition of higher rank in the same moment.
pub(crate) const OVERTAKEN: Ruling = refused(
    "something of higher rank happened in the same moment; look at it and, if the command is \
     still wanted, send it with another #token",
);

pub(crate) const ABORTED: Ruling =
    Ruling::Executed("the canary was taken off and its revision is rejected");
pub(crate) const STEPPED: Ruling = Ruling::Executed("the canary is at its next step");
pub(crate) const PROMOTED: Ruling = Ruling::Executed("the canary is stable now");
pub(crate) const UNDONE: Ruling = Ruling::Executed(
    "the former revision serves everybody again and the one that was stable is rejected",
);
pub(crate) const NOTHING_TO_UNDO: Ruling = refused(
    "there is no promotion to go back from, or rollout.rollbackWindowSeconds have passed since",
);
pub(crate) const UNDO_OF_A_ROLLOUT: Ruling =
    refused("a rollout is running; use abort, or apply the stable spec again");
pub(crate) const CLEARED: Ruling = Ruling::Executed("the rejection was cleared");
pub(crate) const RESTARTED: Ruling =
    Ruling::Executed("the rollout starts again from its first step");
pub(crate) const NO_ROLLOUT: Ruling = refused("no rollout is running");
pub(crate) const NOTHING_REJECTED: Ruling = refused(
    "the revision that the spec asks for is not rejected; to clear another's rejection, name it: \
     `retry <revision>`",
);
pub(crate) const ROLLING_ALREADY: Ruling =
    refused("the revision is being rolled out and has not failed");
pub(crate) const IS_LAST_STEP: Ruling = refused(
    "the canary is at its last step, and `promote` never goes past the bake; to make it stable without \
     its evidence use promote-full",
);
pub(crate) const HAS_FAILED: Ruling =
    refused("the canary has failed and is at no step; use retry, abort or promote-full");
pub(crate) const IS_MANUAL: Ruling =
    refused("rollout.mode is Manual, which has no steps; set rollout.weight");
pub(crate) const NOTHING_ASKED: Ruling = refused(
    "the spec cannot be carried out as it is; mend it and send the command with another #token",
);
pub(crate) const IS_PAUSED: Ruling = refused(
    "the rollout is paused; set rollout.state to Running and send the command with another #token",
);

//! What a person orders, as it is written in the annotations: `<verb> [revision] [#token]`.
//!
//! Takes any text; gives the command with its order, or with why it is none. Total and pure. Never
//! knows whether an order makes sense now: that is `command`'s.

use kanarie_words::ids::RevisionName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounds::{MAX_ACTOR_BYTES, MAX_COMMAND_BYTES, MAX_VERB_BYTES};
use crate::state::CommandAnswer;

/// A command: what stands in the annotations.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// Tells it from an earlier one: its text.
    pub id: String,
    /// Its first word.
    pub verb: String,
    /// Who says it, in their own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What it orders, or why that cannot be read.
    pub order: Result<CommandOrder, CommandFault>,
}

/// What is ordered.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct CommandOrder {
    /// What to do.
    pub verb: CommandVerb,
    /// The revision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionName>,
}

/// What a person may order.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum CommandVerb {
    /// Clears a rejection, or starts a failed rollout again from its first step.
    Retry,
    /// Takes the canary off and rejects it.
    Abort,
    /// Takes the canary to its next step, without the hold and the evidence of the present one.
    Promote,
    /// Makes the canary stable, without the remaining steps.
    PromoteFull,
    /// Puts the revision back that was stable before the last promotion.
    Undo,
}

/// Why a text is no order.
#[derive(Serialize, Deserialize, Error, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum CommandFault {
    /// It has a verb that nobody knows.
    #[error("there is no such command; use retry, abort, promote, promote-full or undo")]
    Verb,
    /// It has other words than these, or in another order.
    #[error("a command is written as `<verb> [revision] [#token]`")]
    Form,
    /// It is longer than any command.
    #[error("the command is longer than {MAX_COMMAND_BYTES} bytes; shorten its #token")]
    TooLong,
    /// It is the former pair of annotations.
    #[error(
        "write it in one annotation, `kanarie.dev/command: \"<verb> [revision] [#token]\"`, and remove \
         `kanarie.dev/command-id`"
    )]
    FormerPair,
}

impl Command {
    /// The command that this text is.
    pub fn read(text: &str, actor: Option<&str>) -> Self {
        Self {
            id: kept(text, MAX_COMMAND_BYTES),
            verb: kept(text.split_whitespace().next().unwrap_or_default(), MAX_VERB_BYTES),
            actor: actor.map(|actor| kept(actor, MAX_ACTOR_BYTES)).filter(|it| !it.is_empty()),
            order: CommandOrder::parse(text),
        }
    }

    /// The former form, with the id in an annotation of its own: it is answered and never executed.
    pub fn of_former_pair(verb: &str, id: &str, actor: Option<&str>) -> Self {
        let id = kept(id, MAX_COMMAND_BYTES);
        Self { id, order: Err(CommandFault::FormerPair), ..Self::read(verb, actor) }
    }

    /// Whether this is the answer to it.
    pub fn is_answered_by(&self, last: &CommandAnswer) -> bool {
        last.id == self.id && last.verb == self.verb
    }
}

impl CommandOrder {
    /// The order of this text.
    pub fn parse(text: &str) -> Result<Self, CommandFault> {
        let mut words = text.split_whitespace().peekable();
        let verb = match words.next() {
            Some("retry") => CommandVerb::Retry,
            Some("abort") => CommandVerb::Abort,
            Some("promote") => CommandVerb::Promote,
            Some("promote-full") => CommandVerb::PromoteFull,
            Some("undo") => CommandVerb::Undo,
            Some(_) | None => return Err(CommandFault::Verb),
        };
        if text.trim().len() > MAX_COMMAND_BYTES {
            return Err(CommandFault::TooLong);
        }
        let revision = match words.next_if(|word| !word.starts_with('#')) {
            Some(word) => Some(word.parse().map_err(|_| CommandFault::Form)?),
            None => None,
        };
        match (words.next(), words.next()) {
            (None, _) => Ok(Self { verb, revision }),
            (Some(token), None) if token.starts_with('#') => Ok(Self { verb, revision }),
            (Some(_), _) => Err(CommandFault::Form),
        }
    }
}

impl CommandVerb {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Abort => "abort",
            Self::Promote => "promote",
            Self::PromoteFull => "promote-full",
            Self::Undo => "undo",
        }
    }
}

/// A text as the state keeps it: short, and as long in JSON as it is here.
pub(crate) fn kept(text: &str, most: usize) -> String {
    let text = text.trim();
    let odd = |one: char| one.is_control() || matches!(one, '"' | '\\');
    let cut = &text[..text.floor_char_boundary(most)];
    cut.chars().map(|one| if odd(one) { ' ' } else { one }).collect()
}

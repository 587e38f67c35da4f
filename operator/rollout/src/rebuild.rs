//! The state after the route was lost, from what `report` had left elsewhere: the status of the
//! channel and the annotations of its ControllerRevisions. Pure; never guesses a stable revision.

use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;
use thiserror::Error;

use crate::bounds::{
    MAX_ACTOR_BYTES, MAX_COMMAND_BYTES, MAX_MESSAGE_BYTES, MAX_REASON_BYTES, MAX_REJECTED,
    MAX_REJECTION_BYTES, MAX_VERB_BYTES,
};
use crate::order::{Command, kept};
use crate::state::{CommandAnswer, CommandResult, Phase, RejectedRevision, State};
use crate::why::Why;

/// What is left of a channel whose route is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remains {
    /// Every ControllerRevision of the channel.
    pub revisions: Vec<Mark>,
    /// Stable revision as status names it.
    pub stable: Option<RevisionName>,
    /// Since when it is stable, as status says, in whole seconds.
    pub stable_since: Option<Timestamp>,
    /// Rejected revisions as status names them.
    pub rejected: Vec<RejectedRevision>,
    /// The last command as status answers it.
    pub last_command: Option<CommandAnswer>,
    /// The command that stands in the annotations.
    pub standing: Option<Command>,
    /// Highest transition number seen in status.
    pub transition: u64,
    /// Generation of the spec that status was last written for.
    pub generation: u64,
}

/// A ControllerRevision and what it was annotated with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Its name.
    pub revision: RevisionName,
    /// When it last became stable.
    pub promoted: Option<Promotion>,
    /// `rejected-at`.
    pub rejected_at: Option<Timestamp>,
}

/// When a revision last became stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Promotion {
    /// `promoted-at`: by the clock of whoever led, or of a person.
    pub at: Timestamp,
    /// `promoted-transition`: a number that grows, whoever leads; none in marks of earlier operators
    /// and of people.
    pub transition: Option<u64>,
}

/// The promotion that came last: by number, and by time where a number is lacking.
pub fn newest<T>(promotions: impl IntoIterator<Item = (T, Promotion)>) -> Option<(T, Promotion)> {
    let (numbered, others): (Vec<_>, Vec<_>) =
        promotions.into_iter().partition(|(_, promotion)| promotion.transition.is_some());
    let numbered = numbered.into_iter().max_by_key(|(_, promotion)| promotion.transition);
    let other = others.into_iter().max_by_key(|(_, promotion)| promotion.at);
    numbered.into_iter().chain(other).max_by_key(|(_, promotion)| promotion.at)
}

/// The state after a loss, which the return of an older route is too. A rollout that ran starts again from its first step, once every
/// live replica has acknowledged that stable serves everybody; a command that stands counts as
/// executed, since nobody knows whether it was.
pub fn rebuild(remains: Remains, now: Timestamp) -> Result<State, RebuildError> {
    let stable = remains.stable().ok_or(RebuildError::NoPromotion)?.clone();
    let rejected = remains.rejections(&stable);
    let transition = remains.last_transition();
    let remembered = remains.last_command.map(bounded);
    let last_command = match remains.standing {
        Some(command) if !remembered.as_ref().is_some_and(|it| command.is_answered_by(it)) => {
            let Command { id, verb, actor, order: _ } = command;
            let message = "taken as executed, since the route was lost".to_owned();
            Some(CommandAnswer {
                id,
                verb,
                actor,
                result: CommandResult::Executed,
                message,
                at: now,
            })
        }
        Some(_) | None => remembered,
    };
    let state = State {
        phase: Phase::Clearing { stable: stable.clone() },
        // `serving` grows far slower than once a second, so the time is above all that ever
        // was, and no gateway need be asked.
        serving: (now.0 / 1000).saturating_add(1),
        transition,
        generation: remains.generation,
        waits_since: None,
        rejected,
        last_command,
        history: Vec::new(),
    };
    Ok(state.with_transition(&Why::Rebuilt, stable, now))
}

impl Remains {
    /// Whether a route with this state is not the one that was last reported: somebody has put an
    /// older one back. What happened since stands here, and nowhere in the state.
    pub fn are_newer_than(&self, state: &State) -> bool {
        state.transition < self.transition
    }

    /// The stable revision. Status is ahead of the annotations when it names a revision that is not
    /// marked yet, or one that came back after the newest mark; otherwise the newest mark is right. One
    /// that is lost gives way to a mark that somebody has made since.
    fn stable(&self) -> Option<&RevisionName> {
        let served = self.revisions.iter().filter(|mark| mark.rejected_at.is_none());
        let newest = newest(served.filter_map(|mark| Some((&mark.revision, mark.promoted?))));
        match (&self.stable, newest) {
            (Some(named), Some((newest, promotion))) => {
                let own = self.revisions.iter().find(|mark| mark.revision == *named);
                let is_unmarked = own.is_some_and(|mark| mark.promoted.is_none());
                Some(if is_unmarked || self.is_newer_than(promotion) { named } else { newest })
            }
            (Some(named), None) => Some(named),
            (None, newest) => newest.map(|(revision, _)| revision),
        }
    }

    /// Whether status has named its stable revision no earlier than this promotion.
    fn is_newer_than(&self, promotion: Promotion) -> bool {
        let seconds = |at: Timestamp| at.0 / 1000;
        match promotion.transition {
            Some(transition) => self.transition >= transition,
            None => self.stable_since.map(seconds) >= Some(seconds(promotion.at)),
        }
    }

    /// The highest number that was ever reported: what comes next is above every mark.
    fn last_transition(&self) -> u64 {
        let marked = self.revisions.iter().filter_map(|mark| mark.promoted?.transition);
        marked.chain([self.transition]).max().unwrap_or(0)
    }

    /// Every revision that status or a mark calls rejected, but stable, the newest of them.
    fn rejections(&self, stable: &RevisionName) -> Vec<RejectedRevision> {
        let mut rejected = self.rejected.clone();
        for mark in &self.revisions {
            if let Some(at) = mark.rejected_at
                && rejected.iter().all(|known| known.revision != mark.revision)
            {
                let reason = Reason::RolledBack.as_str().to_owned();
                let message = "rejected before the route was lost".to_owned();
                rejected.push(RejectedRevision {
                    revision: mark.revision.clone(),
                    reason,
                    message,
                    at,
                });
            }
        }
        rejected.retain(|rejection| rejection.revision != *stable);
        for rejection in &mut rejected {
            rejection.message = kept(&rejection.message, MAX_REJECTION_BYTES);
            rejection.reason = kept(&rejection.reason, MAX_REASON_BYTES);
        }
        rejected.sort_by_key(|rejection| rejection.at);
        let excess = rejected.len().saturating_sub(MAX_REJECTED);
        rejected.drain(..excess);
        rejected
    }
}

/// Whoever may write status may write longer texts into it than a state keeps.
fn bounded(answer: CommandAnswer) -> CommandAnswer {
    let CommandAnswer { id, verb, actor, result, message, at } = answer;
    CommandAnswer {
        id: kept(&id, MAX_COMMAND_BYTES),
        verb: kept(&verb, MAX_VERB_BYTES),
        actor: actor.map(|actor| kept(&actor, MAX_ACTOR_BYTES)),
        result,
        message: kept(&message, MAX_MESSAGE_BYTES),
        at,
    }
}

/// Why there is no state to rebuild.
#[derive(Error, Clone, Debug, PartialEq, Eq)]
pub enum RebuildError {
    /// Nothing says which revision was stable.
    #[error(
        "the route is lost and no revision is marked as promoted; annotate the stable \
         ControllerRevision with kanarie.dev/promoted-at"
    )]
    NoPromotion,
}

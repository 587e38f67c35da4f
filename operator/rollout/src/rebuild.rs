//! The state after the route was lost, from what `report` had left elsewhere: the status of the
//! channel and the annotations of its ControllerRevisions. Pure; never guesses a stable revision.

use thiserror::Error;

use crate::observation::Command;
use crate::state::{CommandAnswer, Rejection, Revision, State};
use crate::timestamp::Timestamp;

/// What is left of a channel whose route is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Remains {
    /// Every ControllerRevision of the channel.
    pub revisions: Vec<Mark>,
    /// Stable revision as status names it.
    pub stable: Option<Revision>,
    /// Rejected revisions as status names them.
    pub rejected: Vec<Rejection>,
    /// The last command as status answers it.
    pub last_command: Option<CommandAnswer>,
    /// The command that stands in the annotations.
    pub standing: Option<Command>,
    /// Highest transition number seen in status.
    pub transition: u64,
    /// Highest `serving` seen anywhere: acknowledged by a replica, or with counts.
    pub serving: u64,
}

/// A ControllerRevision and what it was annotated with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// Its name.
    pub revision: Revision,
    /// `promoted-at`.
    pub promoted_at: Option<Timestamp>,
    /// `rejected-at`.
    pub rejected_at: Option<Timestamp>,
}

impl State {
    /// The state after a loss. A rollout that ran starts again from its first step, since stable
    /// is all that is left of it.
    pub fn rebuild(remains: Remains, now: Timestamp) -> Result<Self, RebuildError> {
        let stable = remains.stable.ok_or(RebuildError::NoPromotion)?;
        Ok(Self::first(stable, now))
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

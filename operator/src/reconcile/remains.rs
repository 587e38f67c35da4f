//! Remains: what status and the revisions' marks say of a channel whose route is lost. Pure.

use kanarie_crds::status::{CommandStatus, WhatsAppChannelStatus};
use kanarie_rollout::order::Command;
use kanarie_rollout::rebuild::{Mark, Remains};
use kanarie_rollout::state::{CommandAnswer, CommandResult, RejectedRevision};
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;

use crate::cluster::revisions::StoredRevision;
use crate::process::clock::millis_of;

/// Collects it.
pub fn remains(
    status: &WhatsAppChannelStatus,
    known: &[StoredRevision],
    standing: Option<&Command>,
    now: Timestamp,
) -> Remains {
    let last = status.last_rollback.as_ref();
    let rejection = |name: &String| {
        let why = last.filter(|rollback| rollback.revision == *name);
        Some(RejectedRevision {
            revision: name.parse().ok()?,
            reason: why.map_or(Reason::RolledBack.as_str().to_owned(), |why| why.reason.clone()),
            message: why.map(|why| why.message.clone()).unwrap_or_default(),
            at: why.map_or(now, |why| Timestamp(millis_of(why.at.0))),
        })
    };
    let marks = known.iter().map(|known| Mark {
        revision: known.name.clone(),
        promoted: known.promoted,
        rejected_at: known.rejected_at.map(|at| Timestamp(millis_of(at))),
    });
    Remains {
        revisions: marks.collect(),
        stable: status.stable.as_ref().and_then(|stable| stable.revision.parse().ok()),
        stable_since: status.stable.as_ref().map(|stable| Timestamp(millis_of(stable.since.0))),
        rejected: status.rejected.iter().filter_map(rejection).collect(),
        last_command: status.last_command.as_ref().map(answered),
        standing: standing.cloned(),
        transition: status.transition,
        generation: u64::try_from(status.observed_generation).unwrap_or(0),
    }
}

fn answered(status: &CommandStatus) -> CommandAnswer {
    let executed = status.result == CommandResult::Executed.as_str();
    CommandAnswer {
        id: status.id.clone(),
        verb: status.command.clone(),
        actor: status.actor.clone(),
        result: if executed { CommandResult::Executed } else { CommandResult::Refused },
        message: status.message.clone(),
        at: Timestamp(millis_of(status.at.0)),
    }
}

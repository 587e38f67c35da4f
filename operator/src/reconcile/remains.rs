//! Remains: what status and the revisions' marks say of a channel whose route is lost. Pure.

use kanarie_crds::channel::RevisionContent;
use kanarie_crds::status::CommandStatus;
use kanarie_rollout::order::Command;
use kanarie_rollout::rebuild::{Mark, Remains};
use kanarie_rollout::state::{CommandAnswer, CommandResult, Phase, RejectedRevision, Split, State};
use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;

use crate::cluster::stored::StoredRevision;
use crate::process::clock::millis_of;
use crate::reconcile::blocked::Blocked;
use crate::reconcile::found::KnownStatus;

/// Collects it.
pub fn remains(
    known_status: &KnownStatus,
    known: &[StoredRevision],
    standing: Option<&Command>,
    now: Timestamp,
) -> Remains {
    let KnownStatus { identity, status } = known_status;
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
        // What nobody has asked for yet cannot have been decided.
        generation: u64::try_from(status.observed_generation.min(identity.generation)).unwrap_or(0),
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

/// The state of a route that is not the newest: its stable revision serves everybody, under the number that it
/// has, so that it stays older than status.
pub fn left_to_stable(older: &State) -> State {
    let Split { stable, canary, .. } = older.split();
    match canary {
        None => older.clone(),
        Some(_) => State {
            phase: Phase::Clearing { stable: stable.clone() },
            serving: older.serving.saturating_add(1),
            ..older.clone()
        },
    }
}

/// Content of the revision that was stable, as it was kept beside the route.
pub fn content_of<'a>(
    stable: &RevisionName,
    known: &'a [StoredRevision],
) -> Result<&'a RevisionContent, Blocked> {
    let flaw = match known.iter().find(|known| known.name == *stable).map(|found| &found.content) {
        Some(Ok(content)) => return Ok(content),
        Some(Err(fault)) => format!("cannot serve, since {fault}"),
        None => "is lost too".to_owned(),
    };
    let message = format!(
        "the route is lost, and ControllerRevision `{stable}` {flaw}; restore it, or annotate another one \
         with kanarie.dev/promoted-at"
    );
    Err(Blocked::by(Reason::RouteLost, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::contents::ContentFault;
    use crate::cluster::key::ChannelKey;
    use crate::reconcile::validate::Identity;

    #[test]
    fn a_stable_revision_that_no_spec_could_ask_for_serves_nobody() {
        let fault = ContentFault::Broken("spec.agent.timeoutSeconds: too long".to_owned());
        let broken = StoredRevision {
            name: "care-1".parse().unwrap(),
            content: Err(fault),
            number: 1,
            promoted: None,
            rejected_at: None,
        };
        let why = content_of(&broken.name.clone(), &[broken]).unwrap_err();
        assert_eq!(why.reason, Reason::RouteLost);
        assert!(why.message.contains("`care-1`") && why.message.contains("too long"), "{why:?}");
    }

    #[test]
    fn what_status_says_of_a_spec_that_nobody_has_written_holds_no_other() {
        let identity = Identity {
            key: ChannelKey { namespace: "shop".into(), name: "care".into() },
            uid: "u".into(),
            generation: 3,
            resource_version: None,
            is_deleted: false,
        };
        let status = serde_json::from_str(r#"{"observedGeneration": 9000000000}"#).unwrap();
        let known_status = KnownStatus { identity, status };
        assert_eq!(remains(&known_status, &[], None, Timestamp(0)).generation, 3);
    }
}

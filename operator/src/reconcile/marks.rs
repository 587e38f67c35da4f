//! Marks: what the ControllerRevisions of a channel say of what is stable and what was rejected.
//!
//! Takes the route as it is in the cluster; writes what a lost route is made again from. Asks for nothing
//! while what is stable and rejected is what it was.

use std::collections::BTreeSet;
use std::time::Duration;

use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_rollout::state::State;
use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;
use tokio::time::Instant;

use crate::cluster::revisions::{NewRevision, RevisionError, Revisions, create_stable};
use crate::cluster::route_object::RouteObject;
use crate::process::clock::share;
use crate::process::context::Ctx;
use crate::reconcile::notes::Marks;
use crate::reconcile::observe::Survey;
use crate::reconcile::status::is_unsaid;
use crate::reconcile::validate::Channel;

/// Time after which marks and spare revisions are looked at again although nothing has happened.
pub const MARKS: Duration = Duration::from_secs(24 * 3600);

/// Brings the channel's ControllerRevisions in line with the route, when what is stable or rejected is
/// another one than before, or now and then: what serves exists, stable and the rejected ones are
/// marked, spare ones are gone.
pub async fn mark(
    ctx: &Ctx,
    channel: &Channel,
    survey: &Survey,
    held: &RouteObject,
) -> Result<(), RevisionError> {
    let uid = &channel.identity.uid;
    if channel.identity.is_deleted {
        return Ok(());
    }
    let state = &held.memory.rollout;
    let rejected: BTreeSet<RevisionName> =
        state.rejected.iter().map(|rejected| rejected.revision.clone()).collect();
    let stable = state.split().stable;
    let marks = Marks { stable: stable.clone(), rejected };
    let note = ctx.notes.get(uid);
    let is_due = note.looked_after.is_some_and(|due| due <= Instant::now());
    let are_known = match &note.marked {
        Some(marked) => *marked == marks,
        None => are_told_as_marked(&survey.known_status.status, state),
    };
    if are_known && !is_due {
        ctx.notes.update(uid, |note| note.marked = Some(marks));
        return Ok(());
    }
    let at = (ctx.clock)();
    let namespace = &channel.identity.key.namespace;
    let is_first = is_unsaid(&survey.known_status.status);
    let only = held.memory.revisions.get(stable).filter(|_| held.memory.revisions.len() == 1);
    let is_made = match only.filter(|_| is_first && note.marked.is_none()) {
        Some(kept) => {
            let new =
                NewRevision { name: stable.clone(), content: kept.content.clone(), number: 1 };
            create_stable(&ctx.client, namespace, &channel.owner, &new, state.transition, at)
                .await?
        }
        None => false,
    };
    if !is_made {
        align(ctx, channel, held, &marks).await?;
    }
    ctx.notes.update(uid, |note| {
        note.marked = Some(marks);
        note.looked_after = Some(Instant::now() + MARKS / 2 + share(MARKS / 2));
    });
    Ok(())
}

/// Whether an earlier process has marked the revisions: its status of this transition says so, which is
/// written after that.
fn are_told_as_marked(status: &WhatsAppChannelStatus, state: &State) -> bool {
    let refused = [Reason::RevisionRefused, Reason::ReconcileFailed].map(Reason::as_str);
    status.transition == state.transition
        && !status.conditions.is_empty()
        && status.conditions.iter().all(|condition| !refused.contains(&condition.reason.as_str()))
}

async fn align(
    ctx: &Ctx,
    channel: &Channel,
    held: &RouteObject,
    marks: &Marks,
) -> Result<(), RevisionError> {
    let (namespace, uid) = (&channel.identity.key.namespace, &channel.identity.uid);
    let state = &held.memory.rollout;
    let mut revisions = Revisions::list(&ctx.client, namespace, channel.owner.clone()).await?;
    for (name, kept) in &held.memory.revisions {
        revisions.restore(name, &kept.content).await?;
    }
    let Marks { stable, rejected } = marks;
    revisions.mark((stable, state.transition), rejected, (ctx.clock)()).await?;
    let mut needed: BTreeSet<RevisionName> = held.memory.revisions.keys().cloned().collect();
    needed.extend(rejected.iter().cloned());
    needed.extend(ctx.notes.get(uid).resolved.map(|(_, name)| name));
    if let Ok(spec) = &channel.spec {
        let limit = spec.spec.rollout.revision_history_limit;
        revisions.prune(&needed, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
    }
    Ok(())
}

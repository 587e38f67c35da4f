//! Report: status, marks on revisions and Events, derived from what is in the cluster.
//!
//! Takes the route as the write returned it; writes what users see. Everything here may be lost and
//! is written again by the next pass. Never goes back to a lower transition: a status is written
//! under the version of the object that it was compared with.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_crds::control::ChannelDeadLetters;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_crds::{FIELD_MANAGER, GROUP};
use kanarie_rollout::analysis::Verdict;
use kanarie_words::ids::RevisionName;
use kanarie_words::reason::Reason;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::Instant;

use crate::blocked::Blocked;
use crate::claim::RouteObject;
use crate::context::Ctx;
use crate::credentials::SecretProblem;
use crate::events;
use crate::evidence::View;
use crate::revisions::{RevisionError, Revisions};
use crate::status::{Facts, blocked, derive, differs};
use crate::validate::{Channel, Identity};

/// Time between two writes of status that change numbers only.
const NUMBERS: Duration = Duration::from_secs(10);
/// Time after which numbers are written again although they are the same.
const SAME_NUMBERS: Duration = Duration::from_secs(45);
/// Time after which marks and spare revisions are looked at again without a transition.
const MARKS: Duration = Duration::from_secs(600);

/// What a pass came to.
pub struct Report<'a> {
    /// The route as it is in the cluster.
    pub held: &'a RouteObject,
    /// Reason of RolledOut.
    pub reason: Reason,
    /// Its text.
    pub message: String,
    /// What the counts say, if they are of the present step.
    pub verdict: Option<&'a Verdict>,
    /// What the gateways said.
    pub view: &'a View,
    /// What is wrong with the Secrets.
    pub problem: Option<&'a SecretProblem>,
}

/// Why not everything could be reported.
#[derive(Debug, Error)]
pub enum ReportError {
    /// Status was changed by somebody else, twice.
    #[error("the status of the channel is being changed by another writer")]
    Conflict,
    /// The API server said no.
    #[error("the status or the Events of the channel could not be written")]
    Api(#[from] kube::Error),
    /// The revisions could not be marked or pruned.
    #[error("the revisions of the channel could not be brought in line")]
    Revisions(#[from] RevisionError),
}

/// Reports on a channel that has a route.
pub async fn report(ctx: &Ctx, channel: &Channel, outcome: &Report<'_>) -> Result<(), ReportError> {
    let make = |before: &WhatsAppChannelStatus, generation: i64, now: Timestamp| {
        derive(&Facts {
            generation,
            before,
            memory: &outcome.held.memory,
            reason: outcome.reason,
            message: &outcome.message,
            verdict: outcome.verdict,
            view: outcome.view,
            problem: outcome.problem,
            now,
        })
    };
    let dead = outcome.view.dead_letters.as_ref();
    write(ctx, &channel.identity, &channel.status, dead, make).await?;
    Ok(mark(ctx, channel, outcome.held).await?)
}

/// Reports on a channel for which nothing may be done.
pub async fn report_blocked(
    ctx: &Ctx,
    identity: &Identity,
    before: &WhatsAppChannelStatus,
    why: &Blocked,
    problem: Option<&SecretProblem>,
) -> Result<(), ReportError> {
    let make = |before: &WhatsAppChannelStatus, generation: i64, now: Timestamp| {
        blocked(generation, before, why, problem, now)
    };
    write(ctx, identity, before, None, make).await
}

/// A channel and its status as they are now; of an object whose spec cannot be decoded as well.
pub async fn standing(
    ctx: &Ctx,
    identity: &Identity,
) -> Result<Option<(Identity, WhatsAppChannelStatus)>, kube::Error> {
    let kind = ApiResource::erase::<WhatsAppChannel>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(ctx.client.clone(), &identity.key.namespace, &kind);
    let Some(mut live) = api.get_opt(&identity.key.name).await? else {
        return Ok(None);
    };
    let status = match live.data["status"].take() {
        Value::Null => WhatsAppChannelStatus::default(),
        status => serde_json::from_value(status).map_err(kube::Error::SerdeError)?,
    };
    Ok(Some((Identity::of(&live.metadata), status)))
}

/// Writes status if it changed, and tells what is new in it.
async fn write(
    ctx: &Ctx,
    identity: &Identity,
    before: &WhatsAppChannelStatus,
    dead: Option<&ChannelDeadLetters>,
    make: impl Fn(&WhatsAppChannelStatus, i64, Timestamp) -> WhatsAppChannelStatus,
) -> Result<(), ReportError> {
    let now = (ctx.clock)();
    let after = make(before, identity.generation, now);
    if after.transition < before.transition {
        return Ok(());
    }
    if !is_due(ctx, identity, before, &after) {
        return Ok(events::tell_untold(ctx, identity, &after, now).await?);
    }
    if let Written::Yes = patch(ctx, identity, &after).await? {
        return Ok(events::tell(ctx, identity, before, &after, dead, now).await?);
    }
    // The watch is behind: compare with the object as it is.
    let Some((live, before)) = standing(ctx, identity).await? else {
        return Ok(());
    };
    let fresh = Identity { generation: identity.generation, ..live };
    let after = make(&before, identity.generation, now);
    let is_older = after.transition < before.transition
        || after.observed_generation < before.observed_generation;
    if fresh.uid != identity.uid || is_older || before == after {
        return Ok(());
    }
    match patch(ctx, &fresh, &after).await? {
        Written::Yes => Ok(events::tell(ctx, &fresh, &before, &after, dead, now).await?),
        Written::Conflict => Err(ReportError::Conflict),
    }
}

fn is_due(
    ctx: &Ctx,
    identity: &Identity,
    before: &WhatsAppChannelStatus,
    after: &WhatsAppChannelStatus,
) -> bool {
    if differs(before, after) {
        return true;
    }
    let since = ctx.notes.get(&identity.uid).status_written.map(|written| written.elapsed());
    let numbers = |status: &WhatsAppChannelStatus| {
        status.analysis.as_ref().map(|seen| (seen.canary_messages, seen.stable_messages))
    };
    let wait = match (before == after, numbers(before) == numbers(after)) {
        (true, _) => return false,
        (false, false) => NUMBERS,
        (false, true) => SAME_NUMBERS,
    };
    since.is_none_or(|since| since >= wait)
}

enum Written {
    Yes,
    Conflict,
}

async fn patch(
    ctx: &Ctx,
    identity: &Identity,
    status: &WhatsAppChannelStatus,
) -> Result<Written, kube::Error> {
    let api: Api<WhatsAppChannel> = Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    let body = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "WhatsAppChannel",
        "metadata": {
            "name": identity.key.name,
            "uid": identity.uid,
            "resourceVersion": identity.resource_version,
        },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&identity.key.name, &params, &Patch::Apply(&body)).await {
        Ok(_) => {
            ctx.notes.update(&identity.uid, |note| note.status_written = Some(Instant::now()));
            Ok(Written::Yes)
        }
        // Also the answer for an object that is gone: the next look finds nothing.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}

/// Brings the channel's ControllerRevisions in line with the route, after a transition or now and
/// then: what serves exists, stable and the rejected ones are marked, spare ones are gone.
async fn mark(ctx: &Ctx, channel: &Channel, held: &RouteObject) -> Result<(), RevisionError> {
    let uid = &channel.identity.uid;
    let state = &held.memory.rollout;
    let done = ctx.notes.get(uid).marked;
    if done.is_some_and(|(number, at)| number == state.transition && at.elapsed() < MARKS) {
        return Ok(());
    }
    let namespace = &channel.identity.key.namespace;
    let mut revisions = Revisions::list(&ctx.client, namespace, channel.owner.clone()).await?;
    for (name, kept) in &held.memory.revisions {
        revisions.restore(name, &kept.content).await?;
    }
    let rejected: BTreeSet<RevisionName> =
        state.rejected.iter().map(|rejected| rejected.revision.clone()).collect();
    revisions.mark(state.split().stable, &rejected, (ctx.clock)()).await?;
    let mut needed: BTreeSet<RevisionName> = held.memory.revisions.keys().cloned().collect();
    needed.extend(rejected);
    needed.extend(ctx.notes.get(uid).resolved.map(|(_, name)| name));
    let limit = usize::try_from(channel.spec.rollout.revision_history_limit).unwrap_or(usize::MAX);
    revisions.prune(&needed, limit).await?;
    ctx.notes.update(uid, |note| note.marked = Some((state.transition, Instant::now())));
    Ok(())
}

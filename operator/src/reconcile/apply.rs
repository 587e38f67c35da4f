//! Apply: the one conditional write of a reconcile. This write is the decision.
//!
//! Takes what was built; gives the route as it is in the cluster afterwards. A revision that is to be
//! rolled out is made first; when that is refused, the decision without it is written instead. Writes
//! only under the version that was read: whoever lost against another writer stops and waits for the
//! watch. Writes nothing when nothing changed.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kanarie_rollout::decide::Decision;
use kanarie_words::reason::Reason;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::cluster::revisions::create;
use crate::cluster::route_object::{RouteObject, decode, encode, is_labelled};
use crate::process::chain::chain;
use crate::process::context::Ctx;
use crate::reconcile::blocked::{Blocked, SecretProblem};
use crate::reconcile::build::{Built, Draft};
use crate::reconcile::observe::Survey;
use crate::reconcile::validate::Channel;

/// Time that making a revision may take: what serves is judged whatever becomes of it.
const MADE_WITHIN: Duration = Duration::from_secs(10);

/// What is in force now.
pub struct Applied {
    /// The route as it is in the cluster.
    pub held: RouteObject,
    /// The decision that it carries.
    pub decision: Decision,
    /// What is wrong with the Secrets, if the last compiled values had to stand in.
    pub problem: Option<SecretProblem>,
    /// Why it is not what the spec asks for.
    pub stays: Option<Blocked>,
}

/// Why the write did not happen, or is not known to have happened.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// Another writer was first: what was observed is no longer so.
    #[error("the route was changed by another writer; the decision is dropped")]
    Conflict,
    /// The API server said no, or nothing.
    #[error("the route could not be written")]
    Api(#[source] Box<kube::Error>),
    /// What came back is not what was sent.
    #[error("the API server returned another route than the one written")]
    Returned,
}

/// Makes the revision if there is one to make, and writes the route if it differs.
pub async fn apply(
    ctx: &Ctx,
    channel: &Channel,
    survey: &Survey,
    built: Built,
) -> Result<Applied, ApplyError> {
    let Built { revision, wanted, otherwise } = built;
    let namespace = &channel.identity.key.namespace;
    let refused = match &revision {
        Some(new) => {
            let made = create(&ctx.client, namespace, &channel.owner, new);
            match timeout(MADE_WITHIN, made).await {
                Ok(made) => made.err().map(|error| chain(&error)),
                Err(_) => Some(format!("no answer within {} s", MADE_WITHIN.as_secs())),
            }
        }
        None => None,
    };
    let draft = match refused {
        Some(message) => {
            let stays = Some(Blocked::by(Reason::RevisionRefused, message));
            Draft { stays, ..otherwise.unwrap_or(wanted) }
        }
        None => wanted,
    };
    let held = write(ctx, channel, survey, &draft).await?;
    let Draft { decision, problem, stays, .. } = draft;
    Ok(Applied { held, decision, problem, stays })
}

async fn write(
    ctx: &Ctx,
    channel: &Channel,
    survey: &Survey,
    draft: &Draft,
) -> Result<RouteObject, ApplyError> {
    let bytes = (draft.route_bytes.as_slice(), draft.state_bytes.as_slice());
    if let Some(held) = &survey.held
        && (held.route_bytes.as_slice(), held.state_bytes.as_slice()) == bytes
        && is_labelled(&held.metadata, &channel.reference, draft.note.as_ref())
    {
        return Ok(held.clone());
    }
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let there = survey.held.as_ref().map(|held| &held.metadata).or(survey.replace.as_ref());
    let object = encode(&draft.name, &channel.reference, bytes, draft.note.as_ref(), there);
    let params = PostParams::default();
    let written = match there {
        Some(_) => api.replace(&draft.name, &params, &object).await,
        None => api.create(&params, &object).await,
    };
    match written {
        Ok(written) => {
            // Before the watch tells of it.
            let version = written.metadata.resource_version.clone();
            ctx.notes.update(&channel.identity.uid, |note| {
                note.route = version;
                note.route_written = Some(Instant::now());
            });
            decode(written).map_err(|_| ApplyError::Returned)
        }
        Err(kube::Error::Api(status)) if was_first(&status, there.is_some()) => {
            ctx.metrics.route_conflicts.inc();
            Err(ApplyError::Conflict)
        }
        Err(error) => Err(ApplyError::Api(Box::new(error))),
    }
}

/// 409 for a version or a name that is no longer free, 404 for an object that was there.
fn was_first(status: &kube::core::Status, was_there: bool) -> bool {
    status.code == 409 || (status.code == 404 && was_there)
}

/// Deletes a route in the version that was seen, whose channel is gone or another installation's; says
/// whether it did. No decision: nobody is served by it.
pub async fn take_away(ctx: &Ctx, metadata: &ObjectMeta) -> Result<bool, kube::Error> {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let seen = Preconditions {
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
    };
    let params = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
    match api.delete(metadata.name.as_deref().unwrap_or_default(), &params).await {
        Ok(_) => Ok(true),
        // Changed or gone meanwhile: whoever looks next sees what is there.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error),
    }
}

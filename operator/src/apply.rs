//! Apply: the one conditional write of a reconcile. This write is the decision.
//!
//! Takes what was observed and what was built; gives the route as it is in the cluster afterwards.
//! Writes only under the version that was read: whoever lost against another writer stops and
//! waits for the watch. Writes nothing when nothing changed.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use thiserror::Error;

use crate::build::{Built, secret};
use crate::claim::{RouteObject, held};
use crate::context::Ctx;
use crate::observe::Survey;
use crate::validate::Channel;

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

/// Writes the route if it differs.
pub async fn apply(
    ctx: &Ctx,
    channel: &Channel,
    seen: &Survey,
    built: &Built,
) -> Result<RouteObject, ApplyError> {
    if let Some(held) = &seen.held
        && is_current(channel, held, built)
    {
        return Ok(held.clone());
    }
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let metadata = seen.held.as_ref().map(|held| &held.metadata).or(seen.replace.as_ref());
    let object = secret(channel, built, metadata);
    let name = object.metadata.name.clone().unwrap_or_default();
    let params = PostParams::default();
    let written = match metadata {
        Some(_) => api.replace(&name, &params, &object).await,
        None => api.create(&params, &object).await,
    };
    match written {
        Ok(written) => held(written).map_err(|_| ApplyError::Returned),
        Err(kube::Error::Api(status)) if lost(&status) => {
            ctx.metrics.route_conflicts.inc();
            Err(ApplyError::Conflict)
        }
        Err(error) => Err(ApplyError::Api(Box::new(error))),
    }
}

/// 409 for a version or a name that is no longer free, 404 for an object that is gone.
fn lost(status: &kube::core::Status) -> bool {
    status.code == 409 || status.code == 404
}

fn is_current(channel: &Channel, held: &RouteObject, built: &Built) -> bool {
    let wanted = secret(channel, built, None).metadata;
    held.route_bytes == built.route_bytes
        && held.state_bytes == built.state_bytes
        && carries(&held.metadata, &wanted)
}

fn carries(there: &ObjectMeta, wanted: &ObjectMeta) -> bool {
    there.labels == wanted.labels && there.annotations == wanted.annotations
}

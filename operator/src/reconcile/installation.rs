//! Installation: asks another one of the same class whether it lives, and leaves its channels alone.
//!
//! Takes a channel; gives when to look again, unless it is this installation's to serve, as `tenancy` says.
//! Writes nothing of a channel but the name of the installation, and the Event that says that another one
//! serves.

use std::time::Duration;

use kanarie_crds::channel::WhatsAppChannel;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::process::chain::chain;
use crate::process::context::Ctx;
use crate::reconcile::events::tell_of_another;
use crate::reconcile::read::{KnownStatus, ReadError, live};
use crate::reconcile::tenancy::{Tenancy, Turn};
use crate::reconcile::validate::{Channel, Identity};

/// When to look again at a channel that another one serves, or at an answer that the watch tells.
const LATER: Duration = Duration::from_secs(60);

/// Settles whose the channel is; gives when to look again, unless it is this installation's.
pub async fn settle(ctx: &Ctx, channel: &Channel) -> Result<Option<Duration>, ReadError> {
    let identity = channel.identity.clone();
    let known = match &channel.status {
        Some(status) => KnownStatus { identity, status: status.clone() },
        None => live(ctx, &identity).await?.ok_or(ReadError::Gone)?,
    };
    let KnownStatus { identity, status } = known;
    let own = ctx.config.routes_namespace.as_str();
    let turn = ctx.notes.update(&identity.uid, |note| {
        note.tenancy.turn(status.installation.as_deref(), own, Instant::now())
    });
    Ok(match turn {
        Turn::Serve => None,
        Turn::Wait(rest) => Some(rest),
        Turn::Answer => {
            if let Err(error) = name(ctx, &identity, own).await {
                // The object has changed: the next pass looks again.
                tracing::debug!(error = %chain(&error), "another installation was not answered");
            }
            None
        }
        Turn::Ask => {
            if let Err(error) = name(ctx, &identity, own).await {
                // The object has changed, or cannot be written: the question is put again.
                tracing::debug!(error = %chain(&error), "another installation could not be asked");
                ctx.notes.update(&identity.uid, |note| note.tenancy = Tenancy::Unknown);
            }
            Some(LATER)
        }
        Turn::Leave { is_news } => {
            let other = status.installation.unwrap_or_default();
            if is_news {
                leave(ctx, &identity, (own, &other)).await;
            }
            Some(LATER)
        }
    })
}

/// Writes the own name into status: a question where another one stands, and an answer to one.
async fn name(ctx: &Ctx, identity: &Identity, own: &str) -> Result<(), kube::Error> {
    let api: Api<WhatsAppChannel> = Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    let named = json!({
        "metadata": {"uid": identity.uid, "resourceVersion": identity.resource_version},
        "status": {"installation": own},
    });
    let params = PatchParams::default();
    api.patch_status(&identity.key.name, &params, &Patch::Merge(named)).await.map(drop)
}

/// Looks after it no longer, and says so.
async fn leave(ctx: &Ctx, identity: &Identity, (own, other): (&str, &str)) {
    ctx.let_go(&identity.key, &identity.uid);
    let class = &ctx.config.channel_class;
    let note = format!(
        "the installation with the routes namespace {other} serves this channel, and the one with {own} \
         leaves it alone: both have the class `{class}`; give one of them another --channel-class, and its \
         channels that className"
    );
    tracing::warn!(namespace = identity.key.namespace, channel = identity.key.name, "{note}");
    if let Err(error) = tell_of_another(ctx, identity, (own, other), note).await {
        tracing::warn!(error = %chain(&error), "the Event about that could not be created");
    }
}

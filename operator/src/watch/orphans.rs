//! Orphans: routes of channels that are gone, and routes that somebody else touched.
//!
//! Watches the metadata of the route Secrets. A change that the channel's last reconcile has not seen
//! is a look at it; the end of one also at those that wait for the sender. Beside that sweeps: a route
//! is deleted only after the API server has said that its channel is gone, and only in the version that
//! was seen. Routes of namespaces that are not watched, or whose channels could not be listed, are
//! left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::route::{COMPONENT_LABEL, COMPONENT_ROUTE};
use kanarie_process::pace::{WatchPace, watch_config};
use kube::api::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;

use crate::cluster::route_object::RouteOwner;
use crate::process::chain::chain;
use crate::process::context::Ctx;
use crate::reconcile::apply::take_away;
use crate::reconcile::read::lives;
use crate::watch::routes::SeenRoute;

/// Time between two looks for routes without a channel.
const SWEEP: Duration = Duration::from_secs(5);

/// How long a route waits for the channel that claims its sender: told of it, that one replaces it, so that
/// a channel with a new name refuses no message.
const REPLACED: Duration = Duration::from_secs(30);

/// Since when routes are without their channel.
type Orphans = BTreeMap<String, Instant>;

/// Watches and sweeps for ever.
pub async fn run(ctx: Arc<Ctx>) {
    tokio::join!(follow(&ctx), sweep(&ctx));
}

async fn follow(ctx: &Ctx) {
    let metadata: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let config = watch_config().labels(&format!("{COMPONENT_LABEL}={COMPONENT_ROUTE}"));
    let mut events = watcher(metadata, config).backoff(WatchPace::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(ctx, event),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the watch of the routes broke");
            }
        }
    }
}

fn take(ctx: &Ctx, event: watcher::Event<PartialObjectMeta<Secret>>) {
    let (object, there) = match event {
        watcher::Event::Init => return ctx.routes.clear(),
        watcher::Event::InitDone => return ctx.routes.complete(),
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => (object, true),
        watcher::Event::Delete(object) => (object, false),
    };
    let (name, route) = (object.name_any(), SeenRoute::of(&object.metadata));
    let owner = route.owner.clone();
    let version = route.resource_version.clone();
    if there {
        ctx.routes.saw(name, route);
    } else {
        ctx.routes.gone(&name);
        ctx.claims.gone(&name).iter().for_each(|key| ctx.channels.ask(key));
    }
    if let Some(owner) = owner {
        let seen = ctx.notes.get(&owner.uid).route;
        if !there || seen != version {
            ctx.channels.ask(&owner.key);
        }
    }
}

/// Deletes the routes whose channel is gone, again and again.
async fn sweep(ctx: &Ctx) {
    let mut orphans = Orphans::new();
    loop {
        tokio::time::sleep(SWEEP).await;
        collect(ctx, &mut orphans).await;
    }
}

async fn collect(ctx: &Ctx, orphans: &mut Orphans) {
    let before = std::mem::take(orphans);
    // Asked for once however many routes have lost their channel.
    let mut claimants = None;
    let is_no_orphan = |owner: &RouteOwner| {
        !ctx.config.watches(&owner.key.namespace)
            || !ctx.channels.knows(&owner.key.namespace)
            || ctx.channels.contains(owner)
    };
    for (name, route) in &ctx.routes.without(is_no_orphan) {
        let Some(owner) = route.owner.clone() else { continue };
        match lives(ctx, &owner).await {
            Ok(true) => {}
            Ok(false) => {
                let since = before.get(name).copied().unwrap_or_else(Instant::now);
                ctx.forget(&owner.key, &owner.uid);
                let claimants = claimants.get_or_insert_with(|| ctx.channels.claimants());
                match claimants.get(name) {
                    Some(claimants) if since.elapsed() < REPLACED => {
                        orphans.insert(name.clone(), since);
                        claimants.iter().for_each(|claimant| ctx.channels.ask(claimant));
                    }
                    Some(_) | None => delete(ctx, name, route).await,
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "it is not known whether a channel is gone");
            }
        }
    }
}

async fn delete(ctx: &Ctx, name: &str, route: &SeenRoute) {
    let seen = ObjectMeta {
        name: Some(name.to_owned()),
        uid: route.uid.clone(),
        resource_version: route.resource_version.clone(),
        ..ObjectMeta::default()
    };
    match take_away(ctx, &seen).await {
        Ok(true) => {
            ctx.metrics.orphans_deleted.inc();
            tracing::info!(route = name, "the channel is gone and so is its route");
        }
        // The watch tells, and the next sweep looks again.
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(error = %chain(&error), route = name, "a route could not be deleted")
        }
    }
}

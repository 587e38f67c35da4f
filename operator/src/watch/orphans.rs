//! Orphans: routes of channels that are gone, and routes that somebody else touched.
//!
//! Watches the metadata of the route Secrets. A change that the channel's last reconcile has not seen
//! is a look at it; the end of one also at those that wait for the sender. Beside that sweeps: a route
//! is deleted only after the API server has said that its channel is gone, and only in the version that
//! was seen. Routes of namespaces that are not watched, or whose channels could not be listed, are
//! left alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

use crate::cluster::route_object::owner;
use crate::process::chain::chain;
use crate::process::context::Ctx;
use crate::reconcile::apply::take_away;
use crate::reconcile::read::lives;

/// Time between two looks for routes without a channel.
const SWEEP: Duration = Duration::from_secs(5);

/// How long a route waits for the channel that claims its sender: told of it, that one replaces it, so that
/// a channel with a new name refuses no message.
const REPLACED: Duration = Duration::from_secs(30);

/// Since when routes are without their channel.
type Orphans = BTreeMap<String, Instant>;

/// The routes as the watch knows them, by name, and whether it knows all of them.
#[derive(Default)]
struct Routes {
    known: BTreeMap<String, ObjectMeta>,
    complete: bool,
}

/// Watches and sweeps for ever.
pub async fn run(ctx: Arc<Ctx>) {
    let routes = Mutex::new(Routes::default());
    tokio::join!(follow(&ctx, &routes), sweep(&ctx, &routes));
}

async fn follow(ctx: &Ctx, routes: &Mutex<Routes>) {
    let metadata: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let config = watch_config().labels(&format!("{COMPONENT_LABEL}={COMPONENT_ROUTE}"));
    let mut events = watcher(metadata, config).backoff(WatchPace::default()).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(ctx, routes, event),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the watch of the routes broke");
            }
        }
    }
}

fn take(ctx: &Ctx, routes: &Mutex<Routes>, event: watcher::Event<PartialObjectMeta<Secret>>) {
    let mut routes = lock(routes);
    let (object, there) = match event {
        watcher::Event::Init => return *routes = Routes::default(),
        watcher::Event::InitDone => return routes.complete = true,
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => (object, true),
        watcher::Event::Delete(object) => (object, false),
    };
    let name = object.name_any();
    if let Some(owner) = owner(&object.metadata) {
        let seen = ctx.notes.get(&owner.uid).route;
        if !there || seen.is_none() || seen != object.metadata.resource_version {
            ctx.channels.ask(&owner.key);
        }
    }
    if there {
        routes.known.insert(name, object.metadata);
    } else {
        ctx.claims.gone(&name).iter().for_each(|key| ctx.channels.ask(key));
        routes.known.remove(&name);
    }
}

/// Deletes the routes whose channel is gone, again and again.
async fn sweep(ctx: &Ctx, routes: &Mutex<Routes>) {
    let mut orphans = Orphans::new();
    loop {
        tokio::time::sleep(SWEEP).await;
        let known = {
            let routes = lock(routes);
            if routes.complete { routes.known.clone() } else { BTreeMap::new() }
        };
        collect(ctx, &known, &mut orphans).await;
    }
}

async fn collect(ctx: &Ctx, routes: &BTreeMap<String, ObjectMeta>, orphans: &mut Orphans) {
    let before = std::mem::take(orphans);
    // Asked for once however many routes have lost their channel.
    let mut claimants = None;
    for (name, metadata) in routes {
        let Some(owner) = owner(metadata) else { continue };
        if !ctx.config.watches(&owner.key.namespace)
            || !ctx.channels.knows(&owner.key.namespace)
            || ctx.channels.contains(&owner)
        {
            continue;
        }
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
                    Some(_) | None => delete(ctx, name, metadata).await,
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "it is not known whether a channel is gone");
            }
        }
    }
}

async fn delete(ctx: &Ctx, name: &str, metadata: &ObjectMeta) {
    match take_away(ctx, metadata).await {
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

fn lock(routes: &Mutex<Routes>) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

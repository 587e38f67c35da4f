//! Orphans: routes of channels that are gone, and routes that somebody else touched.
//!
//! Watches the metadata of the route Secrets. Every change of one is a reconcile of its channel.
//! A route is deleted only after the API server has said that its channel is gone, and only in the
//! version that was seen. Routes of namespaces that are not watched are left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::route::{COMPONENT_LABEL, COMPONENT_ROUTE};
use kube::api::{DeleteParams, ObjectMeta, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};

use crate::cluster::route_object::owner;
use crate::process::chain::chain;
use crate::process::context::Ctx;
use crate::reconcile::read::lives;
use crate::watch::triggers::Triggers;

/// Time between two looks for routes without a channel.
const SWEEP: Duration = Duration::from_secs(5);

type Routes = BTreeMap<String, ObjectMeta>;

/// Watches and sweeps for ever.
pub async fn run(ctx: Arc<Ctx>, triggers: Triggers) {
    let metadata: Api<PartialObjectMeta<Secret>> =
        Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let config = watcher::Config::default().labels(&format!("{COMPONENT_LABEL}={COMPONENT_ROUTE}"));
    let mut events = watcher(metadata, config).default_backoff().boxed();
    let mut routes = Routes::new();
    let mut complete = false;
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => take(&mut routes, &mut complete, event, &triggers).await,
                Some(Err(error)) => tracing::warn!(error = %chain(&error), "the watch of the routes broke"),
                None => return,
            },
            _ = sweep.tick() => if complete {
                collect(&ctx, &routes).await;
            },
        }
    }
}

async fn take(
    routes: &mut Routes,
    complete: &mut bool,
    event: watcher::Event<PartialObjectMeta<Secret>>,
    triggers: &Triggers,
) {
    let (object, there) = match event {
        watcher::Event::Init => {
            *complete = false;
            return routes.clear();
        }
        watcher::Event::InitDone => {
            *complete = true;
            return;
        }
        watcher::Event::InitApply(object) | watcher::Event::Apply(object) => (object, true),
        watcher::Event::Delete(object) => (object, false),
    };
    let name = object.name_any();
    if let Some(owner) = owner(&object.metadata) {
        triggers.send(&owner.key).await;
    }
    match there {
        true => drop(routes.insert(name, object.metadata)),
        false => drop(routes.remove(&name)),
    }
}

/// Deletes the routes whose channel is gone.
async fn collect(ctx: &Ctx, routes: &Routes) {
    ctx.channels.ready().await;
    for (name, metadata) in routes {
        let Some(owner) = owner(metadata) else { continue };
        if !ctx.config.watches(&owner.key.namespace) || ctx.channels.contains(&owner) {
            continue;
        }
        match lives(ctx, &owner).await {
            Ok(true) => {}
            Ok(false) => {
                delete(ctx, name, metadata).await;
                ctx.forget(&owner.key, &owner.uid);
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "it is not known whether a channel is gone");
            }
        }
    }
}

async fn delete(ctx: &Ctx, name: &str, metadata: &ObjectMeta) {
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.config.routes_namespace);
    let seen = Preconditions {
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
    };
    let params = DeleteParams { preconditions: Some(seen), ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Ok(_) => {
            ctx.metrics.orphans_deleted.inc();
            tracing::info!(route = name, "the channel is gone and so is its route");
        }
        // Changed or gone meanwhile: the watch tells, and the next sweep looks again.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => {
            tracing::warn!(error = %chain(&error), route = name, "a route could not be deleted")
        }
    }
}

//! The watches of channels and Secrets, and who is reconciled when one of them tells something.
//!
//! Takes the queues of the watched namespaces; runs a controller for each until `stop`. Decides nothing.

use std::sync::Arc;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use tokio::sync::watch;

use crate::process::context::Ctx;
use crate::reconcile::reconcile;
use crate::watch::triggers::{Guarded, ReconcileQueue};

/// Reconciles at once, over all watched namespaces.
const CONCURRENCY: usize = 32;

/// Runs a controller per queue until `stop`, and waits for their reconciles.
pub async fn run(ctx: Arc<Ctx>, queues: Vec<ReconcileQueue>, stop: watch::Receiver<bool>) {
    let concurrency = u16::try_from((CONCURRENCY / queues.len().max(1)).max(1)).unwrap_or(1);
    let mut stores = Vec::new();
    let mut controllers = Vec::new();
    for (scope, queue) in queues {
        let (config, secrets) = (watch_config(&ctx, scope.as_deref()), ctx.clone());
        let mut stopping = stop.clone();
        let controller = Controller::new(api::<Guarded>(&ctx, scope.as_deref()), config.clone())
            .with_config(ControllerConfig::default().concurrency(concurrency))
            .watches(
                api::<PartialObjectMeta<Secret>>(&ctx, scope.as_deref()),
                config,
                move |secret| users(&secrets, &secret),
            )
            .reconcile_on(stream::unfold(queue, |mut queue| async {
                Some((queue.recv().await?, queue))
            }))
            .graceful_shutdown_on(async move {
                // An error means that nobody can stop us any more; that is the time to stop.
                let _ = stopping.wait_for(|stop| *stop).await;
            });
        stores.push(controller.store());
        let results = controller.run(reconcile, |_, _, _| Action::await_change(), ctx.clone());
        controllers.push(results.for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconcile or a watch failed");
            }
        }));
    }
    ctx.channels.fill(stores);
    join_all(controllers).await;
}

fn users(ctx: &Ctx, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded>> {
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    let name = secret.metadata.name.clone().unwrap_or_default();
    let channels = ctx.secrets.changed(&namespace, &name);
    channels.iter().map(|key| ObjectRef::new(&key.name).within(&key.namespace)).collect()
}

/// All namespaces, or one; never the routes namespace.
fn watch_config(ctx: &Ctx, scope: Option<&str>) -> watcher::Config {
    match scope {
        Some(_) => watcher::Config::default(),
        None => watcher::Config::default()
            .fields(&format!("metadata.namespace!={}", ctx.config.routes_namespace)),
    }
}

fn api<K>(ctx: &Ctx, scope: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    }
}

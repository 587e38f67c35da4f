//! The watches of channels and Secrets, and who is reconciled when one of them tells something.
//!
//! Takes who fills the caches of the watched namespaces; runs a controller for each until `stop`. Each
//! watch has its own pace. Decides nothing.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::{ACTOR_ANNOTATION, COMMAND_ANNOTATION, COMMAND_ID_ANNOTATION};
use kanarie_process::pace::{WatchPace, watch_config};
use kube::api::ObjectMeta;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller, Error};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, reflector};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::cluster::key::ChannelKey;
use crate::cluster::route_object::RouteOwner;
use crate::process::chain::chain;
use crate::process::context::Ctx;
use crate::reconcile::reconcile;
use crate::reconcile::validate::{NoIdentity, route_of};
use crate::watch::channels::{Scope, owner_of};
use crate::watch::guarded::Guarded;

/// Objects that are listed at once: each may have a quarter of a megabyte of annotations.
const PAGE: u32 = 50;
/// The annotations of a channel that are read here; nobody is woken by another one.
const OURS: [&str; 3] = [COMMAND_ANNOTATION, ACTOR_ANNOTATION, COMMAND_ID_ANNOTATION];
/// How long channels at rest wait for what the other watches tell, and how often that is looked at.
const GRACE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Runs a controller per watched namespace until `stop`, and waits for their reconciles.
pub async fn run(ctx: Arc<Ctx>, writers: Vec<Writer<Guarded>>, stop: watch::Receiver<bool>) {
    let scopes = ctx.channels.scopes().iter().zip(writers);
    let all = scopes.map(|(scope, writer)| {
        let (ctx, stop) = (&ctx, stop.clone());
        async move {
            tokio::select! {
                () = control(ctx, scope, stop) => {}
                () = follow_channels(ctx, scope, writer) => {}
                () = follow_secrets(ctx, scope) => {}
                () = let_go(ctx, scope) => {}
            }
        }
    });
    join_all(all).await;
}

/// Lets the channels at rest go when a glance at routes and Secrets tells what has changed, or when that
/// takes too long; then for ever nothing.
async fn let_go(ctx: &Ctx, scope: &Scope) {
    let began = Instant::now();
    let knows = || ctx.routes.is_complete() && ctx.secrets.is_complete(&scope.namespace);
    while !knows() && began.elapsed() < GRACE {
        sleep(LOOK).await;
    }
    scope.queue.hold_back(false);
    std::future::pending().await
}

/// Has channels reconciled in the order of their queue.
async fn control(ctx: &Arc<Ctx>, scope: &Scope, mut stop: watch::Receiver<bool>) {
    // A stream of ours has to live as long as the controller, so it is handed its keys.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let controller = Controller::for_stream(stream::pending(), scope.store.clone())
        .with_config(ControllerConfig::default().concurrency(scope.concurrency))
        .reconcile_on(stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        }))
        .graceful_shutdown_on(async move {
            // An error means that nobody can stop us any more; that is the time to stop.
            let _ = stop.wait_for(|stop| *stop).await;
        });
    let results = controller.run(look, |_, _, _| Action::await_change(), ctx.clone());
    let runs = results.for_each(|result| async {
        match result {
            Err(Error::ObjectNotFound(gone)) => scope.queue.ended(&key_of(&gone), None),
            Err(error) => tracing::debug!(%error, "a reconcile failed"),
            Ok(_) => {}
        }
    });
    let feeds = async {
        loop {
            let ChannelKey { namespace, name } = scope.queue.next().await;
            if sender.send(ObjectRef::new(&name).within(&namespace)).await.is_err() {
                // The controller ends.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        () = runs => {}
        () = feeds => {}
    }
}

/// One reconcile, and when the next one is due.
async fn look(object: Arc<Guarded>, ctx: Arc<Ctx>) -> Result<Action, NoIdentity> {
    let owner = owner_of(&object);
    let pause = reconcile(object, ctx.clone()).await;
    ctx.channels.ended(&owner.key, pause.as_ref().ok().copied());
    if !ctx.channels.contains(&owner) {
        // It went meanwhile, and this reconcile has noted something of it.
        forget(&ctx, &owner);
    }
    pause.map(|_| Action::await_change())
}

fn forget(ctx: &Ctx, owner: &RouteOwner) {
    ctx.forget(&owner.key, &owner.uid);
}

fn key_of(object: &ObjectRef<DynamicObject>) -> ChannelKey {
    let ObjectRef { namespace, name, .. } = object;
    ChannelKey { namespace: namespace.clone().unwrap_or_default(), name: name.clone() }
}

/// Fills the cache of a scope, for ever.
async fn follow_channels(ctx: &Ctx, scope: &Scope, writer: Writer<Guarded>) {
    // The API server knows of which class a channel is that nobody here can decode.
    let class = format!("spec.className={}", ctx.config.channel_class);
    let (api, config) = (api::<Guarded>(ctx, scope), config(ctx, scope, Some(class)));
    let events = watcher(api, config).backoff(WatchPace::default()).modify(lighten);
    let events = reflector(writer, events);
    let mut events = pin!(events);
    let (mut listed, mut before) = (Vec::new(), Vec::new());
    while let Some(event) = events.next().await {
        ctx.channels.take(scope, &mut listed, &event);
        match &event {
            Ok(watcher::Event::Delete(object)) => {
                forget(ctx, &owner_of(object));
                let waiting = route_of(object).map(|route| ctx.claims.gone(&route));
                waiting.iter().flatten().for_each(|key| ctx.channels.ask(key));
            }
            Ok(watcher::Event::Init) => before = scope.owners(),
            // Those that went while nobody watched.
            Ok(watcher::Event::InitDone) => {
                let gone = std::mem::take(&mut before).into_iter();
                gone.filter(|owner| !ctx.channels.contains(owner)).for_each(|it| forget(ctx, &it));
            }
            Ok(watcher::Event::InitApply(_) | watcher::Event::Apply(_)) | Err(_) => {}
        }
    }
}

/// Drops what nobody here reads, which may be larger than all the rest of a channel.
fn lighten(object: &mut Guarded) {
    let metadata = object.meta_mut();
    (metadata.managed_fields, metadata.labels) = (None, None);
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|name, _| OURS.contains(&name.as_str()));
    }
}

/// Looks at whoever uses a Secret that changed, for ever.
async fn follow_secrets(ctx: &Ctx, scope: &Scope) {
    let (api, config) = (api::<PartialObjectMeta<Secret>>(ctx, scope), config(ctx, scope, None));
    let mut events = pin!(watcher(api, config).backoff(WatchPace::default()));
    while let Some(event) = events.next().await {
        let users = match event {
            Ok(event) => {
                scope.secrets.well();
                take_secret(ctx, scope, event)
            }
            Err(error) => {
                ctx.secrets.troubled(&scope.namespace);
                scope.secrets.broke(chain(&error), Instant::now());
                Vec::new()
            }
        };
        users.iter().for_each(|key| ctx.channels.ask(key));
    }
}

fn take_secret(
    ctx: &Ctx,
    scope: &Scope,
    event: watcher::Event<PartialObjectMeta<Secret>>,
) -> Vec<ChannelKey> {
    let place = |secret: PartialObjectMeta<Secret>| {
        let ObjectMeta { namespace, name, resource_version, .. } = secret.metadata;
        (namespace.unwrap_or_default(), name.unwrap_or_default(), resource_version)
    };
    match event {
        watcher::Event::Init => {
            ctx.secrets.begin(&scope.namespace);
            Vec::new()
        }
        watcher::Event::InitApply(secret) => {
            let (namespace, name, version) = place(secret);
            ctx.secrets.listed(&namespace, &name, version);
            Vec::new()
        }
        watcher::Event::InitDone => ctx.secrets.complete(&scope.namespace),
        watcher::Event::Apply(secret) => {
            let (namespace, name, version) = place(secret);
            ctx.secrets.changed(&namespace, &name, version)
        }
        watcher::Event::Delete(secret) => {
            let (namespace, name, _) = place(secret);
            ctx.secrets.changed(&namespace, &name, None)
        }
    }
}

/// All namespaces, or one; never the routes namespace.
fn config(ctx: &Ctx, scope: &Scope, class: Option<String>) -> watcher::Config {
    let elsewhere = || format!("metadata.namespace!={}", ctx.config.routes_namespace);
    let namespace = scope.namespace.is_none().then(elsewhere);
    let fields: Vec<String> = namespace.into_iter().chain(class).collect();
    let config = watch_config().page_size(PAGE);
    match fields.as_slice() {
        [] => config,
        fields => config.fields(&fields.join(",")),
    }
}

fn api<K>(ctx: &Ctx, scope: &Scope) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match &scope.namespace {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_channel_only_what_is_read_here_is_kept() {
        let text = r#"{"apiVersion": "kanarie.dev/v1alpha1", "kind": "WhatsAppChannel", "spec": {},
            "metadata": {"name": "care", "labels": {"team": "care"}, "annotations": {
                "kanarie.dev/command": "abort", "team": "care",
                "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "managedFields": [{"manager": "kubectl"}]}}"#;
        let mut channel: Guarded = serde_json::from_str(text).unwrap();
        lighten(&mut channel);
        let metadata = channel.meta();
        assert_eq!((&metadata.managed_fields, &metadata.labels), (&None, &None));
        let kept: Vec<_> = metadata.annotations.iter().flatten().collect();
        assert_eq!(kept, [(&COMMAND_ANNOTATION.to_owned(), &"abort".to_owned())]);
    }
}

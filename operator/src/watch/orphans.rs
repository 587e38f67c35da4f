//! Orphans: routes of channels that are gone, and routes that somebody else touched.
//!
//! Watches the metadata of the route Secrets. A change that the channel's last reconcile has not seen
//! is a look at it; the end of one also at those that wait for the sender. Beside that sweeps: a route
//! is deleted only after the API server has said that its channel is gone, and only in the version that
//! was seen. Routes of namespaces that are not watched, or whose channels could not be listed, are
//! left alone. A channel that lives although no watch shows it, as one of another class, is asked about
//! ever more seldom.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
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
use crate::process::clock::share;
use crate::process::context::Ctx;
use crate::reconcile::apply::take_away;
use crate::reconcile::read::lives;
use crate::watch::routes::SeenRoute;

/// Time between two looks for routes without a channel.
const SWEEP: Duration = Duration::from_secs(5);

/// How long a route waits for the channel that claims its sender: told of it, that one replaces it, so that
/// a channel with a new name refuses no message.
const REPLACED: Duration = Duration::from_secs(30);

/// Time until a channel that lives, and that no watch shows, is asked about once more; then twice as long, and
/// so on.
const AGAIN: Duration = Duration::from_secs(10);
/// Longest time between two such questions.
const SELDOM: Duration = Duration::from_secs(600);
/// Such questions at once.
const AT_ONCE: usize = 8;

/// Since when routes are without their channel.
type Orphans = BTreeMap<String, Instant>;

/// Routes whose channel lives although no watch shows it, by name.
#[derive(Default)]
struct Unshown(BTreeMap<String, Living>);

/// A channel that lived when it was asked for.
struct Living {
    /// Version of its route then.
    version: Option<String>,
    pause: Duration,
    /// When it is asked for again.
    until: Instant,
}

impl Unshown {
    /// Whether this one is not to be asked for yet.
    fn rests(&self, name: &str, route: &SeenRoute, now: Instant) -> bool {
        let known = self.0.get(name).filter(|known| known.version == route.resource_version);
        known.is_some_and(|known| now < known.until)
    }

    /// It lives.
    fn lives(&mut self, name: String, route: &SeenRoute, now: Instant) {
        let before = self.0.get(&name).filter(|known| known.version == route.resource_version);
        let pause = before.map_or(AGAIN, |before| (before.pause * 2).min(SELDOM));
        // Thousands of them are not asked for at once.
        let until = now + pause * 3 / 4 + share(pause / 2);
        self.0.insert(name, Living { version: route.resource_version.clone(), pause, until });
    }

    /// Forgets those that are not among these.
    fn keep(&mut self, lost: &[(String, SeenRoute)]) {
        let names: BTreeSet<&String> = lost.iter().map(|(name, _)| name).collect();
        self.0.retain(|name, _| names.contains(name));
    }
}

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
            Ok(event) => {
                ctx.routes.health.well();
                take(ctx, event);
            }
            Err(error) => ctx.routes.health.broke(chain(&error), Instant::now()),
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
    let (mut orphans, mut unshown) = (Orphans::new(), Unshown::default());
    loop {
        tokio::time::sleep(SWEEP).await;
        collect(ctx, &mut orphans, &mut unshown).await;
    }
}

async fn collect(ctx: &Ctx, orphans: &mut Orphans, unshown: &mut Unshown) {
    let before = std::mem::take(orphans);
    // Asked for once however many routes have lost their channel.
    let mut claimants = None;
    let is_no_orphan = |owner: &RouteOwner| {
        !ctx.config.watches(&owner.key.namespace)
            || !ctx.channels.knows(&owner.key.namespace)
            || ctx.channels.contains(owner)
    };
    let mut lost = ctx.routes.without(is_no_orphan);
    unshown.keep(&lost);
    let now = Instant::now();
    lost.retain(|(name, route)| !unshown.rests(name, route, now));
    let asked = lost.into_iter().filter_map(|(name, route)| {
        let owner = route.owner.clone()?;
        Some(async move {
            let lives = lives(ctx, &owner).await;
            (name, route, owner, lives)
        })
    });
    let mut answers = pin!(stream::iter(asked).buffer_unordered(AT_ONCE));
    while let Some((name, route, owner, lives)) = answers.next().await {
        match lives {
            Ok(true) => unshown.lives(name, &route, Instant::now()),
            Ok(false) => {
                let since = before.get(&name).copied().unwrap_or_else(Instant::now);
                ctx.forget(&owner.key, &owner.uid);
                let claimants = claimants.get_or_insert_with(|| ctx.channels.claimants());
                match claimants.get(&name) {
                    Some(claimants) if since.elapsed() < REPLACED => {
                        orphans.insert(name, since);
                        claimants.iter().for_each(|claimant| ctx.channels.ask(claimant));
                    }
                    Some(_) | None => delete(ctx, &name, &route).await,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn route(version: &str) -> SeenRoute {
        let resource_version = Some(version.to_owned());
        SeenRoute { uid: None, resource_version, owner: None, note: None }
    }

    #[test]
    fn a_channel_that_no_watch_shows_is_asked_for_ever_more_seldom_until_its_route_changes() {
        let (mut unshown, began) = (Unshown::default(), Instant::now());
        let mut questions = 0;
        // The sweeps of five hours.
        for sweep in 0..3_600 {
            let now = began + SWEEP * sweep;
            if !unshown.rests("a", &route("1"), now) {
                questions += 1;
                unshown.lives("a".to_owned(), &route("1"), now);
            }
        }
        assert!((24..=52).contains(&questions), "{questions} questions");
        let now = began + SWEEP * 3_600;
        assert!(!unshown.rests("a", &route("2"), now), "somebody has touched it");
        unshown.keep(&[]);
        assert!(unshown.0.is_empty(), "its channel is shown again, or its route is gone");
    }
}

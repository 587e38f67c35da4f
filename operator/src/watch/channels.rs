//! The watched channels, namespace by namespace: who is there, who claimed a sender first, and who is
//! looked at next.
//!
//! Takes what the watches tell; answers from their caches. A namespace that cannot be listed is told
//! and blocks no other. Never asks the API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kanarie_crds::channel::WhatsAppChannel;
use kube::Resource as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::cluster::key::ChannelKey;
use crate::cluster::route_object::RouteOwner;
use crate::process::chain::chain;
use crate::process::clock::share;
use crate::reconcile::validate::{Channel, Identity, ValidSpec, route_of};
use crate::watch::guarded::Guarded;
use crate::watch::health::WatchHealth;
use crate::watch::queue::{LookQueue, Urgency};
use crate::watch::told::ToldChannels;

/// How long a namespace that was never listed is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// Time within which channels at rest are looked at that hear the same at once.
const SPREAD: Duration = Duration::from_secs(60);
/// Reconciles at once, over all watched namespaces.
const CONCURRENCY: usize = 32;

/// The channels of all watches.
pub struct Channels {
    scopes: Vec<Scope>,
    began: Instant,
    changed: watch::Sender<()>,
}

/// One watched namespace, or all of them.
pub struct Scope {
    /// Its name; none for all.
    pub namespace: Option<String>,
    /// Name of this installation.
    own: String,
    /// Its channels.
    pub store: Store<Guarded>,
    /// Who of them is looked at next.
    pub queue: LookQueue,
    /// Most reconciles at once.
    pub concurrency: u16,
    complete: AtomicBool,
    /// How the watch of its channels is.
    health: WatchHealth,
    /// How the watch of its Secrets is.
    pub secrets: WatchHealth,
    /// What was last told of each channel.
    told: Mutex<ToldChannels>,
}

impl Channels {
    /// One cache for each watched namespace or one for all of them, and who fills it; `own` is the name of this
    /// installation.
    pub fn new(watch_namespaces: &[String], own: &str) -> (Self, Vec<Writer<Guarded>>) {
        let namespaces: Vec<Option<String>> = match watch_namespaces {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        let concurrency = (CONCURRENCY / namespaces.len()).max(4);
        let scopes = namespaces.into_iter().map(|name| scope(name, own, concurrency));
        let (scopes, writers) = scopes.unzip();
        let (changed, _) = watch::channel(());
        (Self { scopes, began: Instant::now(), changed }, writers)
    }

    /// All of them.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Asks for a look at a channel; nothing happens for one that is not there.
    pub fn ask(&self, key: &ChannelKey) {
        let Some(scope) = self.scope(&key.namespace) else { return };
        if let Some(object) = scope.store.get(&reference(key)) {
            scope.queue.ask(key.clone(), urgency(&object));
        }
    }

    /// Asks for a look at a channel, within a minute if it is at rest: many of them hear the same at once.
    pub fn ask_by_and_by(&self, key: &ChannelKey) {
        let Some(scope) = self.scope(&key.namespace) else { return };
        let Some(object) = scope.store.get(&reference(key)) else { return };
        match urgency(&object) {
            Urgency::First => scope.queue.ask(key.clone(), Urgency::First),
            Urgency::InTurn => scope.queue.ask_within(key, share(SPREAD), Urgency::InTurn),
        }
    }

    /// A reconcile has ended; the next is due after `pause`, or when something is told.
    pub fn ended(&self, key: &ChannelKey, pause: Option<Duration>) {
        let Some(scope) = self.scope(&key.namespace) else { return };
        let there = scope.store.get(&reference(key));
        scope.queue.ended(key, pause.zip(there.map(|object| urgency(&object))));
    }

    /// Takes an event of the watch of a scope in, which its cache has taken.
    pub fn take(&self, scope: &Scope, listed: &mut Vec<ChannelKey>, event: &WatchResult) {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                if scope.is_news(object) {
                    listed.push(key(object));
                }
            }
            Ok(watcher::Event::InitDone) => {
                scope.lock_told().forget_all_but(|key| scope.store.get(&reference(key)).is_some());
                scope.complete.store(true, Ordering::Relaxed);
                scope.health.well();
                self.changed.send_replace(());
                listed.drain(..).for_each(|key| self.ask(&key));
            }
            Ok(watcher::Event::Apply(object)) => {
                scope.health.well();
                if scope.is_news(object) {
                    scope.queue.ask(key(object), urgency(object));
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                scope.health.well();
                scope.lock_told().forget(&key(object));
            }
            Err(error) => scope.health.broke(chain(error), Instant::now()),
        }
    }

    /// Waits until every namespace was listed, and no longer than some seconds after the start: to claim
    /// a sender unfairly is better than not to be served.
    pub async fn seen(&self) {
        let mut changed = self.changed.subscribe();
        while self.scopes.iter().any(|scope| !scope.is_complete()) {
            if timeout_at(self.began + GRACE, changed.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Says when one more namespace was listed.
    pub fn listed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What is not seen now and why, of each namespace that was never listed or whose watches tell nothing.
    pub fn unseen(&self, now: Instant) -> Vec<String> {
        self.scopes.iter().filter_map(|scope| scope.unseen(now)).collect()
    }

    /// Whether the channels of a namespace are known.
    pub fn knows(&self, namespace: &str) -> bool {
        self.scope(namespace).is_some_and(Scope::is_complete)
    }

    /// Whether this very channel is there, as far as the watches know.
    pub fn contains(&self, owner: &RouteOwner) -> bool {
        let RouteOwner { key, uid } = owner;
        let there = self.scope(&key.namespace).and_then(|scope| scope.store.get(&reference(key)));
        there.is_some_and(|found| found.meta().uid.as_ref() == Some(uid))
    }

    /// Whether a channel of this name is there.
    pub fn has(&self, key: &ChannelKey) -> bool {
        self.scope(&key.namespace).is_some_and(|scope| scope.store.get(&reference(key)).is_some())
    }

    /// The channels by the name that their route has or would have, as far as the watches know.
    pub fn claimants(&self) -> BTreeMap<String, Vec<ChannelKey>> {
        let objects = self.scopes.iter().flat_map(|scope| scope.store.state());
        let alive = objects.filter(|object| object.meta().deletion_timestamp.is_none());
        let mut claimants: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for object in alive {
            if let Some(route) = route_of(&object) {
                claimants.entry(route).or_default().push(key(&object));
            }
        }
        claimants
    }

    /// A channel that claims the same sender and goes first, of those that are known: one of the namespace whose
    /// channel had the sender until now, so that nobody else gets it at a change of the name; then the older
    /// one; of two of the same age the one whose uid comes first.
    pub async fn first_claimant(
        &self,
        channel: &Channel,
        spec: &ValidSpec,
        heir: Option<&str>,
    ) -> Option<ChannelKey> {
        self.seen().await;
        let is_stranger = |namespace: &str| heir.is_some_and(|heir| heir != namespace);
        let Identity { key: own, uid, .. } = &channel.identity;
        let rank = (is_stranger(&own.namespace), channel.created.clone(), uid.as_str());
        for (scope, key) in self.claiming(spec) {
            let Some(object) = scope.store.get(&reference(&key)) else { continue };
            let Ok(other) = &object.0 else { continue };
            let uid = other.metadata.uid.as_deref().unwrap_or_default();
            let created = other.metadata.creation_timestamp.clone();
            if same_sender(other, spec) && (is_stranger(&key.namespace), created, uid) < rank {
                return Some(key);
            }
        }
        None
    }

    /// The channels that seem to claim it, of ten thousand others.
    fn claiming(&self, spec: &ValidSpec) -> Vec<(&Scope, ChannelKey)> {
        let of = |scope: &Scope| scope.lock_told().claiming(&spec.spec);
        let scopes = self.scopes.iter();
        scopes.flat_map(|scope| of(scope).into_iter().map(move |key| (scope, key))).collect()
    }

    fn scope(&self, namespace: &str) -> Option<&Scope> {
        let is_its = |scope: &&Scope| match &scope.namespace {
            Some(name) => name == namespace,
            None => true,
        };
        self.scopes.iter().find(is_its)
    }
}

/// What a watch of channels tells.
pub type WatchResult = watcher::Result<watcher::Event<Guarded>>;

impl Scope {
    /// All that are there.
    pub fn owners(&self) -> Vec<RouteOwner> {
        self.store.state().iter().map(|object| owner_of(object)).collect()
    }

    /// Whether its channels were listed once.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    fn is_news(&self, object: &Guarded) -> bool {
        self.lock_told().is_news(key(object), object, &self.own)
    }

    fn lock_told(&self) -> MutexGuard<'_, ToldChannels> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What of it is not seen now, and why.
    fn unseen(&self, now: Instant) -> Option<String> {
        if !self.is_complete() {
            return Some(self.health.incomplete());
        }
        self.health.dark(now).or_else(|| self.secrets.dark(now))
    }
}

/// Whether a canary is out, or somebody has asked for something else than what status answers.
fn urgency(object: &Guarded) -> Urgency {
    let Ok(channel) = &object.0 else { return Urgency::First };
    let waits = channel.status.as_ref().is_some_and(|status| {
        let asked = channel.metadata.generation.unwrap_or_default();
        status.rollout.is_some() || status.observed_generation != asked
    });
    if waits { Urgency::First } else { Urgency::InTurn }
}

fn scope(namespace: Option<String>, own: &str, concurrency: usize) -> (Scope, Writer<Guarded>) {
    let (store, writer) = store();
    // A quarter is kept free for what is urgent.
    let queue = LookQueue::new(concurrency - concurrency / 4);
    let concurrency = u16::try_from(concurrency).unwrap_or(u16::MAX);
    queue.hold_back(true);
    let (complete, told, own) = (AtomicBool::new(false), Mutex::default(), own.to_owned());
    let watch_of = |what: &str| {
        let place = namespace.as_deref().unwrap_or("all namespaces");
        WatchHealth::of(format!("the {what} of {place}"))
    };
    let (health, secrets) = (watch_of("channels"), watch_of("Secrets"));
    let scope =
        Scope { namespace, own, store, queue, concurrency, complete, health, secrets, told };
    (scope, writer)
}

fn key(object: &Guarded) -> ChannelKey {
    let metadata = object.meta();
    ChannelKey {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// As a route names it.
pub fn owner_of(object: &Guarded) -> RouteOwner {
    RouteOwner { key: key(object), uid: object.meta().uid.clone().unwrap_or_default() }
}

fn reference(key: &ChannelKey) -> ObjectRef<Guarded> {
    ObjectRef::new(&key.name).within(&key.namespace)
}

fn same_sender(other: &WhatsAppChannel, own: &ValidSpec) -> bool {
    other.spec.sender.address == own.spec.sender.address
        && other.spec.twilio.account_sid == own.spec.twilio.account_sid
        && other.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::validate::validate;

    fn claimant(namespace: &str, year: u16) -> Guarded {
        let text = format!(
            r#"{{
                "apiVersion": "kanarie.dev/v1alpha1", "kind": "WhatsAppChannel",
                "metadata": {{
                    "name": "care", "namespace": "{namespace}", "uid": "{namespace}",
                    "creationTimestamp": "{year}-01-01T00:00:00Z"
                }},
                "spec": {{
                    "twilio": {{
                        "accountSid": "AC0123456789abcdef0123456789abcdef",
                        "authTokenSecretRef": {{"name": "twilio"}}
                    }},
                    "sender": {{"address": "whatsapp:+31201234567"}},
                    "webhook": {{"url": "https://hooks.example.com/"}},
                    "agent": {{"http": {{"url": "https://agent.example.com/"}}}}
                }}
            }}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// Who goes before the channel of `own`, with the channels of two namespaces there.
    async fn first(own: &str, heir: Option<&str>) -> Option<String> {
        let (channels, mut writers) = Channels::new(&[], "ours");
        for one in [claimant("shop", 2026), claimant("stranger", 2020)] {
            let event = watcher::Event::Apply(one);
            writers[0].apply_watcher_event(&event);
            channels.take(&channels.scopes[0], &mut Vec::new(), &Ok(event));
        }
        channels.take(&channels.scopes[0], &mut Vec::new(), &Ok(watcher::Event::InitDone));
        let own = validate(&claimant(own, if own == "shop" { 2026 } else { 2020 })).unwrap();
        let spec = own.spec.as_ref().unwrap();
        channels.first_claimant(&own, spec, heir).await.map(|key| key.namespace)
    }

    #[tokio::test]
    async fn a_sender_goes_to_the_namespace_that_had_it_and_else_to_the_older_channel() {
        assert_eq!(first("shop", None).await.as_deref(), Some("stranger"));
        assert_eq!(first("stranger", None).await, None);
        assert_eq!(first("shop", Some("shop")).await, None);
        assert_eq!(first("stranger", Some("shop")).await.as_deref(), Some("shop"));
        assert_eq!(first("shop", Some("elsewhere")).await.as_deref(), Some("stranger"));
    }

    #[test]
    fn a_namespace_whose_watch_breaks_after_its_first_list_is_named_and_so_is_one_of_its_secrets() {
        let (channels, _writers) = Channels::new(&["shop".into(), "web".into()], "ours");
        let (shop, web) = (&channels.scopes[0], &channels.scopes[1]);
        for scope in [shop, web] {
            channels.take(scope, &mut Vec::new(), &Ok(watcher::Event::InitDone));
        }
        let later = Instant::now() + Duration::from_secs(61);
        assert_eq!(channels.unseen(later), Vec::<String>::new());
        channels.take(shop, &mut Vec::new(), &Err(watcher::Error::NoResourceVersion));
        web.secrets.broke("forbidden".to_owned(), Instant::now());
        let unseen = channels.unseen(later);
        assert!(unseen[0].starts_with("the channels of shop: "), "{unseen:?}");
        assert_eq!(unseen[1..], ["the Secrets of web: forbidden"]);
    }
}

//! The watched channels, namespace by namespace: who is there, who claimed a sender first, and who is
//! looked at next.
//!
//! Takes what the watches tell; answers from their caches. A namespace that cannot be listed is told
//! and blocks no other. Never asks the API server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
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
use crate::reconcile::validate::{Channel, Identity, ValidSpec, route_of};
use crate::watch::guarded::Guarded;
use crate::watch::queue::{LookQueue, Urgency};

/// How long a namespace that was never listed is waited for.
const GRACE: Duration = Duration::from_secs(5);
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
    /// Its channels.
    pub store: Store<Guarded>,
    /// Who of them is looked at next.
    pub queue: LookQueue,
    /// Most reconciles at once.
    pub concurrency: u16,
    complete: AtomicBool,
    trouble: Mutex<Option<String>>,
}

impl Channels {
    /// One cache for each watched namespace or one for all of them, and who fills it.
    pub fn new(watch_namespaces: &[String]) -> (Self, Vec<Writer<Guarded>>) {
        let namespaces: Vec<Option<String>> = match watch_namespaces {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        let concurrency = (CONCURRENCY / namespaces.len()).max(4);
        let (scopes, writers) = namespaces.into_iter().map(|name| scope(name, concurrency)).unzip();
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
                let there = scope.store.get(&ObjectRef::from_obj(object));
                let version = |object: &Guarded| object.meta().resource_version.clone();
                if there.is_none_or(|there| version(&there) != version(object)) {
                    listed.push(key(object));
                }
            }
            Ok(watcher::Event::InitDone) => {
                scope.complete.store(true, Ordering::Relaxed);
                scope.tell(None);
                self.changed.send_replace(());
                listed.drain(..).for_each(|key| self.ask(&key));
            }
            Ok(watcher::Event::Apply(object)) => {
                scope.tell(None);
                scope.queue.ask(key(object), urgency(object));
            }
            Ok(watcher::Event::Delete(_)) => scope.tell(None),
            Err(error) => scope.tell(Some(error.to_string())),
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

    /// The namespaces that were never listed, and why.
    pub fn unseen(&self) -> Vec<String> {
        let unseen = self.scopes.iter().filter(|scope| !scope.is_complete());
        unseen.map(Scope::words).collect()
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
        for object in self.scopes.iter().flat_map(|scope| scope.store.state()) {
            let Ok(other) = &object.0 else { continue };
            let key = key(&object);
            let uid = other.metadata.uid.as_deref().unwrap_or_default();
            let created = other.metadata.creation_timestamp.clone();
            if same_sender(other, spec) && (is_stranger(&key.namespace), created, uid) < rank {
                return Some(key);
            }
        }
        None
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

    /// What is wrong with its watch; said once in the log.
    fn tell(&self, trouble: Option<String>) {
        let mut told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = trouble.as_ref().filter(|error| told.as_ref() != Some(*error)) {
            tracing::warn!(namespace = self.name(), error, "the channels cannot be watched");
        }
        *told = trouble;
    }

    fn words(&self) -> String {
        let told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let why = told.as_deref().unwrap_or("the first list is not complete");
        format!("{}: {why}", self.name())
    }

    fn name(&self) -> &str {
        self.namespace.as_deref().unwrap_or("all namespaces")
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

fn scope(namespace: Option<String>, concurrency: usize) -> (Scope, Writer<Guarded>) {
    let (store, writer) = store();
    // A quarter is kept free for what is urgent.
    let queue = LookQueue::new(concurrency - concurrency / 4);
    let concurrency = u16::try_from(concurrency).unwrap_or(u16::MAX);
    let (complete, trouble) = (AtomicBool::new(false), Mutex::new(None));
    (Scope { namespace, store, queue, concurrency, complete, trouble }, writer)
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

    fn channel(namespace: &str, year: u16) -> Guarded {
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
        let (channels, mut writers) = Channels::new(&[]);
        for one in [channel("shop", 2026), channel("stranger", 2020)] {
            writers[0].apply_watcher_event(&watcher::Event::Apply(one));
        }
        channels.take(&channels.scopes[0], &mut Vec::new(), &Ok(watcher::Event::InitDone));
        let own = validate(&channel(own, if own == "shop" { 2026 } else { 2020 })).unwrap();
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
}

//! The table of the routes that this replica obeys: read without a lock, written by one source.
//!
//! Takes what the source saw, gives the route of an account's sender or of a channel. A route that
//! vanishes stays known for a minute, so that its messages are verified and answered 503 while the
//! other replicas catch up. Never reads a clock, a file or the network; never judges a request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use kanarie_crds::route::{Route, SecretText, route_name};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a vanished route stays known.
pub const GONE_FOR: Duration = Duration::from_secs(60);

/// Every route that this replica obeys.
pub struct RouteTable {
    routes: ArcSwap<Routes>,
    loaded: AtomicBool,
    token: ArcSwapOption<SecretText>,
    version: watch::Sender<u64>,
}

/// One route and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the operator, a file or the environment says.
    pub route: Route,
    /// Hash of its bytes, as the operator computes it.
    pub hash: String,
    /// Since when the route is gone: requests are verified and answered 503, nothing is admitted,
    /// asked or sent.
    pub gone_since: Option<Instant>,
}

/// What a source saw under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A route and the hash of its bytes.
    Route(Box<Route>, String),
    /// Something that cannot be read: the last good route of that name stays in force.
    Unreadable,
    /// Nothing any more.
    Gone,
}

/// One consistent view of the table.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    by_name: HashMap<String, Arc<Entry>>,
    by_uid: HashMap<String, Arc<Entry>>,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self {
            routes: ArcSwap::default(),
            loaded: AtomicBool::new(false),
            token: ArcSwapOption::empty(),
            version: watch::Sender::new(0),
        }
    }
}

impl RouteTable {
    /// The route of an account's sender, vanished ones of the last minute included.
    pub fn find(&self, account: &str, sender: &str) -> Option<Arc<Entry>> {
        self.routes.load().by_name.get(&route_name(account, sender)).cloned()
    }

    /// The route of a channel by its UID, vanished ones of the last minute included.
    pub fn find_channel(&self, uid: &str) -> Option<Arc<Entry>> {
        self.routes.load().by_uid.get(uid).cloned()
    }

    /// Every route in force, vanished ones of the last minute included.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.routes.load().by_name.values().cloned().collect()
    }

    /// Whether the first complete list was read: before that an unknown channel may be a known one.
    pub fn ready(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// The bearer token of the control endpoint, if there is one.
    pub fn control_token(&self) -> Option<Arc<SecretText>> {
        self.token.load_full()
    }

    /// Wakes whenever the table changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Takes a complete list: names that are not in it are gone.
    pub fn replace(&self, all: Vec<(String, Seen)>, now: Instant) {
        self.routes.rcu(|old| old.replaced(&all, now));
        self.loaded.store(true, Ordering::Release);
        self.version.send_modify(|version| *version += 1);
    }

    /// Takes changes to the list.
    pub fn update(&self, changes: Vec<(String, Seen)>, now: Instant) {
        if changes.is_empty() {
            return;
        }
        self.routes.rcu(|old| old.updated(&changes, now));
        self.version.send_modify(|version| *version += 1);
    }

    /// Forgets the routes that are gone for a minute.
    pub fn forget_gone(&self, now: Instant) {
        let over = |entry: &Entry| {
            entry.gone_since.is_some_and(|since| now.duration_since(since) >= GONE_FOR)
        };
        if self.routes.load().by_name.values().any(|entry| over(entry)) {
            self.routes.rcu(|old| {
                Routes::indexed(
                    old.by_name
                        .iter()
                        .filter(|(_, entry)| !over(entry))
                        .map(|(name, entry)| (name.clone(), Arc::clone(entry)))
                        .collect(),
                )
            });
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// Takes the control token, or that there is none.
    pub fn set_control_token(&self, token: Option<SecretText>) {
        self.token.store(token.map(Arc::new));
    }
}

impl Routes {
    fn replaced(&self, all: &[(String, Seen)], now: Instant) -> Self {
        let seen: HashSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let vanished = self
            .by_name
            .keys()
            .filter(|name| !seen.contains(name.as_str()))
            .map(|name| (name.clone(), Seen::Gone));
        self.updated(&vanished.chain(all.iter().cloned()).collect::<Vec<_>>(), now)
    }

    fn updated(&self, changes: &[(String, Seen)], now: Instant) -> Self {
        let mut by_name = self.by_name.clone();
        for (name, seen) in changes {
            match seen {
                Seen::Route(route, hash) => {
                    let entry =
                        Entry { route: (**route).clone(), hash: hash.clone(), gone_since: None };
                    by_name.insert(name.clone(), Arc::new(entry));
                }
                Seen::Unreadable => {}
                Seen::Gone => {
                    if let Some(entry) = by_name.get_mut(name) {
                        let gone_since = entry.gone_since.or(Some(now));
                        *entry = Arc::new(Entry { gone_since, ..(**entry).clone() });
                    }
                }
            }
        }
        Self::indexed(by_name)
    }

    /// Live routes win over vanished ones of the same channel.
    fn indexed(by_name: HashMap<String, Arc<Entry>>) -> Self {
        let mut by_uid = HashMap::with_capacity(by_name.len());
        for entry in by_name.values() {
            let uid = &entry.route.channel.uid;
            if entry.gone_since.is_none() || !by_uid.contains_key(uid) {
                by_uid.insert(uid.clone(), Arc::clone(entry));
            }
        }
        Self { by_name, by_uid }
    }
}

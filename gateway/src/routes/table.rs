//! The table of the routes that this replica obeys: read without a lock, written by one source.
//!
//! Takes what the source saw, gives the route of an account's sender or of a channel. A route that
//! vanishes stays known for a minute, so that its messages are verified and answered 503 while the
//! other replicas catch up. A route that cannot be read is known by its name, and while the source
//! itself cannot be read every stranger may be one of ours: neither is a reason for a 403. Never
//! reads a clock, a file or the network; never judges a request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use kanarie_crds::route::{Route, SecretText, route_name};
use kanarie_words::ids::{AccountSid, ChannelUid, RouteHash, SenderAddress};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a vanished route stays known.
pub const GONE_FOR: Duration = Duration::from_secs(60);
/// How long after it last failed a source may still hold a route that is not here.
pub const DOUBT_FOR: Duration = Duration::from_secs(60);

/// Every route that this replica obeys.
pub struct RouteTable {
    routes: ArcSwap<Routes>,
    loaded: AtomicBool,
    token: ArcSwapOption<SecretText>,
    version: watch::Sender<u64>,
    /// Until when the source is in doubt.
    doubt: ArcSwapOption<Instant>,
}

/// One route and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the operator, a file or the environment says.
    pub route: Route,
    /// Hash of its bytes, as the operator computes it.
    pub hash: RouteHash,
    /// Since when the route is gone: requests are verified and answered 503, nothing is admitted,
    /// asked or sent.
    pub gone_since: Option<Instant>,
}

/// What a source saw under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A route and the hash of its bytes.
    Route(Box<Route>, RouteHash),
    /// Something that cannot be read: the last good route of that name stays in force, and without
    /// one the name alone is known.
    Unreadable,
    /// Nothing any more.
    Gone,
}

/// One consistent view of the table.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    by_name: HashMap<String, Arc<Entry>>,
    by_uid: HashMap<ChannelUid, Arc<Entry>>,
    /// Names whose route cannot be read, and since when they are gone.
    unreadable: HashMap<String, Option<Instant>>,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self {
            routes: ArcSwap::default(),
            loaded: AtomicBool::new(false),
            token: ArcSwapOption::empty(),
            version: watch::Sender::new(0),
            doubt: ArcSwapOption::empty(),
        }
    }
}

impl RouteTable {
    /// The route of an account's sender, vanished ones of the last minute included.
    pub fn find(&self, account: &str, sender: &str) -> Option<Arc<Entry>> {
        self.routes.load().by_name.get(&name(account, sender)?).cloned()
    }

    /// Whether an account's sender without a route here may have one all the same: one that cannot
    /// be read, or one that the source could not tell of.
    pub fn may_have(&self, account: &str, sender: &str, now: Instant) -> bool {
        self.doubt.load().as_ref().is_some_and(|until| now < **until)
            || name(account, sender)
                .is_some_and(|name| self.routes.load().unreadable.contains_key(&name))
    }

    /// The route of a channel by its UID, vanished ones of the last minute included.
    pub fn find_channel(&self, uid: &str) -> Option<Arc<Entry>> {
        self.routes.load().by_uid.get(uid).cloned()
    }

    /// A channel's name, `namespace/name`, as its route says it.
    pub fn name_of(&self, channel: &ChannelUid) -> Option<String> {
        let routes = self.routes.load();
        routes.by_uid.get(channel).map(|entry| entry.route.channel.to_string())
    }

    /// The names of all channels, `namespace/name`.
    pub fn names(&self) -> HashSet<String> {
        let routes = self.routes.load();
        routes.by_uid.values().map(|entry| entry.route.channel.to_string()).collect()
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
    pub fn replace(&self, all: Vec<(String, Sighting)>, now: Instant) {
        self.write(|old| old.replaced(all, now));
        self.loaded.store(true, Ordering::Release);
        self.tell();
    }

    /// Takes changes to the list.
    pub fn update(&self, changes: Vec<(String, Sighting)>, now: Instant) {
        if changes.is_empty() {
            return;
        }
        self.write(|old| old.updated(changes, now));
        self.tell();
    }

    /// Forgets the routes that are gone for a minute.
    pub fn forget_gone(&self, now: Instant) {
        let is_over =
            |gone: Option<Instant>| gone.is_some_and(|since| now.duration_since(since) >= GONE_FOR);
        let routes = self.routes.load();
        let mut gone = routes.by_name.values().map(|entry| entry.gone_since);
        if gone.any(is_over) || routes.unreadable.values().copied().any(is_over) {
            self.write(|old| {
                let mut kept = old.clone();
                kept.by_name.retain(|_, entry| !is_over(entry.gone_since));
                kept.unreadable.retain(|_, gone_since| !is_over(*gone_since));
                kept.indexed()
            });
            self.tell();
        }
    }

    /// The source cannot be read at present: for a while nobody is surely a stranger.
    pub fn doubt(&self, now: Instant) {
        self.doubt.store(Some(Arc::new(now + DOUBT_FOR)));
    }

    /// The source was read as a whole.
    pub fn trust(&self) {
        self.doubt.store(None);
    }

    /// Takes the control token, or that there is none.
    pub fn set_control_token(&self, token: Option<SecretText>) {
        self.token.store(token.map(Arc::new));
    }

    /// Only the one source writes, so nothing is written between the two.
    fn write(&self, new: impl FnOnce(&Routes) -> Routes) {
        let new = new(&self.routes.load());
        self.routes.store(Arc::new(new));
    }

    /// Wakes who waits for a change.
    fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

impl Routes {
    fn replaced(&self, mut all: Vec<(String, Sighting)>, now: Instant) -> Self {
        let seen: HashSet<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let vanished: Vec<(String, Sighting)> = self
            .by_name
            .keys()
            .chain(self.unreadable.keys())
            .filter(|name| !seen.contains(name.as_str()))
            .map(|name| (name.clone(), Sighting::Gone))
            .collect();
        all.extend(vanished);
        self.updated(all, now)
    }

    fn updated(&self, changes: Vec<(String, Sighting)>, now: Instant) -> Self {
        let mut routes = self.clone();
        for (name, seen) in changes {
            match seen {
                Sighting::Route(route, hash) => {
                    routes.unreadable.remove(&name);
                    let entry = Entry { route: *route, hash, gone_since: None };
                    routes.by_name.insert(name, Arc::new(entry));
                }
                Sighting::Unreadable => {
                    let good = routes.by_name.get(&name).filter(|entry| entry.gone_since.is_none());
                    if good.is_none() {
                        routes.unreadable.insert(name, None);
                    }
                }
                Sighting::Gone => {
                    if let Some(entry) = routes.by_name.get_mut(&name) {
                        let gone_since = entry.gone_since.or(Some(now));
                        *entry = Arc::new(Entry { gone_since, ..(**entry).clone() });
                    }
                    if let Some(gone_since) = routes.unreadable.get_mut(&name) {
                        gone_since.get_or_insert(now);
                    }
                }
            }
        }
        routes.indexed()
    }

    /// Live routes win over vanished ones of the same channel.
    fn indexed(mut self) -> Self {
        self.by_uid.clear();
        for entry in self.by_name.values() {
            let uid = &entry.route.channel.uid;
            if entry.gone_since.is_none() || !self.by_uid.contains_key(uid) {
                self.by_uid.insert(uid.clone(), Arc::clone(entry));
            }
        }
        self
    }
}

/// The name of the route of an account's sender; none for what cannot be either.
fn name(account: &str, sender: &str) -> Option<String> {
    Some(route_name(&AccountSid::parse(account).ok()?, &SenderAddress::parse(sender).ok()?))
}

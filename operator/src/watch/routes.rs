//! The routes as their watch knows them: whose each is, in which version, and what stands in its note.
//!
//! Takes what the watch of their metadata tells; answers from memory. What it does not know it does not
//! know yet: whoever needs it asks the API server. Never holds a route's content.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::api::ObjectMeta;

use crate::cluster::route_note::RouteNote;
use crate::cluster::route_object::{RouteOwner, owner};
use crate::watch::health::WatchHealth;

/// The routes of an installation, by name.
pub struct SeenRoutes {
    state: Mutex<State>,
    /// How their watch is.
    pub health: WatchHealth,
}

impl Default for SeenRoutes {
    fn default() -> Self {
        Self { state: Mutex::default(), health: WatchHealth::of("the routes".to_owned()) }
    }
}

#[derive(Default)]
struct State {
    known: BTreeMap<String, SeenRoute>,
    complete: bool,
}

/// One route.
#[derive(Clone, Debug)]
pub struct SeenRoute {
    /// UID of its Secret.
    pub uid: Option<String>,
    /// Version of its Secret.
    pub resource_version: Option<String>,
    /// The channel that it names.
    pub owner: Option<RouteOwner>,
    /// What the operator noted on it when it wrote it.
    pub note: Option<RouteNote>,
}

impl SeenRoute {
    /// As much of a Secret's metadata as is needed.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            owner: owner(metadata),
            note: RouteNote::read(metadata),
        }
    }
}

impl SeenRoutes {
    /// The watch begins anew.
    pub fn clear(&self) {
        *self.lock() = State::default();
    }

    /// All of them were told.
    pub fn complete(&self) {
        self.lock().complete = true;
    }

    /// Whether all of them are known.
    pub fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// One was made or changed.
    pub fn saw(&self, name: String, route: SeenRoute) {
        self.lock().known.insert(name, route);
    }

    /// One is gone.
    pub fn gone(&self, name: &str) {
        self.lock().known.remove(name);
    }

    /// One, if it is known.
    pub fn get(&self, name: &str) -> Option<SeenRoute> {
        self.lock().known.get(name).cloned()
    }

    /// Whether this is the version that is known.
    pub fn is_at(&self, name: &str, version: Option<&String>) -> bool {
        let state = self.lock();
        let known = state.known.get(name).and_then(|route| route.resource_version.as_ref());
        known.is_some() && known == version
    }

    /// Those whose channel is not among these, once all are known.
    pub fn without(&self, is_there: impl Fn(&RouteOwner) -> bool) -> Vec<(String, SeenRoute)> {
        let state = self.lock();
        let known = state.known.iter().filter(|_| state.complete);
        let lost = known.filter(|(_, route)| route.owner.as_ref().is_some_and(|of| !is_there(of)));
        lost.map(|(name, route)| (name.clone(), route.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

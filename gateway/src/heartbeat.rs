//! The heartbeat of this replica: which routes it obeys, told to the store.
//!
//! Takes the route table and the store, gives the store one heartbeat every two seconds and one at
//! once after a change. Knows when the last one succeeded: a worker without one for five seconds
//! stops claiming, so the replicas that the operator sees are exactly those that work.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::route::route_hash;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::routes::RouteTable;
use crate::store::{Heartbeat, SharedStore, StoreError};

/// Time between two heartbeats.
pub const EVERY: Duration = Duration::from_secs(2);
/// After so long without a successful heartbeat nothing more is claimed.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// Shortest time between two heartbeats, so that a burst of changes is one of them.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// Every so many heartbeats the whole table is told again, so that a store that lost its memory
/// without losing the connection is right again after half a minute.
const WHOLE_EVERY: u32 = 15;

/// When this replica was last heard by the store. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    heard_at: Arc<Mutex<Option<Instant>>>,
}

impl Pulse {
    /// Whether the last successful heartbeat is young enough to claim.
    pub fn is_fresh(&self) -> bool {
        self.heard_at().is_some_and(|at| at.elapsed() < STALE_AFTER)
    }

    /// When the last heartbeat that succeeded was begun.
    pub fn heard_at(&self) -> Option<Instant> {
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, at: Instant) {
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

/// Beats until `shutdown` says true, first as soon as the table is loaded.
pub async fn beat(
    replica: String,
    table: Arc<RouteTable>,
    store: SharedStore,
    pulse: Pulse,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut changes = table.changes();
    let mut told = Told::default();
    while !*shutdown.borrow() {
        changes.mark_unchanged();
        if table.ready() {
            let began = Instant::now();
            match told.tell(&replica, &table, &store).await {
                Ok(()) => pulse.hear(began),
                Err(error) => tracing::warn!(%error, "the store did not take the heartbeat"),
            }
        }
        let changed = async {
            tokio::time::sleep(AT_MOST_EVERY).await;
            // The table outlives this loop, so its sender does too.
            let _ = changes.changed().await;
        };
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = changed => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// What the store may know of this replica.
#[derive(Debug, Default)]
struct Told {
    /// UID → serving and hash, as told.
    routes: BTreeMap<String, (u64, String)>,
    /// Heartbeats answered in a row; after a failure nothing is sure and everything is told.
    answered: u32,
}

impl Told {
    async fn tell(
        &mut self,
        replica: &str,
        table: &RouteTable,
        store: &SharedStore,
    ) -> Result<(), StoreError> {
        let now = obeyed(table);
        let whole = self.answered.is_multiple_of(WHOLE_EVERY);
        let heartbeat = Heartbeat {
            replica: replica.to_owned(),
            digest: digest(&now),
            acknowledged: now
                .iter()
                .filter(|(uid, value)| whole || self.routes.get(*uid) != Some(value))
                .map(|(uid, (serving, hash))| (uid.clone(), *serving, hash.clone()))
                .collect(),
            forgotten: self.routes.keys().filter(|uid| !now.contains_key(*uid)).cloned().collect(),
        };
        match store.heartbeat(heartbeat).await {
            Ok(()) => {
                self.routes = now;
                self.answered = self.answered.wrapping_add(1);
                Ok(())
            }
            Err(error) => {
                // It may have taken effect: what was told before and now is forgotten later.
                self.routes.extend(now);
                self.answered = 0;
                Err(error)
            }
        }
    }
}

/// The routes in force, vanished ones excluded: UID → serving and hash.
fn obeyed(table: &RouteTable) -> BTreeMap<String, (u64, String)> {
    table
        .all()
        .into_iter()
        .filter(|entry| entry.gone_since.is_none())
        .map(|entry| (entry.route.channel.uid.clone(), (entry.route.serving, entry.hash.clone())))
        .collect()
}

fn digest(routes: &BTreeMap<String, (u64, String)>) -> String {
    let lines: Vec<String> =
        routes.iter().map(|(uid, (serving, hash))| format!("{uid} {serving} {hash}")).collect();
    route_hash(lines.join("\n").as_bytes())
}

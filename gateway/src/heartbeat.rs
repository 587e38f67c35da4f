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

use crate::events::emit;
use crate::events::routes::RoutesEvent;
use crate::routes::table::RouteTable;
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
                Err(error) => emit(RoutesEvent::heartbeat(error.to_string())),
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

/// UID → serving and hash.
type Obeyed = BTreeMap<String, (u64, String)>;

/// What the store may know of this replica.
#[derive(Debug, Default)]
struct Told {
    /// As told.
    routes: Obeyed,
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
        let answer = store.heartbeat(self.heartbeat(replica, &now)).await;
        self.learn(now, answer.is_ok());
        answer
    }

    /// What the store has to hear now.
    fn heartbeat(&self, replica: &str, now: &Obeyed) -> Heartbeat {
        let whole = self.answered.is_multiple_of(WHOLE_EVERY);
        Heartbeat {
            replica: replica.to_owned(),
            digest: digest(now),
            acknowledged: now
                .iter()
                .filter(|(uid, value)| whole || self.routes.get(*uid) != Some(value))
                .map(|(uid, (serving, hash))| (uid.clone(), *serving, hash.clone()))
                .collect(),
            forgotten: self.routes.keys().filter(|uid| !now.contains_key(*uid)).cloned().collect(),
        }
    }

    fn learn(&mut self, now: Obeyed, heard: bool) {
        if heard {
            self.routes = now;
            self.answered = self.answered.wrapping_add(1);
        } else {
            // It may have taken effect: what was told before and now is forgotten later.
            self.routes.extend(now);
            self.answered = 0;
        }
    }
}

/// The routes in force, vanished ones excluded.
fn obeyed(table: &RouteTable) -> Obeyed {
    table
        .all()
        .into_iter()
        .filter(|entry| entry.gone_since.is_none())
        .map(|entry| {
            (entry.route.channel.uid.to_string(), (entry.route.serving, entry.hash.to_string()))
        })
        .collect()
}

fn digest(routes: &Obeyed) -> String {
    let lines: Vec<String> =
        routes.iter().map(|(uid, (serving, hash))| format!("{uid} {serving} {hash}")).collect();
    route_hash(lines.join("\n").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obeyed(routes: &[(&str, u64)]) -> Obeyed {
        let entry = |(uid, serving): &(&str, u64)| {
            ((*uid).to_owned(), (*serving, format!("hash-{serving}")))
        };
        routes.iter().map(entry).collect()
    }

    fn uids(heartbeat: &Heartbeat) -> Vec<&str> {
        heartbeat.acknowledged.iter().map(|(uid, _, _)| uid.as_str()).collect()
    }

    #[test]
    fn only_what_changed_since_the_last_answer_is_told() {
        let mut told = Told::default();
        told.learn(obeyed(&[("a", 1), ("b", 1), ("c", 1)]), true);
        let heartbeat = told.heartbeat("r", &obeyed(&[("a", 1), ("b", 2), ("d", 1)]));
        assert_eq!(uids(&heartbeat), ["b", "d"]);
        assert_eq!(heartbeat.forgotten, ["c"]);
    }

    #[test]
    fn after_a_failure_everything_is_told_again() {
        let mut told = Told::default();
        told.learn(obeyed(&[("a", 1), ("b", 1)]), true);
        told.learn(obeyed(&[("a", 1), ("c", 1)]), false);
        let heartbeat = told.heartbeat("r", &obeyed(&[("a", 1)]));
        assert_eq!(uids(&heartbeat), ["a"]);
        assert_eq!(heartbeat.forgotten, ["b", "c"]);
    }

    #[test]
    fn everything_is_told_every_half_minute_in_case_the_store_forgot() {
        let mut told = Told::default();
        let now = obeyed(&[("a", 1)]);
        let whole = (0..31)
            .filter(|_| {
                let heartbeat = told.heartbeat("r", &now);
                told.learn(now.clone(), true);
                !heartbeat.acknowledged.is_empty()
            })
            .collect::<Vec<_>>();
        assert_eq!(whole, [0, 15, 30]);
    }

    #[test]
    fn digests_are_equal_exactly_when_the_routes_are() {
        let one = digest(&obeyed(&[("a", 1), ("b", 2)]));
        assert_eq!(one, digest(&obeyed(&[("b", 2), ("a", 1)])));
        assert_ne!(one, digest(&obeyed(&[("a", 2), ("b", 2)])));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pulse_is_fresh_for_five_seconds_and_not_before_the_first_heartbeat() {
        let pulse = Pulse::default();
        assert!(!pulse.is_fresh());
        pulse.hear(Instant::now());
        tokio::time::advance(STALE_AFTER - Duration::from_millis(1)).await;
        assert!(pulse.is_fresh());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!pulse.is_fresh());
    }
}

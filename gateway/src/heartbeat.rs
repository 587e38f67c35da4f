//! The heartbeat of this replica: which routes it obeys, told to the store.
//!
//! Takes the route table, the store and its key as this process knows it; gives the store one
//! heartbeat every two seconds and one at once after a change. Knows when the last one succeeded: a
//! worker without one for five seconds stops claiming, so the replicas that the operator sees are
//! exactly those that work. A store that was emptied takes its key from a heartbeat; one that has
//! another key by then is not worked with.
//!
//! A heartbeat carries a digest of all routes and only those that changed since the last one that
//! was answered; after a failure, and every fifteenth time, all of them. With 10,000 channels all
//! of them are a megabyte, and every two seconds that would be most of the store's work. One
//! without an answer may have taken effect or not, so nothing is sure after it; a store that
//! restarts empty between two loses what it was told without any failing, knows again half a minute
//! later, and until then a rollout waits. A changed table beats at once, at most every 100 ms.
//! Freshness counts from the moment a heartbeat was begun, not from its answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::route::route_hash;
use kanarie_words::ids::{ReplicaName, RouteHash};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cut::Cuts;
use crate::events::emit;
use crate::events::routes::RoutesEvent;
use crate::key::LearnedKey;
use crate::routes::table::RouteTable;
use crate::store::SharedStore;
use crate::store::fleet::{Heard, Heartbeat, Obeyed};

/// Time between two heartbeats.
pub const EVERY: Duration = Duration::from_secs(2);
/// After so long without a successful heartbeat nothing more is claimed.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// Longest time between two heartbeats that follow each other without a gap.
const WITHOUT_GAP: Duration = Duration::from_millis(3_500);
/// Time until the next one after the store gave no answer: nobody is to seem dead because of it.
const AGAIN: Duration = Duration::from_millis(500);
/// Shortest time between two heartbeats, so that a burst of changes is one of them.
const AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// Longest time to say goodbye: who is not heard is forgotten by itself after ten seconds.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the store last said to this replica. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Mutex<Beat>>);

#[derive(Clone, Copy, Debug, Default)]
enum Beat {
    /// Nothing yet.
    #[default]
    Never,
    /// It heard the heartbeat that was begun then, and that many replicas live.
    Heard {
        at: Instant,
        live: u64,
        /// The first of those that came without a gap.
        since: Instant,
    },
    /// It has another key.
    OtherKey,
}

impl Pulse {
    /// Whether the last successful heartbeat is young enough to claim.
    pub fn is_fresh(&self) -> bool {
        match self.beat() {
            Beat::Heard { at, .. } => at.elapsed() < STALE_AFTER,
            Beat::Never | Beat::OtherKey => false,
        }
    }

    /// Whether the store has another key than this process. Whoever goes on then takes one customer
    /// for two: nothing may be admitted or claimed.
    pub fn has_other_key(&self) -> bool {
        matches!(self.beat(), Beat::OtherKey)
    }

    /// Whether no other replica lived when the store last heard this one, which was not long ago.
    pub fn is_alone(&self) -> bool {
        self.live() == Some(1)
    }

    /// How many replicas lived then, this one included.
    pub fn live(&self) -> Option<u64> {
        match self.beat() {
            Beat::Heard { live, .. } if self.is_fresh() => Some(live),
            Beat::Heard { .. } | Beat::Never | Beat::OtherKey => None,
        }
    }

    /// Whether the store has heard every heartbeat of the last five seconds: then one that it did not
    /// hear for so long is not silent because of the store.
    pub fn is_steady(&self) -> bool {
        match self.beat() {
            Beat::Heard { at, since, .. } => {
                at.elapsed() < WITHOUT_GAP && since.elapsed() >= STALE_AFTER
            }
            Beat::Never | Beat::OtherKey => false,
        }
    }

    fn beat(&self) -> Beat {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store heard a heartbeat that was begun `at` this time.
    fn hear(&self, at: Instant, live: u64) {
        let since = match self.beat() {
            Beat::Heard { at: last, since, .. } if at < last + WITHOUT_GAP => since,
            _ => at,
        };
        self.learn(Beat::Heard { at, live, since });
    }

    /// The store did not answer a heartbeat.
    fn miss(&self) {
        let mut beat = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Beat::Heard { since, .. } = &mut *beat {
            *since = Instant::now();
        }
    }

    /// Takes what became of a heartbeat; gives what was known before.
    fn learn(&self, beat: Beat) -> Beat {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), beat)
    }
}

/// Beats until `shutdown` says true, first as soon as the table is loaded and the key is known; then
/// says goodbye, so that nobody waits for this replica.
pub async fn beat(
    replica: ReplicaName,
    key: LearnedKey,
    table: Arc<RouteTable>,
    store: SharedStore,
    pulse: Pulse,
    cuts: Arc<Cuts>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut changes = table.changes();
    let mut account: Option<Account> = None;
    while !*shutdown.borrow() {
        // Read before the table: what comes between the two is told once more.
        let version = *changes.borrow_and_update();
        let mut pause = EVERY;
        if let Some(key) = key.get().filter(|_| table.ready()) {
            let began = Instant::now();
            let Account { digest, obeyed, .. } = Account::at(version, &table, &mut account);
            let cut = cuts.all(began).into_iter().collect();
            let heartbeat = Heartbeat { replica: replica.clone(), key, digest, obeyed, cut };
            match store.heartbeat(heartbeat).await {
                Ok(Heard::Done { asked, live }) => {
                    pulse.hear(began, live);
                    cuts.silence().learn(asked, Instant::now());
                }
                Ok(Heard::OtherKey) => {
                    // Said once: /readyz goes on saying it.
                    if !matches!(pulse.learn(Beat::OtherKey), Beat::OtherKey) {
                        emit(RoutesEvent::OtherKey);
                    }
                }
                Err(error) => {
                    emit(RoutesEvent::heartbeat(error.to_string()));
                    pulse.miss();
                    pause = AGAIN;
                }
            }
        }
        let changed = async {
            tokio::time::sleep(AT_MOST_EVERY).await;
            // The table outlives this loop, so its sender does too.
            let _ = changes.changed().await;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = changed => {}
            _ = shutdown.changed() => {}
        }
    }
    let _ = tokio::time::timeout(GOODBYE, store.goodbye(replica)).await;
}

/// What is said of the routes, made once for every change of the table.
#[derive(Clone)]
struct Account {
    version: u64,
    digest: RouteHash,
    obeyed: Obeyed,
}

impl Account {
    /// The last one, unless the table has changed since.
    fn at(version: u64, table: &RouteTable, last: &mut Option<Self>) -> Self {
        if let Some(last) = last.as_ref().filter(|last| last.version == version) {
            return last.clone();
        }
        let obeyed = obeyed(table);
        let account = Self { version, digest: digest(&obeyed), obeyed };
        last.insert(account).clone()
    }
}

/// The routes in force, vanished ones excluded.
fn obeyed(table: &RouteTable) -> Obeyed {
    table
        .all()
        .into_iter()
        .filter(|entry| entry.gone_since.is_none())
        .map(|entry| (entry.route.channel.uid.clone(), (entry.route.serving, entry.hash.clone())))
        .collect()
}

fn digest(routes: &Obeyed) -> RouteHash {
    let lines: Vec<String> =
        routes.iter().map(|(uid, (serving, hash))| format!("{uid} {serving} {hash}")).collect();
    route_hash(lines.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obeyed(routes: &[(&str, u64)]) -> Obeyed {
        let entry = |(uid, serving): &(&str, u64)| {
            (uid.parse().unwrap(), (*serving, format!("hash-{serving}").parse().unwrap()))
        };
        routes.iter().map(entry).collect()
    }

    #[test]
    fn digests_are_equal_exactly_when_the_routes_are() {
        let one = digest(&obeyed(&[("a", 1), ("b", 2)]));
        assert_eq!(one, digest(&obeyed(&[("b", 2), ("a", 1)])));
        assert_ne!(one, digest(&obeyed(&[("a", 2), ("b", 2)])));
    }

    #[test]
    fn an_account_is_made_anew_when_the_table_changed() {
        let (table, mut last) = (RouteTable::default(), None);
        let first = Account::at(1, &table, &mut last);
        let told = Obeyed::from([("a".parse().unwrap(), (1, "h".parse().unwrap()))]);
        last = Some(Account { obeyed: told.clone(), ..first });
        assert_eq!(Account::at(1, &table, &mut last).obeyed, told);
        assert_eq!(Account::at(2, &table, &mut last).obeyed, Obeyed::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pulse_is_fresh_for_five_seconds_and_not_before_the_first_heartbeat() {
        let pulse = Pulse::default();
        assert!(!pulse.is_fresh());
        pulse.hear(Instant::now(), 1);
        tokio::time::advance(STALE_AFTER - Duration::from_millis(1)).await;
        assert!(pulse.is_fresh());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!pulse.is_fresh());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pulse_is_steady_after_five_seconds_without_a_gap() {
        let pulse = Pulse::default();
        let beat = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            pulse.hear(Instant::now(), 2);
            pulse.is_steady()
        };
        assert_eq!(
            [beat(0).await, beat(2).await, beat(2).await, beat(2).await],
            [false, false, false, true]
        );
        assert_eq!(
            [beat(4).await, beat(2).await, beat(2).await, beat(2).await],
            [false, false, false, true]
        );
        pulse.miss();
        assert!(!pulse.is_steady());
    }
}

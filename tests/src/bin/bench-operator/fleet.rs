//! The gateways of the bench: they follow ten thousand routes and count what a scene says.
//!
//! Takes the route Secrets as a watch delivers them; answers the operator's questions as two replicas
//! that obey at once, with evidence that grows while time passes: of every channel so many messages
//! a second, all of them good, unless a scene turned its canary bad. Lets a question wait as a real
//! gateway does. Never sends a message.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::control::{
    Acknowledged, ChannelState, ClassCount, ControlState, CustomerCount, Replica,
};
use kanarie_crds::route::{
    CHANNEL_UID_LABEL, COMPONENT_LABEL, COMPONENT_ROUTE, ROUTE_KEY, Route, route_hash,
};
use kanarie_fakes::server::{Server, loopback};
use kanarie_words::class::Class;
use kanarie_words::ids::{ChannelUid, EpochDigest, ReplicaName, RouteHash, UrgentDigest};
use kanarie_words::track::Track;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// Messages of each channel, a second.
const RATE: u64 = 1000;
/// Failures of a canary as soon as it is bad.
const FAILURES: u64 = 200;
/// The replicas.
const REPLICAS: [&str; 2] = ["gateway-0", "gateway-1"];
/// Shortest time between two answers to one asker, as of a real gateway.
const APART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2));

/// The gateways.
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    server: Server,
}

struct Shared {
    began: Instant,
    began_ms: u64,
    held: Mutex<Held>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Held {
    routes: BTreeMap<ChannelUid, Vec<Serving>>,
    bad: BTreeMap<ChannelUid, Bad>,
    questions: u64,
    asked: BTreeSet<ChannelUid>,
}

/// One serving of a channel, the present one first.
#[derive(Clone)]
struct Serving {
    number: u64,
    hash: RouteHash,
    weight: u64,
    since: Instant,
    until: Option<Instant>,
}

/// A canary that fails.
#[derive(Clone, Copy)]
pub(crate) struct Bad {
    since: Instant,
    /// When an answer said so.
    pub(crate) shown: Option<Instant>,
    /// When its weight was 0 at every gateway.
    pub(crate) cleared: Option<Instant>,
}

impl Fleet {
    /// Follows the routes of a namespace and answers.
    pub(crate) async fn start(client: Client, namespace: &str) -> Result<Self> {
        let now = kanarie_operator::process::clock::now().as_millisecond();
        let shared = Arc::new(Shared {
            began: Instant::now(),
            began_ms: u64::try_from(now)?,
            held: Mutex::default(),
            changed: watch::channel(()).0,
        });
        let router = Router::new().route("/control/v1/state", get(state));
        let server = Server::start(loopback(), router.with_state(shared.clone())).await?;
        tokio::spawn(follow(Api::namespaced(client, namespace), shared.clone()));
        Ok(Self { shared, server })
    }

    /// Where the operator asks.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// How many questions were asked so far.
    pub(crate) fn questions(&self) -> u64 {
        self.shared.lock().questions
    }

    /// How many channels hold this weight.
    pub(crate) fn at_weight(&self, uids: &BTreeSet<ChannelUid>, weight: u64) -> usize {
        let held = self.shared.lock();
        let of = |uid: &&ChannelUid| held.routes.get(*uid).and_then(|all| all.first());
        uids.iter().filter(|uid| of(uid).is_some_and(|held| held.weight == weight)).count()
    }

    /// From now on the canary of this channel fails.
    pub(crate) fn spoil(&self, uid: &ChannelUid) {
        let bad = Bad { since: Instant::now(), shown: None, cleared: None };
        self.shared.lock().bad.insert(uid.clone(), bad);
        self.shared.changed.send_replace(());
    }

    /// What became of those that were spoiled.
    pub(crate) fn spoiled(&self) -> Vec<Bad> {
        self.shared.lock().bad.values().copied().collect()
    }

    /// All canaries are good again.
    pub(crate) fn heal(&self) {
        self.shared.lock().bad.clear();
        self.shared.changed.send_replace(());
    }
}

async fn follow(api: Api<Secret>, shared: Arc<Shared>) {
    let config = watcher::Config::default().labels(&format!("{COMPONENT_LABEL}={COMPONENT_ROUTE}"));
    let events = watcher(api, config).default_backoff().applied_objects();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        let Some((uid, serving)) = event.ok().as_ref().and_then(serving) else { continue };
        shared.obey(uid, serving);
    }
}

fn serving(object: &Secret) -> Option<(ChannelUid, Serving)> {
    let uid = object.labels().get(CHANNEL_UID_LABEL)?.parse().ok()?;
    let bytes = &object.data.as_ref()?.get(ROUTE_KEY)?.0;
    let route: Route = serde_json::from_slice(bytes).ok()?;
    let weight = u64::from(route.weight.percent());
    let (number, hash, since) = (route.serving, route_hash(bytes), Instant::now());
    Some((uid, Serving { number, hash, weight, since, until: None }))
}

impl Shared {
    fn obey(&self, uid: ChannelUid, new: Serving) {
        let mut held = self.lock();
        if new.weight == 0
            && let Some(bad) = held.bad.get_mut(&uid)
        {
            bad.cleared.get_or_insert(new.since);
        }
        let all = held.routes.entry(uid).or_default();
        match all.first_mut() {
            Some(present) if present.number == new.number => present.hash = new.hash,
            Some(present) => {
                present.until = Some(new.since);
                all.insert(0, new);
                all.truncate(3);
            }
            None => all.push(new),
        }
        drop(held);
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, named: &[ChannelUid]) -> UrgentDigest {
        let held = self.lock();
        let mut hasher = DefaultHasher::new();
        for uid in named {
            let present = held.routes.get(uid).and_then(|all| all.first());
            let present = present.map(|present| (present.number, present.hash.as_str()));
            (uid.as_str(), present, held.bad.contains_key(uid)).hash(&mut hasher);
        }
        UrgentDigest::from_bytes(u128::from(hasher.finish()).to_be_bytes())
    }

    fn answer(&self, named: &[ChannelUid]) -> ControlState {
        let now = Instant::now();
        let mut held = self.lock();
        held.questions += 1;
        held.asked.extend(named.iter().cloned());
        let channels = named.iter().filter_map(|uid| {
            let servings = held.routes.get(uid)?.clone();
            if let Some(bad) = held.bad.get_mut(uid) {
                bad.shown.get_or_insert(now);
            }
            Some(channel_state(uid, &servings, held.bad.get(uid).copied(), now))
        });
        ControlState {
            channels: channels.collect(),
            observed_at_ms: self.began_ms + millis(now - self.began),
            epoch: EpochDigest::parse("bench").expect("a word is an id"),
            replicas: replicas().map(|id| Replica { id, age_ms: 1 }).collect(),
            unsynced: Vec::new(),
            dead_letters: Vec::new(),
            undelivered: Some(Vec::new()),
            digest: None,
        }
    }
}

fn replicas() -> impl Iterator<Item = ReplicaName> {
    REPLICAS.into_iter().map(|name| name.parse().expect("a word is an id"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn channel_state(
    uid: &ChannelUid,
    servings: &[Serving],
    bad: Option<Bad>,
    now: Instant,
) -> ChannelState {
    let acknowledged = servings.first().into_iter().flat_map(|present| {
        let (serving, hash) = (present.number, &present.hash);
        replicas().map(move |replica| Acknowledged {
            replica,
            serving,
            hash: hash.clone(),
            cut: false,
        })
    });
    let (mut counts, mut customers) = (Vec::new(), Vec::new());
    // Nothing is counted while nobody rolls.
    for serving in servings.iter().filter(|serving| serving.weight > 0) {
        let number = serving.number;
        let asked = |from: Instant| {
            let until = serving.until.unwrap_or(now);
            RATE * millis(until.saturating_duration_since(from)) / 1000
        };
        let canary = asked(serving.since) * serving.weight / 100;
        let stable = asked(serving.since) - canary;
        let failures = bad.filter(|_| serving.until.is_none()).map_or(0, |bad| {
            (FAILURES + asked(bad.since.max(serving.since)) * serving.weight / 100).min(canary)
        });
        let all = [
            (Track::Stable, Class::Success, stable),
            (Track::Canary, Class::Success, canary - failures),
            (Track::Canary, Class::Http, failures),
        ];
        let some = all.into_iter().filter(|(_, _, messages)| *messages > 0);
        counts.extend(some.map(|(track, class, messages)| {
            let serving = number;
            ClassCount { serving, track, class, messages }
        }));
        let both = [(Track::Stable, stable, 0), (Track::Canary, canary, failures)];
        customers.extend(both.map(|(track, conversations, failed)| CustomerCount {
            serving: number,
            track,
            conversations,
            failed,
            rescued: Some(failed),
        }));
    }
    let uid = uid.clone();
    ChannelState { uid, acknowledged: acknowledged.collect(), counts, customers: Some(customers) }
}

async fn state(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<ControlState> {
    let asked = query.get("channels").map(String::as_str).unwrap_or_default();
    let named: Vec<ChannelUid> = asked.split(',').filter_map(|uid| uid.parse().ok()).collect();
    let Some(wait) = query.get("wait").and_then(|wait| wait.parse().ok()) else {
        return Json(shared.answer(&named));
    };
    let known = query.get("known").map(String::as_str);
    let digest = urgent(&shared, &named, Duration::from_secs(wait), known).await;
    Json(ControlState { digest: Some(digest), ..shared.answer(&named) })
}

/// The digest of what is urgent, once it is another one than `known` or the wait is over.
async fn urgent(
    shared: &Shared,
    named: &[ChannelUid],
    wait: Duration,
    known: Option<&str>,
) -> UrgentDigest {
    let apart = APART.0 + APART.1 * u32::try_from(named.len()).unwrap_or(u32::MAX);
    let until = Instant::now() + wait;
    let mut changed = shared.changed.subscribe();
    if known.is_some() {
        sleep(apart).await;
    }
    loop {
        changed.mark_unchanged();
        let digest = shared.digest(named);
        if known.is_none_or(|known| *known != digest.to_string()) || Instant::now() >= until {
            return digest;
        }
        let next = Instant::now() + apart;
        tokio::select! {
            _ = changed.changed() => sleep_until(next.min(until)).await,
            () = sleep_until(until) => {}
        }
    }
}

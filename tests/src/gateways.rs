//! The gateways of a bench: they acknowledge and count what a test says.
//!
//! Takes a script; answers the operator's questions about the routes that are in the cluster. Never
//! sends anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::control::{
    Acknowledged, ChannelState, ClassCount, ControlState, CustomerCount, Replica,
};
use kanarie_crds::route::{
    CHANNEL_UID_LABEL, CONTROL_SECRET, CONTROL_TOKEN_KEY, ROUTE_KEY, Route, route_hash,
};
use kanarie_words::class::Class;
use kanarie_words::ids::{ChannelUid, EpochDigest, ReplicaName, RouteHash, UrgentDigest};
use kanarie_words::track::Track;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use tokio::time::{Instant, sleep};

/// What the gateways of a bench do and say.
#[derive(Clone, Debug)]
pub struct Script {
    /// Names of the live replicas.
    pub replicas: Vec<ReplicaName>,
    /// Whether they take up what the operator writes.
    pub obedient: bool,
    /// Whether they answer at all.
    pub silent: bool,
    /// Whether they let a question wait, as the real ones do.
    pub waits: bool,
    /// The store's clock, Unix milliseconds.
    pub at_ms: u64,
    /// How far the operator's clock is ahead of this machine's.
    pub ahead: Duration,
    /// Digest of the store's epochs.
    pub epoch: EpochDigest,
    /// What is counted for each serving of each channel: track, class, messages.
    pub counts: BTreeMap<u64, Vec<(Track, Class, u64)>>,
    /// Whether stable answers what the canary fails.
    pub rescues: bool,
    /// Dead letters by channel uid.
    pub dead_letters: Vec<kanarie_crds::control::ChannelDeadLetters>,
    /// Undelivered replies by channel uid.
    pub undelivered: Vec<kanarie_crds::control::ChannelUndelivered>,
}

/// What the fake gateways need to answer.
#[derive(Clone)]
pub(crate) struct Gateways {
    pub(crate) client: Client,
    pub(crate) routes: String,
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) obeyed: Arc<Mutex<BTreeMap<ChannelUid, (u64, RouteHash)>>>,
}

/// Answers as a gateway of this script does.
pub(crate) async fn state(
    State(gateways): State<Gateways>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<ControlState>, StatusCode> {
    let waits = lock(&gateways.script).waits && query.contains_key("wait");
    if waits {
        until_urgent(&gateways.script, query.get("known")).await;
    }
    let script = lock(&gateways.script).clone();
    if script.silent {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let api: Api<Secret> = Api::namespaced(gateways.client.clone(), &gateways.routes);
    let objects = api.list(&ListParams::default()).await.map_err(failed)?.items;
    if headers.get("authorization").map(|value| value.as_bytes()) != bearer(&objects).as_deref() {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let live = obey(&gateways, &script, &objects);
    let asked = query.get("channels").map(String::as_str).unwrap_or_default();
    let wanted: Vec<ChannelUid> = asked.split(',').filter_map(|uid| uid.parse().ok()).collect();
    let obeyed = lock(&gateways.obeyed).clone();
    let known = wanted.into_iter().filter_map(|uid| Some((obeyed.get(&uid)?, uid)));
    let channels = known.map(|(held, uid)| channel_state(&script, uid, held)).collect();
    Ok(Json(ControlState {
        observed_at_ms: script.at_ms,
        epoch: script.epoch.clone(),
        replicas: script.replicas.iter().map(|id| Replica { id: id.clone(), age_ms: 1 }).collect(),
        unsynced: live
            .into_iter()
            .filter(|(uid, held)| obeyed.get(uid) != Some(held))
            .map(|(uid, _)| uid)
            .collect(),
        digest: waits.then(|| urgent(&script)),
        dead_letters: script.dead_letters,
        undelivered: Some(script.undelivered),
        channels,
    }))
}

/// As long as a real gateway lets a question wait, unless something else is counted.
async fn until_urgent(script: &Mutex<Script>, known: Option<&String>) {
    let until = Instant::now() + Duration::from_secs(25);
    while Instant::now() < until && known.is_some_and(|known| urgent(&lock(script)) == &known[..]) {
        sleep(Duration::from_millis(20)).await;
    }
}

fn urgent(script: &Script) -> UrgentDigest {
    let text = format!("{:?}", script.counts);
    route_hash(text.as_bytes()).as_str().parse().expect("a digest is an id")
}

/// What is in the cluster; obedient gateways take it up at once.
fn obey(
    gateways: &Gateways,
    script: &Script,
    objects: &[Secret],
) -> BTreeMap<ChannelUid, (u64, RouteHash)> {
    let live: BTreeMap<ChannelUid, (u64, RouteHash)> = objects.iter().filter_map(held).collect();
    if script.obedient {
        lock(&gateways.obeyed).clone_from(&live);
    }
    live
}

fn held(object: &Secret) -> Option<(ChannelUid, (u64, RouteHash))> {
    let uid = object.labels().get(CHANNEL_UID_LABEL)?.parse().ok()?;
    let bytes = &object.data.as_ref()?.get(ROUTE_KEY)?.0;
    let route: Route = serde_json::from_slice(bytes).ok()?;
    Some((uid, (route.serving, route_hash(bytes))))
}

fn channel_state(script: &Script, uid: ChannelUid, held: &(u64, RouteHash)) -> ChannelState {
    let (serving, hash) = held;
    let acknowledged = script.replicas.iter().map(|replica| Acknowledged {
        replica: replica.clone(),
        serving: *serving,
        hash: hash.clone(),
        cut: false,
    });
    let counts = script.counts.iter().flat_map(|(serving, counts)| {
        let count = |(track, class, messages): &(Track, Class, u64)| ClassCount {
            serving: *serving,
            track: *track,
            class: *class,
            messages: *messages,
        };
        counts.iter().map(count)
    });
    let customers = script.counts.iter().flat_map(|(serving, counts)| {
        let of = |track| customers(script.rescues, *serving, track, counts);
        [Track::Stable, Track::Canary].map(of)
    });
    ChannelState {
        uid,
        acknowledged: acknowledged.collect(),
        counts: counts.collect(),
        customers: Some(customers.collect()),
    }
}

/// Each message is of a customer who writes once, and stable rescues all of them or none.
fn customers(
    rescues: bool,
    serving: u64,
    track: Track,
    counts: &[(Track, Class, u64)],
) -> CustomerCount {
    let sum = |of: &dyn Fn(Class) -> bool| {
        let ours = counts.iter().filter(|(on, class, _)| *on == track && of(*class));
        ours.map(|(_, _, messages)| messages).sum()
    };
    let failed = sum(&|class| class != Class::Success);
    let rescued = Some(if rescues && track == Track::Canary { failed } else { 0 });
    CustomerCount { serving, track, conversations: sum(&|_| true), failed, rescued }
}

fn bearer(objects: &[Secret]) -> Option<Vec<u8>> {
    let control = objects.iter().find(|object| object.name_any() == CONTROL_SECRET)?;
    let token = &control.data.as_ref()?.get(CONTROL_TOKEN_KEY)?.0;
    Some([b"Bearer ".as_slice(), token].concat())
}

/// Whatever became of its other holders.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A bench for the operator alone: a real API server, gateways that only acknowledge and count what
//! a test says, on a clock that a test moves.
//!
//! The operator runs in this process under the service account and the roles of the chart. No
//! message is ever sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_crds::control::{
    Acknowledged, ChannelState, ClassCount, ControlState, CustomerCount, Replica,
};
use kanarie_crds::route::{
    CHANNEL_UID_LABEL, CONTROL_SECRET, CONTROL_TOKEN_KEY, ROUTE_KEY, Route, STATE_KEY, route_hash,
    route_name,
};
use kanarie_fakes::customer::Account;
use kanarie_fakes::server::{Server, loopback};
use kanarie_operator::cluster::memory::Memory;
use kanarie_operator::process::config::{Config, LogFormat};
use kanarie_words::class::Class;
use kanarie_words::ids::{ChannelUid, EpochDigest, ReplicaName, RouteHash, UrgentDigest};
use kanarie_words::track::Track;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;
use crate::manifest::ChannelManifest;
use crate::roles::{self, Places};

/// Longest wait for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(40);

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

/// The bench.
pub struct Bench {
    /// The API server.
    pub plane: &'static ControlPlane,
    /// Its namespaces.
    pub places: Places,
    /// An account that no other bench has.
    pub account: Account,
    script: Arc<Mutex<Script>>,
    gateways: Server,
    operators: Vec<Operator>,
}

/// An operator in this process.
struct Operator {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What the fake gateways need to answer.
#[derive(Clone)]
struct Gateways {
    client: Client,
    routes: String,
    script: Arc<Mutex<Script>>,
    obeyed: Arc<Mutex<BTreeMap<ChannelUid, (u64, RouteHash)>>>,
}

impl Bench {
    /// Namespaces of their own, one live gateway and one operator.
    ///
    /// # Errors
    /// Something does not come up.
    pub async fn start() -> Result<Self> {
        let mut bench = Self::without_operator().await?;
        bench.start_operator().await?;
        Ok(bench)
    }

    /// The same, without an operator yet.
    ///
    /// # Errors
    /// Something does not come up.
    pub async fn without_operator() -> Result<Self> {
        static ACCOUNTS: AtomicU32 = AtomicU32::new(50_000);
        let plane = ControlPlane::shared().await;
        plane.install_crd().await?;
        let places = Places::make(plane).await?;
        roles::apply(plane, &places).await?;
        let script = Arc::new(Mutex::new(Script {
            replicas: vec!["gateway-0".parse()?],
            obedient: true,
            silent: false,
            waits: false,
            at_ms: 1_000_000,
            ahead: Duration::ZERO,
            epoch: "first".parse()?,
            counts: BTreeMap::new(),
            rescues: true,
            dead_letters: Vec::new(),
            undelivered: Vec::new(),
        }));
        let gateways = Gateways {
            client: plane.client(),
            routes: places.routes.clone(),
            script: script.clone(),
            obeyed: Arc::default(),
        };
        let router = Router::new().route("/control/v1/state", get(state)).with_state(gateways);
        let gateways = Server::start(loopback(), router).await?;
        let account = Account::new(ACCOUNTS.fetch_add(1, Ordering::Relaxed));
        Ok(Self { plane, places, account, script, gateways, operators: Vec::new() })
    }

    /// Starts one more operator.
    ///
    /// # Errors
    /// Its service account does not exist.
    pub async fn start_operator(&mut self) -> Result<()> {
        let system = &self.places.system;
        let client = self.plane.client_for_service_account(system, "kanarie-operator").await?;
        let config = Config {
            gateway_url: format!("http://{}", self.gateways.address()),
            routes_namespace: self.places.routes.clone(),
            watch_namespaces: vec![self.places.channels.clone()],
            leader_elect: false,
            admin_listen: loopback(),
            log_format: LogFormat::Text,
        };
        let script = self.script.clone();
        let clock = Arc::new(move || kanarie_operator::process::clock::now() + lock(&script).ahead);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async move {
                let _ = stopped.await;
            };
            if let Err(error) = kanarie_operator::run_by(clock, config, client, shutdown).await {
                eprintln!("the operator ended: {error}");
            }
        });
        self.operators.push(Operator { stop, task });
        Ok(())
    }

    /// Stops every operator and waits until they have ended.
    ///
    /// # Errors
    /// One of them panicked.
    pub async fn stop_operators(&mut self) -> Result<()> {
        for operator in self.operators.drain(..) {
            // One that has ended by itself needs no signal.
            let _ = operator.stop.send(());
            operator.task.await?;
        }
        Ok(())
    }

    /// Ends every operator in the middle of whatever it does.
    pub fn kill_operators(&mut self) {
        for operator in self.operators.drain(..) {
            operator.task.abort();
        }
    }

    /// Changes what the gateways do and say.
    pub fn script<R>(&self, change: impl FnOnce(&mut Script) -> R) -> R {
        change(&mut lock(&self.script))
    }

    /// Moves the store's clock and the operators'.
    pub fn pass(&self, seconds: u64) {
        self.script(|script| {
            script.at_ms += seconds * 1000;
            script.ahead += Duration::from_secs(seconds);
        });
    }

    /// A channel of this name with this agent, in steps of an hour.
    pub fn manifest(&self, name: &str, agent: &str) -> ChannelManifest {
        let mut manifest = ChannelManifest::new(name, &self.account, agent);
        manifest.limits = serde_json::json!({});
        manifest.rollout["steps"] = crate::manifest::steps(&[(10, 3600), (50, 7200), (100, 3600)]);
        manifest
    }

    /// Applies a channel and its Secret.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn apply(&self, manifest: &ChannelManifest) -> Result<()> {
        self.plane.apply_yaml(&self.places.channels, &manifest.text()).await.map(drop)
    }

    /// The channels' API, as the administrator.
    pub fn channels(&self) -> Api<WhatsAppChannel> {
        Api::namespaced(self.plane.client(), &self.places.channels)
    }

    /// The Secrets of the routes namespace, as the administrator.
    pub fn routes(&self) -> Api<Secret> {
        Api::namespaced(self.plane.client(), &self.places.routes)
    }

    /// The Secrets beside the channels, as the administrator.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.plane.client(), &self.places.channels)
    }

    /// Name of the route of this bench's sender.
    pub fn route_name(&self) -> String {
        let sid = self.account.sid.parse().expect("an account of ours");
        route_name(&sid, &self.account.sender.parse().expect("a sender of ours"))
    }

    /// The route and the memory as they are in the cluster.
    ///
    /// # Errors
    /// There is none.
    pub async fn route(&self) -> Result<(Route, Memory)> {
        let object = self.routes().get(&self.route_name()).await?;
        let data = object.data.unwrap_or_default();
        let bytes = |key: &str| data.get(key).map(|bytes| bytes.0.as_slice()).unwrap_or_default();
        let route = serde_json::from_slice(bytes(ROUTE_KEY)).context("the route")?;
        Ok((route, Memory::decode(bytes(STATE_KEY))?))
    }

    /// Waits until the channel is as described, and gives it.
    ///
    /// # Errors
    /// It is not in time; the error carries its status.
    pub async fn until(&self, name: &str, mut is: impl FnMut(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.channels().get_opt(name).await?;
            let channel = serde_json::to_value(&found)?;
            if found.is_some() && is(&channel) {
                return Ok(channel);
            }
            if Instant::now() > deadline {
                bail!("not in time; status:\n{:#}", channel["status"]);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the route is as described, and gives it.
    ///
    /// # Errors
    /// It is not in time; the error carries the rollout.
    pub async fn until_route(&self, mut is: impl FnMut(&Route) -> bool) -> Result<(Route, Memory)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.route().await;
            if let Ok((route, memory)) = found
                && is(&route)
            {
                return Ok((route, memory));
            }
            if Instant::now() > deadline {
                let now = self.route().await.map(|(_, memory)| memory.rollout);
                bail!("not in time; rollout:\n{now:#?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a Secret of the routes namespace is gone.
    ///
    /// # Errors
    /// It is still there.
    pub async fn until_gone(&self, name: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.routes().get_opt(name).await?.is_some() {
            if Instant::now() > deadline {
                bail!("Secret {name} is still there");
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Reasons of all Events about a channel, oldest first.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn events(&self, name: &str) -> Result<Vec<String>> {
        Ok(self.told(name).await?.into_iter().filter_map(|event| event.reason).collect())
    }

    /// The Events of the transitions of a channel, in their order.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn transitions(&self, name: &str) -> Result<Vec<Event>> {
        // Their names end with the number of the transition; those of conditions with a time.
        let number = |event: &Event| {
            let mut parts = event.metadata.name.as_deref().unwrap_or_default().split('.');
            let number = parts.nth(1)?.parse::<u64>().ok()?;
            parts.next().is_none().then_some(number)
        };
        let told = self.told(name).await?.into_iter();
        let told: BTreeMap<u64, Event> =
            told.filter_map(|event| Some((number(&event)?, event))).collect();
        Ok(told.into_values().collect())
    }

    async fn told(&self, name: &str) -> Result<Vec<Event>> {
        let api: Api<Event> = Api::namespaced(self.plane.client(), &self.places.channels);
        let mut events = api.list(&ListParams::default()).await?.items;
        events.sort_by_key(|event| event.event_time.clone().map(|time| time.0));
        let about = |event: &Event| {
            event.regarding.as_ref().is_some_and(|object| object.name.as_deref() == Some(name))
        };
        Ok(events.into_iter().filter(about).collect())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.kill_operators();
    }
}

async fn state(
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

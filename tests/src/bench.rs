//! A bench for the operator alone: a real API server, gateways that only acknowledge and count what
//! a test says, on a clock that a test moves.
//!
//! The operator runs in this process under the service account and the roles of the chart. No
//! message is ever sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::routing::get;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kanarie_crds::channel::{CHANNEL_CLASS, WhatsAppChannel};
use kanarie_crds::route::{ROUTE_KEY, Route, STATE_KEY, route_name};
use kanarie_fakes::customer::Account;
use kanarie_fakes::server::{Server, loopback};
use kanarie_operator::cluster::memory::Memory;
use kanarie_operator::process::clock::ReconcileClock;
use kanarie_operator::process::config::{Config, LogFormat};
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;
use crate::gateways::{Gateways, Script, lock, state};
use crate::manifest::ChannelManifest;
use crate::roles::{self, Places};

/// Longest wait for anything that happens by itself.
const PATIENCE: Duration = Duration::from_secs(40);

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
        let plane = ControlPlane::shared().await;
        plane.install_crd().await?;
        Self::at(plane, Places::make(plane).await?).await
    }

    /// Another installation beside this one, for the same namespace of channels, without an operator yet.
    ///
    /// # Errors
    /// Something does not come up.
    pub async fn beside(&self) -> Result<Self> {
        let places = Places::make(self.plane).await?;
        let channels = self.places.channels.clone();
        Self::at(self.plane, Places { channels, ..places }).await
    }

    async fn at(plane: &'static ControlPlane, places: Places) -> Result<Self> {
        static ACCOUNTS: AtomicU32 = AtomicU32::new(50_000);
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
        let (config, client) = (self.config(), self.operator_client().await?);
        self.start_with(config, client);
        Ok(())
    }

    /// What an operator of this bench is configured with.
    pub fn config(&self) -> Config {
        Config {
            gateway_url: format!("http://{}", self.gateways.address()),
            routes_namespace: self.places.routes.clone(),
            watch_namespaces: vec![self.places.channels.clone()],
            channel_class: CHANNEL_CLASS.to_owned(),
            // Nobody is there: what Twilio says is for the tests that are about it.
            twilio_api_url: "http://127.0.0.1:1".parse().expect("a URL"),
            leader_elect: false,
            admin_listen: loopback(),
            log_format: LogFormat::Text,
        }
    }

    /// A client with the rights of the operator.
    ///
    /// # Errors
    /// Its service account does not exist.
    pub async fn operator_client(&self) -> Result<Client> {
        let system = &self.places.system;
        self.plane.client_for_service_account(system, "kanarie-operator").await
    }

    /// Starts one more operator with another configuration or client.
    pub fn start_with(&mut self, config: Config, client: Client) {
        let script = self.script.clone();
        let clock = Arc::new(move || kanarie_operator::process::clock::now() + lock(&script).ahead);
        self.start_by(clock, config, client);
    }

    /// The same with a clock of its own.
    pub fn start_by(&mut self, clock: ReconcileClock, config: Config, client: Client) {
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

    /// Ends the operator that was started as this one of those that run, in the middle of what it does.
    pub fn kill_operator(&mut self, which: usize) {
        self.operators.remove(which).task.abort();
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
        self.route_of(&self.route_name()).await
    }

    /// The same of the route with this name.
    ///
    /// # Errors
    /// There is none.
    pub async fn route_of(&self, name: &str) -> Result<(Route, Memory)> {
        let object = self.routes().get(name).await?;
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

    /// The same of numbers, which status tells once a minute: minutes pass meanwhile.
    ///
    /// # Errors
    /// They are not told in time; the error carries its status.
    pub async fn until_counted(&self, name: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut looks = 0_u32;
        let is_told = |channel: &Value| {
            let is_told = is(channel);
            // An answer that is on its way may tell the former ones once more.
            if !is_told && looks.is_multiple_of(60) {
                self.pass(60);
            }
            looks += 1;
            is_told
        };
        self.until(name, is_told).await
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

    /// Waits until an Event of a channel was told with this reason, which is after its status; gives all reasons.
    ///
    /// # Errors
    /// It never is.
    pub async fn until_told(&self, name: &str, reason: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.events(name).await?;
            if told.iter().any(|one| one == reason) {
                return Ok(told);
            }
            if Instant::now() > deadline {
                bail!("{reason} is not told in time: {told:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
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

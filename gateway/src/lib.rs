//! The webhook pipeline: WhatsApp messages in, agents asked, replies out.
//!
//! Two lines of files, a file a hop:
//! 1. `server → webhook → signature → message → routes → store.admit → response`
//! 2. `worker: store.claim → route → agent → reply → store.commit → twilio → store.complete`
//!
//! This file wires them: it takes a configuration, gives a bound gateway, and runs it until it is
//! told to stop. A stop makes it unready, claims nothing more, and finishes or gives back what runs.

pub mod admin;
pub mod callback;
pub mod clock;
pub mod commands;
pub mod config;
pub mod doorbell;
pub mod ends;
pub mod envelope;
pub mod events;
pub mod heartbeat;
pub mod inbound;
pub mod outbound;
pub mod random;
pub mod routes;
pub mod server;
pub mod stop;
pub mod store;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use kanarie_crds::route::SecretText;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::clock::{Clock, system_clock};
use crate::config::{Config, Source, StoreChoice};
use crate::doorbell::Doorbell;
use crate::events::{Event, LifecycleChange, emit};
use crate::heartbeat::Pulse;
use crate::inbound::Inbound;
use crate::inbound::admission::Gate;
use crate::outbound::agent::Agents;
use crate::outbound::agent::address::Allow;
use crate::outbound::twilio::Twilio;
use crate::routes::{RouteTable, directory, kubernetes};
use crate::server::Limits;
use crate::store::SharedStore;
use crate::store::embedded::EmbeddedStore;
use crate::store::redis::{RedisStore, Settings};

/// Runs a gateway until `shutdown` says true.
///
/// # Errors
/// When it cannot be started; a gateway that runs has none.
pub async fn run(config: Config, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
    let gateway = bind(config).await?;
    let (public, admin) = (gateway.public_address()?, gateway.admin_address()?);
    tracing::info!(%public, %admin, replica = gateway.replica, "listening");
    gateway.run(shutdown).await;
    Ok(())
}

/// Opens store and ports, and starts nothing yet.
///
/// # Errors
/// What cannot be opened, and why.
pub async fn bind(config: Config) -> anyhow::Result<Gateway> {
    let clock = system_clock();
    let store: SharedStore = match &config.store {
        StoreChoice::Redis(url) => Arc::new(open_redis(url).await?),
        StoreChoice::Embedded(path) => {
            Arc::new(EmbeddedStore::open(path, Arc::clone(&clock)).context("--store")?)
        }
    };
    let client = match &config.source {
        Source::Namespace(_) => {
            Some(kube::Client::try_default().await.context("cannot reach Kubernetes")?)
        }
        Source::Directory(_) | Source::Environment(_) => None,
    };
    let agents = Agents::new(Allow::new(config.agent_allow.clone()));
    let twilio = Twilio::new(config.twilio_api_url.clone());
    Ok(Gateway {
        public: TcpListener::bind(config.listen).await.context("--listen")?,
        admin: TcpListener::bind(config.admin_listen).await.context("--admin-listen")?,
        agents: agents.context("cannot make the client of the agents")?,
        twilio: twilio.context("cannot make the client of Twilio")?,
        replica: replica(config.host.as_deref())?,
        routes: Arc::new(RouteTable::default()),
        config,
        client,
        store,
        clock,
    })
}

/// A gateway whose ports are open.
pub struct Gateway {
    public: TcpListener,
    admin: TcpListener,
    agents: Agents,
    twilio: Twilio,
    replica: String,
    routes: Arc<RouteTable>,
    config: Config,
    client: Option<kube::Client>,
    store: SharedStore,
    clock: Clock,
}

/// For turns that run when the gateway is told to stop; pods have 30 s by default.
const WORKER_DRAIN: Duration = Duration::from_secs(25);
/// Most connections of the admin port.
const ADMIN_CONNECTIONS: usize = 128;
/// Time between two questions for the store's key.
const KEY_EVERY: Duration = Duration::from_millis(250);

impl Gateway {
    /// Where webhooks arrive.
    ///
    /// # Errors
    /// The system's.
    pub fn public_address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where health, metrics and the operator's questions arrive.
    ///
    /// # Errors
    /// The system's.
    pub fn admin_address(&self) -> std::io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Runs until `shutdown` says true and everything is finished or given back.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let (pulse, doorbell) = (Pulse::default(), Arc::new(Doorbell::default()));
        let key = Arc::new(OnceLock::new());
        let inbound = self.inbound(&key, &doorbell);
        let admin = self.admin(&key, shutdown.clone());
        let ctx = outbound::context::Context {
            store: Arc::clone(&self.store),
            routes: Arc::clone(&self.routes),
            pulse: pulse.clone(),
            doorbell,
            agents: self.agents,
            twilio: self.twilio,
            settings: outbound::context::Settings {
                workers: self.config.workers,
                drain: WORKER_DRAIN,
            },
        };

        // What must go on until the last turn is over: routes, heartbeat, health.
        let (end, ended) = watch::channel(false);
        let mut background = JoinSet::new();
        let table = Arc::clone(&self.routes);
        background.spawn(follow(self.config.source, self.client, table, ended.clone()));
        let store = Arc::clone(&self.store);
        let table = Arc::clone(&self.routes);
        background.spawn(heartbeat::beat(self.replica, table, store, pulse, ended.clone()));
        background.spawn(learn_key(self.store, key, ended.clone()));
        let limits = Limits { connections: ADMIN_CONNECTIONS, ..Limits::default() };
        background.spawn(server::run(self.admin, admin::router(admin), limits, ended));

        emit(&Event::Lifecycle { change: LifecycleChange::Started });
        let public = inbound::router(inbound);
        let serving = server::run(self.public, public, Limits::default(), shutdown.clone());
        let working = outbound::run(ctx, shutdown.clone());
        let told = async {
            let _ = shutdown.wait_for(|stop| *stop).await;
            emit(&Event::Lifecycle { change: LifecycleChange::Draining });
        };
        tokio::join!(told, serving, working);
        end.send_replace(true);
        background.join_all().await;
        emit(&Event::Lifecycle { change: LifecycleChange::Stopped });
    }

    fn inbound(&self, key: &Arc<OnceLock<[u8; 32]>>, doorbell: &Arc<Doorbell>) -> Arc<Inbound> {
        Arc::new(Inbound {
            routes: Arc::clone(&self.routes),
            store: Arc::clone(&self.store),
            key: Arc::clone(key),
            doorbell: Arc::clone(doorbell),
            clock: Arc::clone(&self.clock),
            limits: Limits::default(),
            gate: Gate::default(),
        })
    }

    fn admin(&self, key: &Arc<OnceLock<[u8; 32]>>, shutdown: watch::Receiver<bool>) -> Arc<Admin> {
        Arc::new(Admin {
            routes: Arc::clone(&self.routes),
            store: Arc::clone(&self.store),
            key: Arc::clone(key),
            shutdown,
        })
    }
}

async fn open_redis(url: &SecretText) -> anyhow::Result<RedisStore> {
    RedisStore::open(url.expose(), Settings::default()).await.context("--store")
}

/// Keeps the table right until told to stop.
async fn follow(
    source: Source,
    client: Option<kube::Client>,
    table: Arc<RouteTable>,
    mut shutdown: watch::Receiver<bool>,
) {
    match (source, client) {
        (Source::Namespace(namespace), Some(client)) => {
            kubernetes::follow(client, &namespace, table, shutdown).await;
        }
        (Source::Namespace(_), None) => {}
        (Source::Directory(loaded), _) => directory::follow(loaded, table, shutdown).await,
        (Source::Environment(route), _) => {
            table.replace(vec![directory::seen(&route)], Instant::now());
            let _ = shutdown.wait_for(|stop| *stop).await;
        }
    }
}

/// Asks the store for its key until it is known: a gateway may start before its store.
async fn learn_key(
    store: SharedStore,
    known: Arc<OnceLock<[u8; 32]>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let learn = async {
        loop {
            if let Ok(key) = store.key().await {
                return known.get_or_init(|| key);
            }
            tokio::time::sleep(KEY_EVERY).await;
        }
    };
    tokio::select! {
        _ = learn => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

/// A name of its own for each process: a pod that is started again is another replica.
fn replica(host: Option<&str>) -> anyhow::Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    Ok(format!("{}-{:08x}", host.unwrap_or("gateway"), u32::from_be_bytes(random)))
}

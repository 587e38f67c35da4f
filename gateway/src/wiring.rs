//! Opens what a gateway needs, hands its parts to each other, and holds the list of its tasks.
//!
//! Takes a configuration, gives a gateway whose ports are bound, and runs it until it is told to
//! stop. A stop makes it unready, claims nothing more, and finishes or gives back what runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kanarie_crds::route::SecretText;
use kanarie_words::hex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin;
use crate::admin::shared::Admin;
use crate::clock::{Clock, system_clock};
use crate::config::{Config, StoreChoice};
use crate::events::{Event, emit};
use crate::heartbeat::{self, Pulse};
use crate::inbound::admission::Gate;
use crate::inbound::{self, Inbound};
use crate::key::{self, LearnedKey};
use crate::labels::LifecycleChange;
use crate::outbound;
use crate::outbound::agent::Agents;
use crate::outbound::agent::address::Allow;
use crate::outbound::context::{Context, Settings};
use crate::outbound::twilio::Twilio;
use crate::random;
use crate::routes::table::RouteTable;
use crate::routes::{self, Source};
use crate::server;
use crate::server::limits::Limits;
use crate::stop::stopped;
use crate::store::SharedStore;
use crate::store::embedded::EmbeddedStore;
use crate::store::redis;
use crate::store::redis::RedisStore;

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
    let client = config.source.client().await.context("cannot reach Kubernetes")?;
    let agents = Agents::new(Allow::new(config.agent_allow.clone()));
    let twilio = Twilio::new(config.twilio_api_url.clone());
    Ok(Gateway {
        public: TcpListener::bind(config.listen).await.context("--listen")?,
        admin: TcpListener::bind(config.admin_listen).await.context("--admin-listen")?,
        agents: agents.context("cannot make the client of the agents")?,
        twilio: twilio.context("cannot make the client of Twilio")?,
        replica: replica(config.host.as_deref()),
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
const OUTBOUND_DRAIN: Duration = Duration::from_secs(25);
/// Most connections of the admin port.
const ADMIN_CONNECTIONS: usize = 128;

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

    /// Its name in the store.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Runs until `shutdown` says true and everything is finished or given back.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let parts = self.parts(&shutdown);
        emit(Event::Lifecycle { change: LifecycleChange::Started });
        parts.run(shutdown).await;
        emit(Event::Lifecycle { change: LifecycleChange::Stopped });
    }

    /// Hands each line what it works with.
    fn parts(self, shutdown: &watch::Receiver<bool>) -> Parts {
        let Self { store, routes, clock, .. } = self;
        let (pulse, key, doorbell) = (Pulse::default(), LearnedKey::default(), Arc::default());
        Parts {
            inbound: Arc::new(Inbound {
                routes: Arc::clone(&routes),
                store: Arc::clone(&store),
                key: key.clone(),
                doorbell: Arc::clone(&doorbell),
                clock,
                limits: Limits::default(),
                gate: Gate::default(),
            }),
            outbound: Context {
                store: Arc::clone(&store),
                key: key.clone(),
                routes: Arc::clone(&routes),
                pulse: pulse.clone(),
                doorbell,
                agents: self.agents,
                twilio: self.twilio,
                settings: Settings { workers: self.config.workers, drain: OUTBOUND_DRAIN },
            },
            admin: Arc::new(Admin {
                routes: Arc::clone(&routes),
                store: Arc::clone(&store),
                key: key.clone(),
                shutdown: shutdown.clone(),
            }),
            ports: Ports { public: self.public, admin: self.admin },
            source: (self.config.source, self.client),
            replica: self.replica,
            routes,
            store,
            pulse,
            key,
        }
    }
}

/// A gateway whose parts know each other.
struct Parts {
    inbound: Arc<Inbound>,
    outbound: Context,
    admin: Arc<Admin>,
    ports: Ports,
    source: (Source, Option<kube::Client>),
    replica: String,
    routes: Arc<RouteTable>,
    store: SharedStore,
    pulse: Pulse,
    key: LearnedKey,
}

struct Ports {
    public: TcpListener,
    admin: TcpListener,
}

impl Parts {
    /// The list of tasks. The two lines end when they are told to; what they need goes on until the
    /// last turn is over: routes, heartbeat, key, admin port.
    async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let (end, ended) = watch::channel(false);
        let mut background = JoinSet::new();
        let (source, client) = self.source;
        let table = Arc::clone(&self.routes);
        background.spawn(routes::follow(source, client, table, ended.clone()));
        let store = Arc::clone(&self.store);
        background.spawn(heartbeat::beat(
            self.replica,
            self.routes,
            store,
            self.pulse,
            ended.clone(),
        ));
        background.spawn(key::learn(self.store, self.key, ended.clone()));
        let limits = Limits { connections: ADMIN_CONNECTIONS, ..Limits::default() };
        let admin = admin::router(self.admin);
        background.spawn(server::run(self.ports.admin, admin, limits, ended));

        let public = inbound::router(self.inbound);
        let receiving = server::run(self.ports.public, public, Limits::default(), shutdown.clone());
        let sending = outbound::run(self.outbound, shutdown.clone());
        let told = async {
            stopped(&mut shutdown).await;
            emit(Event::Lifecycle { change: LifecycleChange::Draining });
        };
        tokio::join!(told, receiving, sending);
        end.send_replace(true);
        background.join_all().await;
    }
}

async fn open_redis(url: &SecretText) -> anyhow::Result<RedisStore> {
    RedisStore::open(url.expose(), redis::Settings::default()).await.context("--store")
}

/// A name of its own for each process: a pod that is started again is another replica.
fn replica(host: Option<&str>) -> String {
    format!("{}-{}", host.unwrap_or("gateway"), hex::encode(&random::bytes::<4>()))
}

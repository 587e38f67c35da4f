//! Opens what a gateway needs, hands its parts to each other, and holds the list of its tasks.
//!
//! Takes a configuration, gives a gateway whose ports are bound, opens its store and runs it until it is
//! told to stop. A stop makes it unready, claims nothing more, and finishes or gives back what runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kanarie_crds::route::SecretText;
use kanarie_words::hex;
use kanarie_words::ids::ReplicaName;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::admin;
use crate::admin::shared::Admin;
use crate::admin::unsynced::Unsynced;
use crate::calls;
use crate::clock::{WallClock, system_clock};
use crate::config::{Config, StoreChoice};
use crate::cut::Cuts;
use crate::deliveries::{self, Deliveries};
use crate::doorbell::Doorbell;
use crate::events::store::StoreEvent;
use crate::events::{Event, emit};
use crate::handover::Handover;
use crate::heartbeat::{self, Pulse};
use crate::inbound::admission::Gate;
use crate::inbound::{self, Inbound};
use crate::key::{self, LearnedKey};
use crate::labels::LifecycleChange;
use crate::levels::Levels;
use crate::loading;
use crate::loads::{self, FullChannels};
use crate::outbound;
use crate::outbound::agent::Agents;
use crate::outbound::context::{Context, Pace};
use crate::outbound::twilio::Twilio;
use crate::random;
use crate::reports::Reports;
use crate::routes;
use crate::routes::table::RouteTable;
use crate::server;
use crate::server::body::BodyBudget;
use crate::server::files;
use crate::server::limits::ClientLimits;
use crate::silence::Silence;
use crate::stop::{Signals, stopped};
use crate::store::embedded::EmbeddedStore;
use crate::store::embedded::opening::Opening;
use crate::store::redis;
use crate::store::redis::RedisStore;
use crate::store::redis::promise::Durability;
use crate::store::{SharedStore, Store};
use kanarie_process::listen;
use kanarie_process::tasks::{Ended, Living, Tasks};

/// Opens the ports, and starts nothing yet.
///
/// # Errors
/// What cannot be opened, and why.
pub async fn bind(config: Config) -> anyhow::Result<Gateway> {
    let client = config.source.client().await.context("cannot reach Kubernetes")?;
    let agents = Agents::new(config.agent_allow.clone());
    let twilio = Twilio::new(config.twilio_api_url.clone());
    Ok(Gateway {
        public: listen::bind(config.listen, without_ipv6).context("--listen")?,
        admin: listen::bind(config.admin_listen, without_ipv6).context("--admin-listen")?,
        agents: agents.context("cannot make the client of the agents")?,
        twilio: twilio.context("cannot make the client of Twilio")?,
        replica: replica(config.host.as_deref()),
        config,
        client,
        clock: system_clock(),
    })
}

fn without_ipv6(instead: SocketAddr) {
    emit(Event::WithoutIpv6 { instead });
}

/// A gateway whose ports are open.
pub struct Gateway {
    public: TcpListener,
    admin: TcpListener,
    agents: Agents,
    twilio: Twilio,
    replica: ReplicaName,
    config: Config,
    client: Option<kube::Client>,
    clock: WallClock,
}

/// What the parts of a gateway know each other by.
struct Shared {
    store: SharedStore,
    routes: Arc<RouteTable>,
    key: LearnedKey,
    pulse: Pulse,
    claimers: Living,
    cuts: Arc<Cuts>,
    doorbell: Arc<Doorbell>,
    handover: Handover,
    reports: Reports,
    deliveries: Deliveries,
    full: FullChannels,
    levels: Levels,
}

/// For turns that run when the gateway is told to stop. With five more for a POST that was begun at
/// its end it stays under the 30 s that pods have by default.
const OUTBOUND_DRAIN: Duration = Duration::from_secs(22);
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
    pub fn replica(&self) -> &ReplicaName {
        &self.replica
    }

    /// Opens the store, then runs until told to stop and everything is finished or given back.
    ///
    /// # Errors
    /// When the store cannot be opened, or a task ends that the gateway cannot do without; what was
    /// claimed is given back then too.
    pub async fn run(self, signals: Signals) -> anyhow::Result<()> {
        emit(Event::Lifecycle { change: LifecycleChange::Started });
        let opening = Arc::<Opening>::default();
        let opened = open_store(&self.config, &self.clock, &opening);
        let ports = [&self.public, &self.admin];
        let opened = loading::beside(ports, &opening, opened, signals.stop.clone()).await?;
        let finished = match opened {
            Some(store) => {
                let token = self.config.control_token.clone();
                self.supervise(Shared::over(Arc::new(store?), token), signals).await
            }
            None => {
                opening.stop();
                Ok(())
            }
        };
        match &finished {
            Ok(()) => emit(Event::Lifecycle { change: LifecycleChange::Stopped }),
            Err(ended) => emit(Event::TaskEnded { error: ended.to_string() }),
        }
        Ok(finished?)
    }

    /// The two lines end when they are told to; what they need goes on until the last turn is over.
    async fn supervise(self, shared: Shared, mut signals: Signals) -> Result<(), Ended> {
        let (stop, stopping) = watch::channel(false);
        let (hurry, hurrying) = watch::channel(false);
        let (end, ending) = watch::channel(false);
        let told = Signals { stop: stopping, hurry: hurrying };
        let (mut lines, mut beside) = self.start(shared, &told, &ending);

        let mut stop_told = signals.stop.clone();
        let failed = tokio::select! {
            told = lines.until(&mut signals.stop) => told,
            told = beside.until(&mut stop_told) => told,
        };
        emit(Event::Lifecycle { change: LifecycleChange::Draining });
        stop.send_replace(true);
        hurry.send_replace(failed.is_err());
        let drained = {
            let mut drained = pin!(lines.finish());
            tokio::select! {
                drained = drained.as_mut() => drained,
                () = stopped(&mut signals.hurry) => {
                    hurry.send_replace(true);
                    drained.await
                }
            }
        };
        end.send_replace(true);
        failed.and(drained).and(beside.finish().await)
    }

    /// The list of tasks: the two lines, and what goes on beside them.
    fn start(
        self,
        shared: Shared,
        told: &Signals,
        ending: &watch::Receiver<bool>,
    ) -> (Tasks, Tasks) {
        let config = self.config;
        let mut lines = Tasks::default();
        let inbound = shared.inbound(self.clock, config.idle);
        lines.spawn("public port", receive(self.public, inbound, told.clone()));
        let outbound =
            shared.outbound(self.replica.clone(), self.agents, self.twilio, config.turns);
        lines.supervise("outbound line", outbound::run(outbound, told.clone()));

        let mut beside = Tasks::default();
        let admin = admin::router(shared.admin(config.turns, told.stop.clone()));
        let limits = ClientLimits { connections: ADMIN_CONNECTIONS, ..ClientLimits::default() };
        beside.spawn("admin port", server::run(self.admin, admin, limits, ending.clone()));
        let Shared { store, routes, key, pulse, cuts, full, doorbell, deliveries, .. } = shared;
        let tell = deliveries::tell(deliveries, Arc::clone(&store), ending.clone());
        beside.spawn("what becomes of replies", tell);
        let others = calls::call(doorbell, Arc::clone(&store), pulse.clone(), ending.clone());
        beside.spawn("caller of other replicas", others);
        beside.spawn("disk of the store", whole(Arc::clone(&store), ending.clone()));
        let table = Arc::clone(&routes);
        let follow = routes::follow(config.source, self.client, table, ending.clone());
        beside.spawn("routes", follow);
        let learn = key::learn(Arc::clone(&store), key.clone(), ending.clone());
        beside.spawn("store's key", learn);
        let (table, asked) = (Arc::clone(&routes), Arc::clone(&store));
        let beat = heartbeat::beat(self.replica, key, table, asked, pulse, cuts, ending.clone());
        beside.spawn("heartbeat", beat);
        let watch = loads::watch(store, config.bounds, full, routes, ending.clone());
        beside.spawn("bounds of channels", watch);
        (lines, beside)
    }
}

impl Shared {
    /// The parts over a store, before anything happened.
    fn over(store: SharedStore, control_token: Option<SecretText>) -> Self {
        let routes = Arc::new(RouteTable::default());
        routes.set_control_token(control_token);
        Self {
            store,
            routes,
            key: LearnedKey::default(),
            pulse: Pulse::default(),
            claimers: Living::default(),
            cuts: Arc::new(Cuts::new(Silence::begin(Instant::now()))),
            doorbell: Arc::default(),
            handover: Handover::default(),
            reports: Reports::default(),
            deliveries: Deliveries::default(),
            full: FullChannels::default(),
            levels: Levels::default(),
        }
    }

    fn inbound(&self, clock: WallClock, idle: Duration) -> Arc<Inbound> {
        let limits = ClientLimits { idle, ..ClientLimits::default() };
        let limits = ClientLimits { connections: files::connections(limits.connections), ..limits };
        Arc::new(Inbound {
            routes: Arc::clone(&self.routes),
            store: Arc::clone(&self.store),
            key: self.key.clone(),
            pulse: self.pulse.clone(),
            doorbell: Arc::clone(&self.doorbell),
            handover: self.handover.clone(),
            reports: self.reports.clone(),
            deliveries: self.deliveries.clone(),
            full: self.full.clone(),
            clock,
            limits,
            bodies: BodyBudget::default(),
            gate: Gate::default(),
        })
    }

    fn outbound(
        &self,
        replica: ReplicaName,
        agents: Agents,
        twilio: Twilio,
        turns: u32,
    ) -> Context {
        Context {
            replica,
            store: Arc::clone(&self.store),
            key: self.key.clone(),
            routes: Arc::clone(&self.routes),
            pulse: self.pulse.clone(),
            claimers: self.claimers.clone(),
            cuts: Arc::clone(&self.cuts),
            doorbell: Arc::clone(&self.doorbell),
            handover: self.handover.clone(),
            reports: self.reports.clone(),
            full: self.full.clone(),
            levels: self.levels.clone(),
            agents,
            twilio,
            settings: Pace { turns, drain: OUTBOUND_DRAIN },
        }
    }

    fn admin(&self, turns: u32, shutdown: watch::Receiver<bool>) -> Arc<Admin> {
        Arc::new(Admin {
            routes: Arc::clone(&self.routes),
            store: Arc::clone(&self.store),
            key: self.key.clone(),
            pulse: self.pulse.clone(),
            claimers: (turns > 0).then(|| self.claimers.clone()),
            levels: self.levels.clone(),
            full: self.full.clone(),
            unsynced: Unsynced::default(),
            doorbell: Arc::clone(&self.doorbell),
            shutdown,
        })
    }
}

/// The public port: in a hurry, what is being answered is given up.
async fn receive(listener: TcpListener, inbound: Arc<Inbound>, mut signals: Signals) {
    let limits = inbound.limits;
    let router = inbound::router(inbound);
    tokio::select! {
        () = server::run(listener, router, limits, signals.stop) => {}
        () = stopped(&mut signals.hurry) => {}
    }
}

/// Ends with the store's disk: after a failed sync nobody knows what is on it.
async fn whole(store: SharedStore, mut ending: watch::Receiver<bool>) {
    tokio::select! {
        () = store.broken() => {}
        () = stopped(&mut ending) => {}
    }
}

async fn open_store(
    config: &Config,
    clock: &WallClock,
    opening: &Arc<Opening>,
) -> anyhow::Result<Store> {
    match &config.store {
        StoreChoice::Redis(url) => Ok(Store::Redis(open_redis(url, config.durability).await?)),
        StoreChoice::Embedded(path) => {
            let (clock, opening) = (Arc::clone(clock), Arc::clone(opening));
            let opened = open_embedded(path.clone(), config.store_memory, clock, opening).await;
            Ok(Store::Embedded(opened.context("--store")?))
        }
    }
}

/// On a thread of its own: it reads for minutes what was written in a day, and nobody waits for its end
/// when the process is to stop.
async fn open_embedded(
    path: PathBuf,
    memory: u64,
    clock: WallClock,
    opening: Arc<Opening>,
) -> anyhow::Result<EmbeddedStore> {
    let began = Instant::now();
    let (tell, told) = oneshot::channel();
    let progress = Arc::clone(&opening);
    std::thread::Builder::new().name("store-opening".to_owned()).spawn(move || {
        // Whoever waited may be gone.
        let _ = tell.send(EmbeddedStore::open_within(&path, Some(memory), clock, &opening));
    })?;
    let store = told.await.context("the thread that opens it ended")??;
    emit(StoreEvent::Opened { rows: progress.read(), took: began.elapsed() });
    Ok(store)
}

async fn open_redis(url: &SecretText, durability: Durability) -> anyhow::Result<RedisStore> {
    let settings = redis::Settings { durability, ..redis::Settings::default() };
    RedisStore::open(url.expose(), settings).await.context("--store")
}

/// A name of its own for each process: a pod that is started again is another replica.
fn replica(host: Option<&str>) -> ReplicaName {
    let name = |host| format!("{host}-{}", hex::encode(&random::bytes::<4>()));
    let named = host.and_then(|host| ReplicaName::parse(&name(host)).ok());
    named.unwrap_or_else(|| ReplicaName::parse(&name("gateway")).expect("a word and digits"))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use clap::Parser as _;
    use kanarie_queue::admit::Admit;
    use kanarie_words::ids::ConversationId;
    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;
    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;
    use crate::config::{Flags, config};
    use crate::routes::Source;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    async fn bound() -> (Gateway, TempDir) {
        // Another test may have chosen it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let store = format!("--store=embedded:{}", folder.path().display());
        let line = ["gateway", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", &store];
        let variable = |name: &str| {
            let value = match name {
                "TWILIO_ACCOUNT_SID" => "AC00000000000000000000000000000001",
                "TWILIO_AUTH_TOKEN" => "token",
                "TWILIO_WHATSAPP_NUMBER" => "+31201234567",
                "TWILIO_WEBHOOK_URL" => "https://hooks.example.com/webhooks/twilio/whatsapp",
                "AGENT_URL" => "https://agent.example.com/",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let config = config(&Line::parse_from(line).flags, &variable).unwrap();
        (bind(config).await.unwrap(), folder)
    }

    /// A disk whose syncs fail once it is told to.
    #[derive(Debug)]
    struct Disk {
        memory: InMemoryBackend,
        fails: Arc<AtomicBool>,
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            let fails = self.fails.load(Ordering::SeqCst);
            if fails { Err(io::Error::other("the sync failed")) } else { self.memory.sync_data() }
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.memory.write(offset, data)
        }
    }

    #[tokio::test]
    async fn a_gateway_whose_route_watch_ends_does_not_live_on() {
        let (mut gateway, _folder) = bound().await;
        // A watch without a client ends at once.
        gateway.config.source = Source::Namespace("routes".to_owned());
        let (stop, hurry) = (watch::Sender::new(false), watch::Sender::new(false));
        let signals = Signals { stop: stop.subscribe(), hurry: hurry.subscribe() };
        let ended = gateway.run(signals).await.unwrap_err().to_string();
        assert!(ended.contains("\"routes\" ended by itself"), "{ended}");
    }

    #[tokio::test]
    async fn a_gateway_whose_disk_failed_does_not_live_on() {
        let (gateway, _folder) = bound().await;
        let fails = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&fails);
        let disk = move || Disk { memory: InMemoryBackend::new(), fails: Arc::clone(&told) };
        let store = Arc::new(Store::Embedded(EmbeddedStore::over(disk, system_clock()).unwrap()));
        fails.store(true, Ordering::SeqCst);
        let message = Admit {
            channel: "uid-1".parse().unwrap(),
            dedup_key: "AC1:SM1".parse().unwrap(),
            conversation: ConversationId::from_bytes([0; 16]),
            envelope: "{}".to_owned(),
            limit: 50,
            window_ms: 60_000,
            dedup_ms: 300_000,
            lease: None,
        };
        assert!(store.run(message).await.is_err(), "nothing is told that may not be there");
        let (stop, hurry) = (watch::Sender::new(false), watch::Sender::new(false));
        let signals = Signals { stop: stop.subscribe(), hurry: hurry.subscribe() };
        let ended = gateway.supervise(Shared::over(store, None), signals);
        let ended = timeout(Duration::from_secs(60), ended).await.expect("it ends by itself");
        let ended = ended.unwrap_err().to_string();
        assert!(ended.contains("\"disk of the store\" ended by itself"), "{ended}");
    }
}

//! A gateway's second line with a store in memory, fake neighbours and a clock that tests move.
//!
//! Tokio's time is paused, and a blocking task keeps it from running by itself: real sockets, no
//! real waiting. The store's clock moves with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use kanarie_crds::route::{AgentRoute, ChannelRef, RevisionRoute, Route, SecretText, route_name};
use kanarie_fakes::customer::Account;
use kanarie_fakes::samples;
use kanarie_gateway::callback::SegmentId;
use kanarie_gateway::cut::Cuts;
use kanarie_gateway::deliveries::Deliveries;
use kanarie_gateway::doorbell::Doorbell;
use kanarie_gateway::envelope::{self, InboundMessage, MessageKind};
use kanarie_gateway::handover::Handover;
use kanarie_gateway::heartbeat::{self, Pulse};
use kanarie_gateway::key::LearnedKey;
use kanarie_gateway::levels::Levels;
use kanarie_gateway::loads::{Bounds, FullChannels};
use kanarie_gateway::outbound;
use kanarie_gateway::outbound::agent::Agents;
use kanarie_gateway::outbound::agent::address::Allow;
use kanarie_gateway::outbound::context::{Context, Pace};
use kanarie_gateway::outbound::twilio::Twilio;
use kanarie_gateway::reports::Reports;
use kanarie_gateway::routes::table::{RouteTable, Sighting};
use kanarie_gateway::silence::Silence;
use kanarie_gateway::stop::Signals;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::fleet::{Asked, Heartbeat, Obeyed};
use kanarie_gateway::store::{SharedStore, Store};
use kanarie_process::tasks::{Ended, Living};
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed};
use kanarie_queue::dead::{Load, SumDead};
use kanarie_queue::evidence::ReadCounts;
use kanarie_queue::lease::Lease;
use kanarie_queue::send::MarkSent;
use kanarie_words::ids::{ConversationId, Nonce};
use kanarie_words::weight::Weight;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::worker::twilio::{Created, FakeTwilio};

pub(crate) const UID: &str = "uid-1";
pub(crate) const SENDER: &str = "whatsapp:+14155238886";
/// 18 November 2025.
const START_MS: u64 = 1_763_460_000_000;

/// Everything that outlives a worker.
pub(crate) struct World {
    pub(crate) store: SharedStore,
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) twilio: FakeTwilio,
    now: Arc<AtomicU64>,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) reports: Reports,
    pub(crate) deliveries: Deliveries,
    cuts: Arc<Cuts>,
    pub(crate) full: FullChannels,
    pub(crate) key: LearnedKey,
    /// Turns at once.
    pub(crate) turns: u32,
    /// Workers that were started.
    replicas: AtomicU64,
    _still: Still,
}

/// A running worker.
pub(crate) struct Running {
    /// How the webhook brings a message to its turns.
    pub(crate) handover: Handover,
    /// How its turns stand.
    pub(crate) levels: Levels,
    stop: watch::Sender<bool>,
    hurry: watch::Sender<bool>,
    pub(crate) worker: JoinHandle<Result<(), Ended>>,
}

/// Keeps paused time from running ahead while this process waits for a socket.
struct Still(#[expect(dead_code, reason = "dropped at the end")] std::sync::mpsc::SyncSender<()>);

impl World {
    pub(crate) async fn start(route: Route) -> Self {
        let in_memory = |clock: Arc<AtomicU64>| {
            let clock = Arc::new(move || clock.load(Ordering::SeqCst));
            Store::Embedded(EmbeddedStore::in_memory(clock).unwrap())
        };
        Self::over(async |clock| in_memory(clock), route).await
    }

    /// The same over another store, which is made with the world's clock.
    pub(crate) async fn over(
        store: impl AsyncFnOnce(Arc<AtomicU64>) -> Store,
        route: Route,
    ) -> Self {
        let now = Arc::new(AtomicU64::new(START_MS));
        let store = Arc::new(store(Arc::clone(&now)).await);
        let _ = rustls::crypto::ring::default_provider().install_default();
        tokio::time::pause();
        let (sender, receiver) = std::sync::mpsc::sync_channel::<()>(0);
        tokio::task::spawn_blocking(move || receiver.recv());
        let world = Self {
            store,
            routes: Arc::default(),
            twilio: FakeTwilio::start(Arc::clone(&now)).await,
            now,
            doorbell: Arc::default(),
            reports: Reports::default(),
            deliveries: Deliveries::default(),
            cuts: Arc::new(Cuts::new(Silence::begin(Instant::now()))),
            full: FullChannels::default(),
            key: LearnedKey::default(),
            turns: 64,
            replicas: AtomicU64::new(0),
            _still: Still(sender),
        };
        world.key.set(world.store.key().await.unwrap());
        world.set_route(route);
        world
    }

    pub(crate) fn set_route(&self, route: Route) {
        let name = route_name(&route.account_sid, &route.sender);
        let seen = Sighting::Route(Box::new(route), "hash".parse().unwrap());
        self.routes.replace(vec![(name, seen)], Instant::now());
    }

    /// Says that somebody asks for the counts.
    pub(crate) fn ask_for_counts(&self) {
        let asked = Asked { age_ms: 0, gap_ms: 10_000 };
        self.cuts.silence().learn(Some(asked), Instant::now());
    }

    /// Says how many dead letters the channel has, of two.
    pub(crate) fn hold_dead_letters(&self, dead_letters: u64) {
        let load = Load { channel: UID.parse().unwrap(), messages: 0, bytes: 0, dead_letters };
        let bounds = Bounds { messages: 9, bytes: 9_000, dead_letters: 2 };
        self.full.take(&[load], bounds, &self.routes);
    }

    /// Adds another channel with a route of its own.
    pub(crate) fn add_route(&self, uid: &str, route: Route) {
        let (channel, sender) = (ChannelRef { uid: uid.parse().unwrap(), ..route.channel }, uid);
        let sender = format!("whatsapp:+{}", sender.len()).parse().unwrap();
        let route = Route { channel, sender, ..route };
        let name = route_name(&route.account_sid, &route.sender);
        let seen = Sighting::Route(Box::new(route), "hash".parse().unwrap());
        self.routes.update(vec![(name, seen)], Instant::now());
    }

    /// Starts a worker that may ask agents on this machine, and waits for its first heartbeat.
    pub(crate) async fn work(&self) -> Running {
        self.work_with(Allow::new(vec!["127.0.0.0/8".parse().unwrap()])).await
    }

    pub(crate) async fn work_with(&self, allow: Allow) -> Running {
        let (stop, stopped) = watch::channel(false);
        let pulse = Pulse::default();
        tokio::spawn(heartbeat::beat(
            format!("replica-{}", self.replicas.fetch_add(1, Ordering::SeqCst)).parse().unwrap(),
            self.key.clone(),
            Arc::clone(&self.routes),
            Arc::clone(&self.store),
            pulse.clone(),
            Arc::clone(&self.cuts),
            stopped.clone(),
        ));
        eventually("the first heartbeat", || pulse.is_fresh()).await;
        self.run(allow, pulse, stop)
    }

    /// Starts a worker that the store never heard of.
    pub(crate) fn work_unheard(&self) -> Running {
        self.run(Allow::default(), Pulse::default(), watch::Sender::new(false))
    }

    fn run(&self, allow: Allow, pulse: Pulse, stop: watch::Sender<bool>) -> Running {
        let (handover, levels) = (Handover::default(), Levels::default());
        let ctx = Context {
            replica: "replica".parse().unwrap(),
            handover: handover.clone(),
            store: self.store.clone(),
            key: self.key.clone(),
            routes: Arc::clone(&self.routes),
            pulse,
            claimers: Living::default(),
            full: self.full.clone(),
            levels: levels.clone(),
            cuts: Arc::clone(&self.cuts),
            doorbell: Arc::clone(&self.doorbell),
            reports: self.reports.clone(),
            agents: Agents::new(allow).unwrap(),
            twilio: Twilio::new(self.twilio.url.parse().unwrap()).unwrap(),
            settings: Pace { turns: self.turns, drain: Duration::from_secs(10) },
        };
        let hurry = watch::Sender::new(false);
        let signals = Signals { stop: stop.subscribe(), hurry: hurry.subscribe() };
        let worker = tokio::spawn(outbound::run(ctx, signals));
        Running { handover, levels, stop, hurry, worker }
    }

    /// Admits a message of a customer, as the webhook does.
    pub(crate) async fn admit(&self, customer: u8, sid: &str, text: &str) {
        self.admit_from(&format!("whatsapp:+1401000{customer:04}"), customer, sid, text).await;
    }

    /// The same, of a customer with this number.
    pub(crate) async fn admit_from(&self, number: &str, customer: u8, sid: &str, text: &str) {
        let message = self.message(number, sid, text);
        self.admit_to(UID, customer, sid, envelope::write(&message)).await;
    }

    /// A message as the webhook makes one.
    pub(crate) fn message(&self, number: &str, sid: &str, text: &str) -> InboundMessage {
        InboundMessage {
            sid: sid.parse().unwrap(),
            account: "AC1".parse().unwrap(),
            sender: SENDER.parse().unwrap(),
            customer: number.parse().unwrap(),
            text: text.to_owned(),
            media: Vec::new(),
            location: None,
            button: None,
            kind: MessageKind::Text,
            received_at: self.now.load(Ordering::SeqCst),
            namespace: Some("web".to_owned()),
        }
    }

    /// Admits an envelope for a channel.
    pub(crate) async fn admit_to(&self, uid: &str, customer: u8, sid: &str, envelope: String) {
        self.admit_elsewhere(uid, customer, sid, envelope).await;
        self.doorbell.ring(ConversationId::from_bytes([customer; 16]).shard());
    }

    /// The same as another replica does it: nobody rings here.
    pub(crate) async fn admit_elsewhere(
        &self,
        uid: &str,
        customer: u8,
        sid: &str,
        envelope: String,
    ) {
        let admit = admission(uid, customer, sid, envelope);
        assert_eq!(self.store.run(admit).await.unwrap(), Admission::Queued);
    }

    /// Another replica says that it lives.
    pub(crate) async fn meet_another_replica(&self) {
        let heartbeat = Heartbeat {
            replica: "another".parse().unwrap(),
            key: self.store.key().await.unwrap(),
            digest: "digest".parse().unwrap(),
            obeyed: Obeyed::new(),
            cut: BTreeSet::new(),
        };
        self.store.heartbeat(heartbeat).await.unwrap();
    }

    /// Twilio reports what became of a message, as the webhook takes it.
    pub(crate) async fn report(&self, created: &Created, status: &str) {
        let (_, query) = created.field("StatusCallback").split_once('?').unwrap();
        let id = SegmentId::in_query(query).unwrap();
        self.reports.note(&id, status);
        let shard = id.conversation.shard();
        let SegmentId { conversation, intent, segment } = id;
        let sid = created.sid.parse().unwrap();
        if self.store.run(MarkSent { conversation, intent, segment, sid }).await.unwrap() {
            self.doorbell.ring(shard);
        }
    }

    /// Lets time pass, for the workers and for the store.
    pub(crate) async fn pass(&self, seconds: u64) {
        // First what is under way gets where it waits for time.
        settle().await;
        for _ in 0..seconds {
            self.skip(1_000);
            tokio::time::advance(Duration::from_secs(1)).await;
            settle().await;
        }
    }

    /// Moves the store's clock alone.
    pub(crate) fn skip(&self, millis: u64) {
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    /// Puts the store's clock back.
    pub(crate) fn put_back(&self, millis: u64) {
        self.now.fetch_sub(millis, Ordering::SeqCst);
    }

    /// What was counted, as `serving:track:class` and a number, in order.
    pub(crate) async fn counts(&self) -> Vec<(String, u64)> {
        let channels = vec![UID.parse().unwrap()];
        let read = self.store.run(ReadCounts { channels }).await.unwrap();
        let mut found: Vec<_> = read
            .counts
            .into_iter()
            .flat_map(|counts| counts.messages)
            .map(|count| (count.evidence.field(), count.messages))
            .collect();
        found.sort();
        found
    }

    /// Waits for the first dead letter; gives its class.
    pub(crate) async fn buried(&self) -> String {
        for _ in 0..5_000 {
            if let Some((_, class)) = self.dead().await {
                return class;
            }
            breathe().await;
        }
        panic!("nothing was buried");
    }

    /// Waits until `count` outcomes are counted; gives them.
    pub(crate) async fn counted(&self, count: u64) -> Vec<(String, u64)> {
        for _ in 0..5_000 {
            let counts = self.counts().await;
            if counts.iter().map(|(_, messages)| messages).sum::<u64>() >= count {
                return counts;
            }
            breathe().await;
        }
        panic!("{count} outcomes were not counted");
    }

    /// Claims the head of a customer's conversation as a worker would that then dies.
    pub(crate) async fn claim(&self, customer: u8) -> Lease {
        let shard = ConversationId::from_bytes([customer; 16]).shard();
        let nonce = Nonce::parse(&format!("dies-{}", self.now.load(Ordering::SeqCst))).unwrap();
        let claim = Claim { shard, nonce: nonce.clone(), lease_ms: 15_000 };
        match self.store.run(claim).await.unwrap() {
            Claimed::Head(claim) => Lease {
                channel: claim.channel.clone(),
                conversation: claim.conversation.clone(),
                nonce,
            },
            Claimed::Nothing { .. } => panic!("there is nothing to claim"),
        }
    }

    /// Number and last class of the dead letters.
    pub(crate) async fn dead(&self) -> Option<(u64, String)> {
        let dead = self.store.run(SumDead).await.unwrap();
        dead.into_iter().next().map(|dead| (dead.count, dead.class))
    }
}

impl Running {
    /// Asks the worker to end, without waiting for it.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Asks the worker a second time.
    pub(crate) fn hurry(&self) {
        self.hurry.send_replace(true);
    }
}

/// A message of a customer on its way into the store.
pub(crate) fn admission(uid: &str, customer: u8, sid: &str, envelope: String) -> Admit {
    Admit {
        channel: uid.parse().unwrap(),
        dedup_key: sid.parse().unwrap(),
        conversation: ConversationId::from_bytes([customer; 16]),
        envelope,
        limit: 1_000,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
        lease: None,
    }
}

/// A route to one stable agent.
pub(crate) fn route(stable: AgentRoute) -> Route {
    let account = Account {
        sid: "AC1".to_owned(),
        token: "token".to_owned(),
        sender: SENDER.to_owned(),
        webhook_url: "https://wa.example.com/webhooks/twilio/whatsapp".to_owned(),
    };
    let sample = serde_json::from_value(samples::route(&account)).unwrap();
    Route { serving: 7, stable: revision("one", stable), ..sample }
}

/// A route with every conversation on a canary.
pub(crate) fn canary_route(stable: AgentRoute, canary: AgentRoute) -> Route {
    Route { weight: Weight::FULL, canary: Some(revision("two", canary)), ..route(stable) }
}

pub(crate) fn revision(name: &str, agent: AgentRoute) -> RevisionRoute {
    let agent = serde_json::to_value(agent).unwrap();
    serde_json::from_value(samples::revision(name, agent)).unwrap()
}

pub(crate) fn http(url: &str) -> AgentRoute {
    AgentRoute::Http {
        url: url.to_owned(),
        service_ref: None,
        token: Some(SecretText::new("secret")),
    }
}

pub(crate) fn graph(url: &str, assistant: &str) -> AgentRoute {
    AgentRoute::LangGraph {
        url: url.to_owned(),
        service_ref: None,
        assistant_id: assistant.to_owned(),
        api_key: None,
    }
}

/// Serves on a free port of this machine for as long as the test runs.
pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Waits, without letting time pass, until something is true.
pub(crate) async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if is_true() {
            return;
        }
        breathe().await;
    }
    panic!("{what} did not happen");
}

/// Lets at most so many seconds pass until something is true.
pub(crate) async fn within(world: &World, seconds: u64, what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..seconds {
        // Sockets take real time, whatever the clock says.
        for _ in 0..10 {
            if is_true() {
                return;
            }
            breathe().await;
        }
        world.pass(1).await;
    }
    panic!("{what} did not happen within {seconds} seconds");
}

async fn settle() {
    for _ in 0..5 {
        breathe().await;
    }
}

/// Lets sockets and the store's thread get on with their work.
pub(crate) async fn breathe() {
    let pause = || std::thread::park_timeout(Duration::from_millis(2));
    tokio::task::spawn_blocking(pause).await.unwrap();
}

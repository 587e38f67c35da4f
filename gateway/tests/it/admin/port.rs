//! The admin port of a gateway that has a store, in memory if nobody says another, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use kanarie_crds::control::ControlState;
use kanarie_crds::route::SecretText;
use kanarie_gateway::admin::shared::Admin;
use kanarie_gateway::admin::unsynced::Unsynced;
use kanarie_gateway::admin::{control, router};
use kanarie_gateway::cut::Cuts;
use kanarie_gateway::doorbell::Doorbell;
use kanarie_gateway::heartbeat::{Pulse, beat};
use kanarie_gateway::key::LearnedKey;
use kanarie_gateway::levels::Levels;
use kanarie_gateway::loads::FullChannels;
use kanarie_gateway::routes::table::RouteTable;
use kanarie_gateway::silence::Silence;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::fleet::Heartbeat;
use kanarie_gateway::store::{SharedStore, Store};
use kanarie_process::tasks::{Alive, Living};
use kanarie_queue::admit::Admit;
use kanarie_queue::claim::{Claim, Claimed};
use kanarie_queue::dead::Bury;
use kanarie_queue::evidence::EndAttempt;
use kanarie_queue::lease::Lease;
use kanarie_queue::outcome::Evidence;
use kanarie_words::class::Class;
use kanarie_words::ids::{ConversationId, Nonce, SHARDS};
use kanarie_words::track::Track;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

/// An admin port, its router without a socket, and the parts of the gateway behind it.
pub(crate) struct Port {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) store: SharedStore,
    pub(crate) key: LearnedKey,
    pub(crate) pulse: Pulse,
    pub(crate) claimers: Living,
    pub(crate) full: FullChannels,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) router: axum::Router,
}

impl Port {
    pub(crate) fn new() -> Self {
        Self::over(Store::Embedded(EmbeddedStore::in_memory(Arc::new(|| 50_000)).unwrap()))
    }

    pub(crate) fn over(store: Store) -> Self {
        let store: SharedStore = Arc::new(store);
        let (routes, key) = (Arc::new(RouteTable::default()), LearnedKey::default());
        let (pulse, claimers) = (Pulse::default(), Living::default());
        let full = FullChannels::default();
        let doorbell = Arc::<Doorbell>::default();
        let (stop, shutdown) = watch::channel(false);
        let router = router(Arc::new(Admin {
            routes: Arc::clone(&routes),
            store: Arc::clone(&store),
            key: key.clone(),
            pulse: pulse.clone(),
            claimers: Some(claimers.clone()),
            levels: Levels::default(),
            full: full.clone(),
            unsynced: Unsynced::default(),
            doorbell: Arc::clone(&doorbell),
            shutdown,
        }));
        Self { routes, store, key, pulse, claimers, full, doorbell, stop, router }
    }

    pub(crate) fn beat_until(
        &self,
        ending: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + use<> {
        let (table, store) = (Arc::clone(&self.routes), Arc::clone(&self.store));
        let (key, pulse) = (self.key.clone(), self.pulse.clone());
        let cuts = Arc::new(Cuts::new(Silence::begin(Instant::now())));
        beat("replica".parse().unwrap(), key, table, store, pulse, cuts, ending)
    }

    /// Gives it everything that it needs to be ready, the heartbeat once.
    pub(crate) async fn complete(&self) -> Vec<Alive> {
        self.routes.replace(Vec::new(), Instant::now());
        self.key.set(self.store.key().await.unwrap());
        let (end, ending) = watch::channel(false);
        let beat = tokio::spawn(self.beat_until(ending));
        while !self.pulse.is_fresh() {
            tokio::task::yield_now().await;
        }
        end.send_replace(true);
        beat.await.unwrap();
        (0..SHARDS).map(|_| self.claimers.one()).collect()
    }

    pub(crate) async fn get(&self, path: &str, authorization: Option<&str>) -> (u16, String) {
        self.ask("GET", path, authorization, "").await
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: &str,
    ) -> (u16, String) {
        self.send(method, path, authorization, Body::from(body.to_owned())).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: Body,
    ) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let request = request.body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn state(&self, query: &str) -> ControlState {
        self.routes.set_control_token(Some(SecretText::new("t")));
        let path = format!("{}{query}", control::PATH);
        let (status, body) = self.get(&path, Some("Bearer t")).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(crate) async fn beat(&self, replica: &str, digest: &str, held: &[(&str, u64, &str)]) {
        let obeyed = held
            .iter()
            .map(|(uid, serving, hash)| (uid.parse().unwrap(), (*serving, hash.parse().unwrap())));
        let heartbeat = Heartbeat {
            replica: replica.parse().unwrap(),
            key: self.store.key().await.unwrap(),
            digest: digest.parse().unwrap(),
            obeyed: obeyed.collect(),
            cut: BTreeSet::new(),
        };
        self.store.heartbeat(heartbeat).await.unwrap();
    }

    /// A message of the channel, claimed.
    pub(crate) async fn claimed(&self, channel: &str) -> Lease {
        let conversation = ConversationId::from_bytes([0; 16]);
        let admit = Admit {
            channel: channel.parse().unwrap(),
            dedup_key: "AC:SM".parse().unwrap(),
            conversation: conversation.clone(),
            envelope: "{}".to_owned(),
            limit: 50,
            window_ms: 60_000,
            dedup_ms: 300_000,
            lease: None,
        };
        self.store.run(admit).await.unwrap();
        let nonce: Nonce = "n".parse().unwrap();
        let claim = Claim { shard: 0, nonce: nonce.clone(), lease_ms: 15_000 };
        let claimed = self.store.run(claim).await.unwrap();
        assert!(matches!(claimed, Claimed::Head(_)));
        Lease { channel: channel.parse().unwrap(), conversation, nonce }
    }

    /// A message that the canary fails, its lease kept.
    pub(crate) async fn fail_once(&self, channel: &str) -> Lease {
        let lease = self.claimed(channel).await;
        let evidence = Some(Evidence { serving: 3, track: Track::Canary, class: Class::Timeout });
        let failed_on = Some("r2".parse().unwrap());
        self.store.run(EndAttempt { lease: lease.clone(), evidence, failed_on }).await.unwrap();
        lease
    }

    pub(crate) async fn bury_once(&self, channel: &str) {
        self.bury(channel, "http").await;
    }

    pub(crate) async fn bury(&self, channel: &str, class: &str) {
        let lease = self.claimed(channel).await;
        self.store.run(Bury { lease, class: class.to_owned() }).await.unwrap();
    }

    /// Waits for a look at the loads that finds so many dead letters; it must be one of the next few.
    pub(crate) async fn looked_until(&self, is_expected: impl Fn(u64) -> bool) {
        // Only here: elsewhere the store's own thread would be too slow for a clock that runs ahead.
        tokio::time::pause();
        for _ in 0..100 {
            if is_expected(self.full.loads().iter().map(|load| load.dead_letters).sum()) {
                tokio::time::resume();
                return;
            }
            // Answered after the look that was asked for before it.
            self.store.ping().await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        unreachable!("nobody looked");
    }
}

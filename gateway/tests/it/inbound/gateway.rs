//! A gateway's inbound line with one channel, and requests as Twilio signs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use kanarie_crds::route::{Route, route_name};
use kanarie_fakes::customer::Account;
use kanarie_fakes::samples;
use kanarie_fakes::signer::sign_body;
use kanarie_gateway::callback::SegmentId;
use kanarie_gateway::deliveries::Deliveries;
use kanarie_gateway::doorbell::Doorbell;
use kanarie_gateway::handover::Handover;
use kanarie_gateway::heartbeat::Pulse;
use kanarie_gateway::inbound::admission::Gate;
use kanarie_gateway::inbound::{Inbound, router};
use kanarie_gateway::key::LearnedKey;
use kanarie_gateway::loads::{self, Bounds, FullChannels};
use kanarie_gateway::reports::Reports;
use kanarie_gateway::routes::table::{RouteTable, Sighting};
use kanarie_gateway::server::body::BodyBudget;
use kanarie_gateway::server::limits::ClientLimits;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::error::StoreError;
use kanarie_gateway::store::{SharedStore, Store};
use kanarie_queue::claim::{Claim, Claimed, Head};
use kanarie_queue::intent::{Intent, Memo, Post};
use kanarie_queue::lease::Lease;
use kanarie_queue::send::{CommitReply, Complete, MarkSending, Marked};
use kanarie_words::ids::{Nonce, SHARDS, StoreKey};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt as _;

pub(crate) const ACCOUNT: &str = "AC00000000000000000000000000000001";
pub(crate) const SENDER: &str = "whatsapp:+31201234567";
pub(crate) const CUSTOMER: &str = "whatsapp:+31612345678";
pub(crate) const TOKEN: &str = "token-of-the-channel";
pub(crate) const ORIGIN: &str = "https://hooks.example.com";
pub(crate) const MESSAGES: &str = "/webhooks/twilio/whatsapp";
pub(crate) const STATUS: &str = "/webhooks/twilio/status";

pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) struct Gateway {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) store: SharedStore,
    pub(crate) doorbell: Arc<Doorbell>,
    pub(crate) handover: Handover,
    pub(crate) reports: Reports,
    pub(crate) deliveries: Deliveries,
    pub(crate) full: FullChannels,
    pub(crate) pulse: Pulse,
    pub(crate) public: Router,
}

pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        let routes = RouteTable::default();
        let seen = Sighting::Route(Box::new(route()), "hash".parse().unwrap());
        routes.replace(
            vec![(route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap()), seen)],
            Instant::now(),
        );
        Self::with_table(routes)
    }

    pub(crate) fn with_table(routes: RouteTable) -> Self {
        let now = AtomicU64::new(1_000_000);
        let clock: kanarie_gateway::clock::WallClock =
            Arc::new(move || now.load(Ordering::Relaxed));
        let store = EmbeddedStore::in_memory(Arc::clone(&clock)).unwrap();
        let store: SharedStore = Arc::new(Store::Embedded(store));
        let (routes, doorbell) = (Arc::new(routes), Arc::new(Doorbell::default()));
        let (key, full) = (LearnedKey::default(), FullChannels::default());
        let (reports, handover) = (Reports::default(), Handover::default());
        let deliveries = Deliveries::default();
        let pulse = Pulse::default();
        key.set(StoreKey::from_bytes(KEY));
        let public = router(Arc::new(Inbound {
            routes: Arc::clone(&routes),
            store: Arc::clone(&store),
            key,
            doorbell: Arc::clone(&doorbell),
            handover: handover.clone(),
            clock,
            limits: ClientLimits::default(),
            bodies: BodyBudget::default(),
            reports: reports.clone(),
            deliveries: deliveries.clone(),
            gate: Gate::default(),
            full: full.clone(),
            pulse: pulse.clone(),
        }));
        Self { routes, store, doorbell, handover, reports, deliveries, full, pulse, public }
    }

    pub(crate) async fn message(&self, body: &str) -> Told {
        self.signed(MESSAGES, body).await
    }

    pub(crate) async fn signed(&self, target: &str, body: &str) -> Told {
        let signature = sign_body(TOKEN, &url(target), body.as_bytes());
        self.post(target, body, &[("x-twilio-signature", &signature)]).await
    }

    pub(crate) async fn post(&self, target: &str, body: &str, headers: &[(&str, &str)]) -> Told {
        let mut request = Request::post(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.told(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn told(&self, request: Request<Body>) -> Told {
        let (parts, body) = self.public.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Told {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Asks for a path as nobody at Twilio does.
    pub(crate) async fn asked(&self, method: &str, target: &str) -> Told {
        let request = Request::builder().method(method).uri(target).body(Body::empty()).unwrap();
        self.told(request).await
    }

    /// Looks once at what the store holds.
    pub(crate) async fn look(&self, bounds: Bounds) -> &FullChannels {
        let (store, full) = (Arc::clone(&self.store), self.full.clone());
        let (end, ending) = watch::channel(false);
        let watching = loads::watch(store, bounds, full, Arc::clone(&self.routes), ending);
        tokio::join!(watching, async { end.send_replace(true) });
        &self.full
    }

    /// Claims and completes everything there is.
    pub(crate) async fn queued(&self) -> Vec<Head> {
        let mut heads = Vec::new();
        for shard in 0..SHARDS {
            loop {
                let nonce = Nonce::parse(&format!("{shard}-{}", heads.len())).unwrap();
                let claim = Claim { shard, nonce, lease_ms: 15_000 };
                match self.store.run(claim).await.unwrap() {
                    Claimed::Head(head) => {
                        self.store
                            .run(Complete { lease: lease(&head), outcome: None })
                            .await
                            .unwrap();
                        heads.push(*head);
                    }
                    Claimed::Nothing { .. } => break,
                }
            }
        }
        heads
    }

    pub(crate) async fn mark(
        &self,
        lease: Lease,
        id: SegmentId,
        attempt: &str,
    ) -> Result<Marked, StoreError> {
        let SegmentId { intent, segment, .. } = id;
        let post = Post { intent, segment, attempt: attempt.parse().unwrap() };
        self.store.run(MarkSending { lease, post, refuted: None }).await
    }

    /// A reply of one segment whose POST may be under way.
    pub(crate) async fn sending(&self) -> (Lease, SegmentId) {
        assert_eq!(self.message(&text("SM1", "Hallo")).await.status, 200);
        for shard in 0..SHARDS {
            let claim = Claim { shard, nonce: "n".parse().unwrap(), lease_ms: 15_000 };
            if let Claimed::Head(head) = self.store.run(claim).await.unwrap() {
                let lease = lease(&head);
                let intent = Intent::fresh("abc".parse().unwrap(), 1, String::new());
                let (outcome, memo) = (None, Memo::default());
                let commit =
                    CommitReply { lease: lease.clone(), intent, outcome, memo, mark: None };
                self.store.run(commit).await.unwrap();
                let (conversation, intent) = (head.conversation, "abc".parse().unwrap());
                let id = SegmentId { conversation, intent, segment: 0 };
                assert_eq!(self.mark(lease.clone(), id.clone(), "a").await, Ok(Marked::Go));
                return (lease, id);
            }
        }
        unreachable!("the message that was just acknowledged is in one of the shards");
    }
}

pub(crate) fn lease(head: &Head) -> Lease {
    Lease {
        channel: head.channel.clone(),
        conversation: head.conversation.clone(),
        nonce: head.nonce.clone(),
    }
}

pub(crate) fn url(target: &str) -> String {
    format!("{ORIGIN}{target}")
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub(crate) fn text(sid: &str, text: &str) -> String {
    form(&[
        ("MessageSid", sid),
        ("AccountSid", ACCOUNT),
        ("To", SENDER),
        ("From", CUSTOMER),
        ("Body", text),
        ("SmsStatus", "received"),
    ])
}

pub(crate) fn callback(sid: &str) -> String {
    form(&[
        ("MessageSid", sid),
        ("AccountSid", ACCOUNT),
        ("To", CUSTOMER),
        ("From", SENDER),
        ("MessageStatus", "delivered"),
    ])
}

pub(crate) fn route() -> Route {
    let account = Account {
        sid: ACCOUNT.to_owned(),
        token: TOKEN.to_owned(),
        sender: SENDER.to_owned(),
        webhook_url: url(MESSAGES),
    };
    serde_json::from_value(samples::route(&account)).unwrap()
}

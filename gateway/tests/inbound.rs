//! The inbound line from request to answer, over a store in memory: what each request is answered
//! and what it leaves in the queue.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use kanarie_crds::route::{
    AgentRoute, ChannelRef, Credentials, RevisionRoute, Route, RouteLimits, SecretText, route_name,
};
use kanarie_gateway::callback::SegmentId;
use kanarie_gateway::cut::Cuts;
use kanarie_gateway::doorbell::Doorbell;
use kanarie_gateway::envelope;
use kanarie_gateway::heartbeat::{Pulse, beat};
use kanarie_gateway::inbound::admission::Gate;
use kanarie_gateway::inbound::signature::sign;
use kanarie_gateway::inbound::{Inbound, router};
use kanarie_gateway::key::{LearnedKey, conversation};
use kanarie_gateway::loads::{self, Bounds, FullChannels};
use kanarie_gateway::reports::Reports;
use kanarie_gateway::routes::table::{DOUBT_FOR, RouteTable, Sighting};
use kanarie_gateway::server::limits::ClientLimits;
use kanarie_gateway::silence::Silence;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::error::StoreError;
use kanarie_gateway::store::{SharedStore, Store};
use kanarie_queue::claim::{Claim, Claimed, Head};
use kanarie_queue::dead::Load;
use kanarie_queue::intent::{Intent, Memo, Post};
use kanarie_queue::lease::Lease;
use kanarie_queue::send::{CommitReply, Complete, MarkSending, Marked};
use kanarie_words::ids::{ChannelUid, Nonce, SHARDS, StoreKey};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt as _;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const SENDER: &str = "whatsapp:+31201234567";
const CUSTOMER: &str = "whatsapp:+31612345678";
const TOKEN: &str = "token-of-the-channel";
const ORIGIN: &str = "https://hooks.example.com";
const MESSAGES: &str = "/webhooks/twilio/whatsapp";
const STATUS: &str = "/webhooks/twilio/status";

#[tokio::test]
async fn a_signed_message_is_acknowledged_and_queued() {
    let gateway = Gateway::new();
    let answer = gateway.message(&text("SM1", "Hallo")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/xml; charset=utf-8");
    let queued = gateway.queued().await;
    assert_eq!(queued.len(), 1);
    assert_eq!(queued[0].channel, "uid-1");
    let message = envelope::read(&queued[0].envelope).unwrap();
    assert_eq!((message.sid.as_str(), message.text.as_str()), ("SM1", "Hallo"));
    assert_eq!((message.customer.as_str(), message.received_at), (CUSTOMER, 1_000_000));
    let key = StoreKey::from_bytes(KEY);
    assert_eq!(
        queued[0].conversation,
        conversation(key, &message.account, &message.sender, &message.customer)
    );
}

#[tokio::test]
async fn a_queued_message_rings_the_bell_of_its_shard() {
    let gateway = Gateway::new();
    gateway.message(&text("SM1", "Hallo")).await;
    let shard = gateway.queued().await[0].conversation.shard();
    gateway.doorbell.rung(shard).await;
}

#[tokio::test]
async fn a_repeated_message_is_acknowledged_but_not_queued_twice() {
    let gateway = Gateway::new();
    for _ in 0..3 {
        assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
    }
    assert_eq!(gateway.queued().await.len(), 1);
}

#[tokio::test]
async fn the_51st_message_of_a_minute_is_told_to_slow_down() {
    let gateway = Gateway::new();
    for index in 0..50 {
        assert_eq!(gateway.message(&text(&format!("SM{index}"), "x")).await.status, 200);
    }
    let answer = gateway.message(&text("SM51", "x")).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.body, "Too many requests, please slow down");
    assert_eq!(answer.headers["retry-after"], "60");
    assert_eq!(gateway.message(&text("SM1", "x")).await.status, 200, "a duplicate costs nothing");
}

#[tokio::test]
async fn a_channel_that_holds_as_much_as_it_may_is_refused_by_itself() {
    let gateway = Gateway::new();
    let bounds = Bounds { messages: 2, bytes: 1_000_000, dead_letters: 10 };
    let of = |uid: &str, messages| {
        let channel = ChannelUid::parse(uid).unwrap();
        [Load { channel, messages, bytes: 0, dead_letters: 0 }]
    };
    gateway.full.take(&of("uid-2", 2), bounds, &gateway.routes);
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200, "a neighbour is full");
    gateway.full.take(&of("uid-1", 2), bounds, &gateway.routes);
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 503);
    assert_eq!(gateway.signed(STATUS, &callback("SM9")).await.status, 200, "its replies go on");
    assert_eq!(gateway.post(MESSAGES, &text("SM2", "Hallo"), &[]).await.status, 403);
    gateway.full.take(&of("uid-1", 1), bounds, &gateway.routes);
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 200);
    assert_eq!(gateway.queued().await.len(), 2);
}

#[tokio::test]
async fn what_the_store_holds_of_a_channel_makes_it_full_and_gives_it_room_again() {
    let gateway = Gateway::new();
    let bounds = Bounds { messages: 2, bytes: 1_000_000, dead_letters: 10 };
    let uid = ChannelUid::parse("uid-1").unwrap();
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
    assert!(!gateway.look(bounds).await.is_full(&uid));
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 200);
    assert!(gateway.look(bounds).await.is_full(&uid));
    assert_eq!(gateway.message(&text("SM3", "Hallo")).await.status, 503);
    assert_eq!(gateway.queued().await.len(), 2);
    assert!(!gateway.look(bounds).await.is_full(&uid));
    assert_eq!(gateway.message(&text("SM3", "Hallo")).await.status, 200);
}

#[tokio::test]
async fn a_forged_message_is_refused_and_leaves_nothing() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let forged = sign(&SecretText::new("another"), &url(MESSAGES), body.as_bytes());
    let answer = gateway.post(MESSAGES, &body, &[("x-twilio-signature", &forged)]).await;
    assert_eq!((answer.status, answer.body.as_str()), (403, "Forbidden"));
    assert!(gateway.queued().await.is_empty());
}

#[tokio::test]
async fn a_message_for_nobody_is_refused_like_a_forged_one() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo").replace("31201234567", "31201234568");
    let answer = gateway.message(&body).await;
    assert_eq!((answer.status, answer.body.as_str()), (403, "Forbidden"));
    assert_eq!(gateway.post(MESSAGES, "", &[]).await.status, 403);
}

#[tokio::test]
async fn two_signature_headers_are_refused() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let signature = sign(&SecretText::new(TOKEN), &url(MESSAGES), body.as_bytes());
    let twice = [("x-twilio-signature", signature.as_str()), ("x-twilio-signature", &signature)];
    assert_eq!(gateway.post(MESSAGES, &body, &twice).await.status, 403);
}

#[tokio::test]
async fn the_query_is_signed_exactly_as_it_is_received() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let target = "/webhooks/twilio/whatsapp?tenant=a%20b+c&x";
    assert_eq!(gateway.signed(target, &body).await.status, 200);
    let signature = sign(&SecretText::new(TOKEN), &url(MESSAGES), body.as_bytes());
    let other = gateway.post(target, &body, &[("x-twilio-signature", &signature)]).await;
    assert_eq!(other.status, 403);
}

#[tokio::test]
async fn forwarded_headers_change_nothing() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let signature = sign(&SecretText::new(TOKEN), "http://evil.example/p", body.as_bytes());
    let headers = [
        ("x-twilio-signature", signature.as_str()),
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-prefix", "/p"),
    ];
    assert_eq!(gateway.post(MESSAGES, &body, &headers).await.status, 403);
}

#[tokio::test]
async fn before_the_routes_are_known_nobody_is_refused() {
    let gateway = Gateway::with_table(RouteTable::default());
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 503);
    assert_eq!(gateway.post(MESSAGES, "forged", &[]).await.status, 503);
}

#[tokio::test]
async fn nothing_is_admitted_by_a_key_that_the_store_no_longer_has() {
    let gateway = Gateway::new();
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
    assert_ne!(gateway.store.key().await.unwrap(), StoreKey::from_bytes(KEY));
    let (key, (end, ending)) = (LearnedKey::default(), watch::channel(false));
    key.set(StoreKey::from_bytes(KEY));
    let (routes, store) = (Arc::clone(&gateway.routes), Arc::clone(&gateway.store));
    let (replica, pulse) = ("replica".parse().unwrap(), gateway.pulse.clone());
    let cuts = Arc::new(Cuts::new(Silence::begin(Instant::now())));
    let beating = tokio::spawn(beat(replica, key, routes, store, pulse, cuts, ending));
    while !gateway.pulse.has_other_key() {
        tokio::task::yield_now().await;
    }
    assert!(!gateway.pulse.is_fresh(), "nothing is claimed either");
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 503);
    end.send_replace(true);
    beating.await.unwrap();
}

#[tokio::test]
async fn a_message_of_a_route_that_cannot_be_read_may_be_sent_again() {
    let routes = RouteTable::default();
    let name = route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap());
    routes.replace(vec![(name.clone(), Sighting::Unreadable)], Instant::now());
    let gateway = Gateway::with_table(routes);
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 503);
    assert_eq!(gateway.signed(STATUS, &callback("SM9")).await.status, 503);
    let stranger = text("SM1", "Hallo").replace("31201234567", "31201234568");
    assert_eq!(gateway.message(&stranger).await.status, 403);
    let seen = Sighting::Route(Box::new(route()), "hash".parse().unwrap());
    gateway.routes.update(vec![(name, seen)], Instant::now());
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn while_the_source_cannot_be_read_a_stranger_may_be_one_of_ours() {
    let gateway = Gateway::new();
    let stranger = text("SM1", "Hallo").replace("31201234567", "31201234568");
    gateway.routes.doubt(Instant::now());
    assert_eq!(gateway.message(&stranger).await.status, 503);
    assert_eq!(gateway.post(MESSAGES, &text("SM1", "Hallo"), &[]).await.status, 403, "known");
    assert_eq!(gateway.post(MESSAGES, "", &[]).await.status, 403, "names nobody");
    gateway.routes.trust();
    assert_eq!(gateway.message(&stranger).await.status, 403);
    gateway.routes.doubt(Instant::now());
    tokio::time::advance(DOUBT_FOR).await;
    assert_eq!(gateway.message(&stranger).await.status, 403);
}

#[tokio::test]
async fn a_message_of_a_channel_that_has_just_gone_is_verified_and_not_accepted() {
    let gateway = Gateway::new();
    let gone = (route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap()), Sighting::Gone);
    gateway.routes.update(vec![gone], Instant::now());
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 503);
    assert_eq!(gateway.post(MESSAGES, &text("SM1", "Hallo"), &[]).await.status, 403);
    assert!(gateway.queued().await.is_empty());
}

#[tokio::test]
async fn an_unknown_kind_of_message_is_acknowledged_and_not_queued() {
    let gateway = Gateway::new();
    let body = format!("{}&MessageType=reaction", text("SM1", "x"));
    assert_eq!(gateway.message(&body).await.status, 200);
    assert!(gateway.queued().await.is_empty());
}

#[tokio::test]
async fn a_signed_body_that_is_no_message_is_a_bad_request() {
    let gateway = Gateway::new();
    let body = text("SM1", "x").replace("MessageSid", "Other");
    assert_eq!(gateway.message(&body).await.status, 400);
}

#[tokio::test]
async fn a_message_that_whatsapp_cannot_carry_takes_no_room_in_the_queue() {
    let gateway = Gateway::new();
    let longest = "\u{1f44d}".repeat(4_096);
    assert_eq!(gateway.message(&text("SM1", &longest)).await.status, 200);
    assert_eq!(gateway.message(&text("SM2", &"\u{1f44d}".repeat(8_200))).await.status, 413);
    assert_eq!(gateway.queued().await.len(), 1);
}

#[tokio::test]
async fn a_status_callback_on_the_message_url_is_acknowledged_and_is_no_message() {
    let gateway = Gateway::new();
    assert_eq!(gateway.signed(MESSAGES, &callback("SM9")).await.status, 200);
    assert!(gateway.queued().await.is_empty());
}

#[tokio::test]
async fn a_message_on_the_status_url_is_refused() {
    let gateway = Gateway::new();
    assert_eq!(gateway.signed(STATUS, &text("SM1", "x")).await.status, 403);
}

#[tokio::test]
async fn a_status_callback_settles_the_send_it_names() {
    for target in [STATUS, MESSAGES] {
        let gateway = Gateway::new();
        let (lease, id) = gateway.sending().await;
        let target = format!("{target}?kanarie-reply={id}");
        let mut report = gateway.reports.expect(id.clone());
        assert_eq!(gateway.signed(&target, &callback("SM9")).await.status, 200);
        // Its conversation goes on at once, and so does the turn that waits for the report.
        gateway.doorbell.rung(id.conversation.shard()).await;
        report.gone().await;
        let marked = gateway.mark(lease, id, "b").await;
        assert_eq!(marked, Ok(Marked::Sent), "{target}");
    }
}

#[tokio::test]
async fn a_forged_status_callback_settles_nothing() {
    let gateway = Gateway::new();
    let (lease, id) = gateway.sending().await;
    let target = format!("{STATUS}?o={id}");
    assert_eq!(gateway.post(&target, &callback("SM9"), &[]).await.status, 403);
    let marked = gateway.mark(lease, id, "b").await;
    assert!(matches!(marked, Ok(Marked::Ambiguous { .. })));
}

#[tokio::test]
async fn a_status_callback_without_an_id_of_ours_is_acknowledged() {
    let gateway = Gateway::new();
    for query in ["", "?o=", "?o=x.y.z", "?other=1"] {
        let target = format!("{STATUS}{query}");
        assert_eq!(gateway.signed(&target, &callback("SM9")).await.status, 200, "{query}");
    }
}

const KEY: [u8; 32] = [7; 32];

struct Gateway {
    routes: Arc<RouteTable>,
    store: SharedStore,
    doorbell: Arc<Doorbell>,
    reports: Reports,
    full: FullChannels,
    pulse: Pulse,
    public: Router,
}

struct Told {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Gateway {
    fn new() -> Self {
        let routes = RouteTable::default();
        let seen = Sighting::Route(Box::new(route()), "hash".parse().unwrap());
        routes.replace(
            vec![(route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap()), seen)],
            Instant::now(),
        );
        Self::with_table(routes)
    }

    fn with_table(routes: RouteTable) -> Self {
        let now = AtomicU64::new(1_000_000);
        let clock: kanarie_gateway::clock::WallClock =
            Arc::new(move || now.load(Ordering::Relaxed));
        let store = EmbeddedStore::in_memory(Arc::clone(&clock)).unwrap();
        let store: SharedStore = Arc::new(Store::Embedded(store));
        let (routes, doorbell) = (Arc::new(routes), Arc::new(Doorbell::default()));
        let (key, full) = (LearnedKey::default(), FullChannels::default());
        let reports = Reports::default();
        let pulse = Pulse::default();
        key.set(StoreKey::from_bytes(KEY));
        let public = router(Arc::new(Inbound {
            routes: Arc::clone(&routes),
            store: Arc::clone(&store),
            key,
            doorbell: Arc::clone(&doorbell),
            clock,
            limits: ClientLimits::default(),
            reports: reports.clone(),
            gate: Gate::default(),
            full: full.clone(),
            pulse: pulse.clone(),
        }));
        Self { routes, store, doorbell, reports, full, pulse, public }
    }

    async fn message(&self, body: &str) -> Told {
        self.signed(MESSAGES, body).await
    }

    async fn signed(&self, target: &str, body: &str) -> Told {
        let signature = sign(&SecretText::new(TOKEN), &url(target), body.as_bytes());
        self.post(target, body, &[("x-twilio-signature", &signature)]).await
    }

    async fn post(&self, target: &str, body: &str, headers: &[(&str, &str)]) -> Told {
        let mut request = Request::post(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = self.public.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Told {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Looks once at what the store holds.
    async fn look(&self, bounds: Bounds) -> &FullChannels {
        let (store, full) = (Arc::clone(&self.store), self.full.clone());
        let (end, ending) = watch::channel(false);
        let watching = loads::watch(store, bounds, full, Arc::clone(&self.routes), ending);
        tokio::join!(watching, async { end.send_replace(true) });
        &self.full
    }

    /// Claims and completes everything there is.
    async fn queued(&self) -> Vec<Head> {
        let mut heads = Vec::new();
        for shard in 0..SHARDS {
            loop {
                let nonce = Nonce::parse(&format!("{shard}-{}", heads.len())).unwrap();
                let claim = Claim { shard, nonce, lease_ms: 15_000 };
                match self.store.run(claim).await.unwrap() {
                    Claimed::Head(head) => {
                        self.store
                            .run(Complete { lease: lease(&head), evidence: None })
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

    async fn mark(&self, lease: Lease, id: SegmentId, attempt: &str) -> Result<Marked, StoreError> {
        let SegmentId { intent, segment, .. } = id;
        let post = Post { intent, segment, attempt: attempt.parse().unwrap() };
        self.store.run(MarkSending { lease, post, refuted: None }).await
    }

    /// A reply of one segment whose POST may be under way.
    async fn sending(&self) -> (Lease, SegmentId) {
        assert_eq!(self.message(&text("SM1", "Hallo")).await.status, 200);
        for shard in 0..SHARDS {
            let claim = Claim { shard, nonce: "n".parse().unwrap(), lease_ms: 15_000 };
            if let Claimed::Head(head) = self.store.run(claim).await.unwrap() {
                let lease = lease(&head);
                let intent = Intent::fresh("abc".parse().unwrap(), 1, String::new());
                let (evidence, memo) = (None, Memo::default());
                let commit =
                    CommitReply { lease: lease.clone(), intent, evidence, memo, mark: None };
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

fn lease(head: &Head) -> Lease {
    Lease {
        channel: head.channel.clone(),
        conversation: head.conversation.clone(),
        nonce: head.nonce.clone(),
    }
}

fn url(target: &str) -> String {
    format!("{ORIGIN}{target}")
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn text(sid: &str, text: &str) -> String {
    form(&[
        ("MessageSid", sid),
        ("AccountSid", ACCOUNT),
        ("To", SENDER),
        ("From", CUSTOMER),
        ("Body", text),
        ("SmsStatus", "received"),
    ])
}

fn callback(sid: &str) -> String {
    form(&[
        ("MessageSid", sid),
        ("AccountSid", ACCOUNT),
        ("To", CUSTOMER),
        ("From", SENDER),
        ("MessageStatus", "delivered"),
    ])
}

fn route() -> Route {
    Route {
        channel: ChannelRef {
            namespace: "shop".to_owned(),
            name: "whatsapp".to_owned(),
            uid: "uid-1".parse().unwrap(),
        },
        account_sid: ACCOUNT.parse().unwrap(),
        sender: SENDER.parse().unwrap(),
        serving: 1,
        weight: kanarie_words::weight::Weight::ZERO,
        stable: RevisionRoute {
            revision: "r1".parse().unwrap(),
            agent: AgentRoute::Http { url: "http://agent.example".to_owned(), token: None },
            timeout_ms: 60_000,
            validity_seconds: 600,
            failure_text: String::new(),
            messaging_service_sid: None,
        },
        canary: None,
        retry_on_stable: true,
        max_latency_ms: None,
        webhook_urls: vec![url(MESSAGES)],
        credentials: Credentials {
            auth_token: SecretText::new(TOKEN),
            auth_token_secondary: None,
            api_key: None,
            signing_keys: Vec::new(),
        },
        limits: RouteLimits {
            inbound_messages: 50,
            inbound_window_ms: 60_000,
            outbound_per_second: 80,
            dedup_ms: 86_400_000,
            patience_ms: 900_000,
        },
    }
}

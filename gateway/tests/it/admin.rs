//! The admin port over a store in memory: readiness that names what is missing, and the operator's
//! question with its token.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use kanarie_crds::control::ControlState;
use kanarie_crds::route::SecretText;
use kanarie_gateway::admin::shared::Admin;
use kanarie_gateway::admin::{control, router};
use kanarie_gateway::cut::Cuts;
use kanarie_gateway::ends::{self, MessageEnd};
use kanarie_gateway::heartbeat::{Pulse, STALE_AFTER, beat};
use kanarie_gateway::key::LearnedKey;
use kanarie_gateway::levels::Levels;
use kanarie_gateway::loads::{Bounds, FullChannels};
use kanarie_gateway::routes::table::RouteTable;
use kanarie_gateway::silence::Silence;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::fleet::Heartbeat;
use kanarie_gateway::store::{SharedStore, Store};
use kanarie_gateway::tasks::{Alive, Living};
use kanarie_queue::admit::Admit;
use kanarie_queue::claim::{Claim, Claimed};
use kanarie_queue::dead::{Bury, Load};
use kanarie_queue::deliveries::NoteDeliveries;
use kanarie_queue::delivery::{Delivery, SegmentReport};
use kanarie_queue::evidence::EndAttempt;
use kanarie_queue::lease::Lease;
use kanarie_queue::outcome::Evidence;
use kanarie_words::class::Class;
use kanarie_words::ids::{ConversationId, Nonce, SHARDS, StoreKey};
use kanarie_words::track::Track;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt as _;

#[tokio::test]
async fn readiness_names_everything_that_is_missing() {
    let port = Port::new();
    let (status, body) = port.get("/readyz", None).await;
    assert_eq!(status, 503);
    let missing = [
        "not ready: the routes are not loaded",
        "the store's key is not known",
        "the store has not heard this replica for five seconds",
        "not every claimer is alive\n",
    ];
    assert_eq!(body, missing.join("; "));
}

#[tokio::test]
async fn a_gateway_that_lacks_nothing_is_ready_until_it_is_told_to_stop() {
    let port = Port::new();
    let _alive = port.complete().await;
    assert_eq!(port.get("/readyz", None).await, (200, "ready\n".to_owned()));
    port.stop.send_replace(true);
    let stopping = (503, "not ready: it is stopping\n".to_owned());
    assert_eq!(port.get("/readyz", None).await, stopping);
    assert_eq!(port.get("/livez", None).await.0, 200);
}

#[tokio::test]
async fn a_gateway_that_lost_a_claimer_is_not_ready() {
    let port = Port::new();
    let mut alive = port.complete().await;
    alive.pop();
    let missing = (503, "not ready: not every claimer is alive\n".to_owned());
    assert_eq!(port.get("/readyz", None).await, missing);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_heartbeat_stopped_is_not_ready() {
    let port = Port::new();
    let _alive = port.complete().await;
    tokio::time::advance(STALE_AFTER).await;
    let (status, body) = port.get("/readyz", None).await;
    // Paused time may run out for the store's thread as well.
    let missing = "the store has not heard this replica for five seconds";
    assert!(status == 503 && body.contains(missing), "{body}");
}

#[tokio::test]
async fn a_gateway_whose_store_has_another_key_says_so_and_is_not_ready() {
    let port = Port::new();
    port.store.key().await.unwrap();
    port.key.set(StoreKey::from_bytes([1; 32]));
    port.routes.replace(Vec::new(), Instant::now());
    let (_end, ending) = watch::channel(false);
    tokio::spawn(port.beat_until(ending));
    while !port.pulse.has_other_key() {
        tokio::task::yield_now().await;
    }
    let (status, body) = port.get("/readyz", None).await;
    let missing = "the store was emptied and has another key: restart this gateway";
    assert!(status == 503 && body.contains(missing), "{body}");
}

#[tokio::test]
async fn a_replica_that_stopped_is_not_waited_for() {
    let port = Port::new();
    port.complete().await;
    assert_eq!(port.store.replicas().await.unwrap().1, []);
}

#[tokio::test]
async fn the_metrics_page_has_the_webhooks() {
    let (status, body) = Port::new().get("/metrics", None).await;
    assert_eq!(status, 200);
    assert!(body.contains("kanarie_webhooks_total"), "{body}");
}

#[tokio::test]
async fn the_metrics_page_has_what_waits_and_what_belongs_to_no_channel() {
    let port = Port::new();
    let load = |channel: &str, messages, dead_letters| Load {
        channel: channel.parse().unwrap(),
        messages,
        bytes: 0,
        dead_letters,
    };
    let bounds = Bounds { messages: 100, bytes: 100, dead_letters: 100 };
    port.full.take(&[load("a", 3, 0), load("b", 4, 2)], bounds, &port.routes);
    let (_, body) = port.get("/metrics", None).await;
    for line in [
        r#"kanarie_waiting_messages{channel="gone"} 7"#,
        r#"kanarie_dead_letters{channel="gone"} 2"#,
        "kanarie_store_lanes_up 1",
        "kanarie_store_durable 1",
        "kanarie_turns_in_use 0",
    ] {
        assert!(body.lines().any(|found| found == line), "{line}\n{body}");
    }
    let info = r#"kanarie_build_info{commit="#;
    assert!(body.contains(info) && body.contains(r#"component="gateway""#), "{body}");
    port.full.take(&[], bounds, &port.routes);
    let (_, body) = port.get("/metrics", None).await;
    assert!(!body.contains(r#"kanarie_waiting_messages{"#), "{body}");
}

#[tokio::test]
async fn the_end_of_a_message_is_told_by_its_sid() {
    let port = Port::new();
    assert_eq!(port.get("/outcomes/SMadmin", None).await.0, 404);
    ends::remember("SMadmin", MessageEnd::DeadLetter { class: "http".to_owned() });
    let (status, body) = port.get("/outcomes/SMadmin", None).await;
    assert_eq!((status, body.as_str()), (200, r#"{"outcome":"dead-letter","class":"http"}"#));
}

#[tokio::test]
async fn without_a_token_the_state_is_told_to_nobody() {
    let port = Port::new();
    assert_eq!(port.get(control::PATH, None).await.0, 503);
    assert_eq!(port.get(control::PATH, Some("Bearer ")).await.0, 503);
    port.routes.set_control_token(Some(SecretText::new("right")));
    for wrong in [None, Some("right"), Some("Bearer wrong"), Some("Bearer "), Some("Bearer right ")]
    {
        assert_eq!(port.get(control::PATH, wrong).await.0, 401, "{wrong:?}");
    }
    assert_eq!(port.get(control::PATH, Some("Bearer right")).await.0, 200);
}

#[tokio::test]
async fn an_empty_token_opens_nothing() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("")));
    assert_eq!(port.get(control::PATH, Some("Bearer ")).await.0, 401);
}

#[tokio::test]
async fn more_channels_than_one_request_may_name_are_refused() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    let many = (0..=200).map(|uid| format!("u{uid}")).collect::<Vec<_>>().join(",");
    let path = format!("{}?channels={many}", control::PATH);
    assert_eq!(port.get(&path, Some("Bearer t")).await.0, 400);
}

#[tokio::test]
async fn a_route_that_not_every_replica_holds_alike_is_an_exception() {
    let port = Port::new();
    port.beat("a", "1", &[("same", 1, "h"), ("older", 1, "h"), ("missing", 1, "h")]).await;
    port.beat("b", "2", &[("same", 1, "h"), ("older", 2, "i")]).await;
    let state = port.state("").await;
    assert_eq!(state.unsynced, ["missing", "older"]);
    assert_eq!(state.replicas.len(), 2);
    assert!(state.channels.is_empty());
}

#[tokio::test]
async fn replicas_with_one_digest_have_no_exceptions() {
    let port = Port::new();
    for replica in ["a", "b"] {
        port.beat(replica, "1", &[("same", 1, "h")]).await;
    }
    assert!(port.state("").await.unsynced.is_empty());
}

#[tokio::test]
async fn a_named_channel_shows_what_each_replica_obeys_and_what_was_counted() {
    let port = Port::new();
    port.beat("a", "1", &[("uid", 3, "h"), ("other", 1, "h")]).await;
    port.fail_once("uid").await;
    let state = port.state("?channels=uid,unknown").await;
    assert_eq!(state.channels.len(), 1);
    let channel = &state.channels[0];
    assert_eq!(channel.uid, "uid");
    let held = &channel.acknowledged[0];
    assert_eq!((held.replica.as_str(), held.serving, held.hash.as_str()), ("a", 3, "h"));
    let count = &channel.counts[0];
    assert_eq!((count.serving, count.track, count.messages), (3, Track::Canary, 1));
    assert!(count.class.is_failure());
}

#[tokio::test]
async fn dead_letters_are_told_unasked() {
    let port = Port::new();
    port.bury_once("uid").await;
    let state = port.state("").await;
    assert_eq!(state.dead_letters.len(), 1);
    let letters = &state.dead_letters[0];
    assert_eq!((letters.uid.as_str(), letters.count), ("uid", 1));
    assert_eq!(letters.class, "http");
}

#[tokio::test]
async fn undelivered_replies_are_told_unasked() {
    let port = Port::new();
    assert!(port.state("").await.undelivered.is_empty());
    let report = SegmentReport {
        channel: "uid".parse().unwrap(),
        conversation: ConversationId::from_bytes([1; 16]),
        intent: "a1".parse().unwrap(),
        segment: 0,
        delivery: Delivery::reported("undelivered", Some(63_016)).unwrap(),
    };
    port.store.run(NoteDeliveries { reports: vec![report] }).await.unwrap();
    let [told] = &port.state("").await.undelivered[..] else { unreachable!("one channel is told") };
    assert_eq!((told.uid.as_str(), told.count), ("uid", 1));
    assert_eq!((told.last_code, told.last_at_ms), (Some(63_016), 50_000));
}

#[tokio::test]
async fn without_the_token_nothing_is_told_of_dead_letters_and_nothing_is_done() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("right")));
    port.bury_once("uid").await;
    for (method, path) in LETTER_PATHS {
        for wrong in [None, Some("Bearer wrong"), Some("right"), Some("Bearer ")] {
            let (status, body) = port.ask(method, path, wrong, "{}").await;
            assert_eq!((status, body.as_str()), (401, "the control token is needed\n"), "{path}");
        }
    }
    assert_eq!(port.state("").await.dead_letters[0].count, 1);
}

#[tokio::test]
async fn a_request_about_dead_letters_that_makes_no_sense_is_refused() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let letters = |query: &str| format!("/control/v1/dead-letters{query}");
    for (method, path) in [
        ("GET", letters("?limit=0")),
        ("GET", letters("?limit=1001")),
        ("GET", letters("?limit=99999999999999999999")),
        ("GET", letters("?after=x")),
        ("GET", letters("?after=99.1.1")),
        ("GET", letters("?chanel=uid")),
        ("GET", letters("?class=http&class=timeout")),
        ("GET", letters("?class=%27%3B")),
        ("GET", letters("?channel=")),
        ("GET", letters("?conversation=abc")),
        ("GET", letters("/x")),
        ("GET", letters("/00-1%2F..")),
        ("GET", letters("/99-1")),
        ("GET", letters("/00-1?text=maybe")),
        ("DELETE", letters("")),
        ("DELETE", letters("?limit=5")),
        ("DELETE", letters("?all=yes")),
        ("POST", letters("/replay")),
        ("POST", letters("/replay?all=false")),
        ("POST", letters("/x/replay")),
        ("POST", "/control/v1/erase".to_owned()),
    ] {
        let (status, body) = port.ask(method, &path, Some("Bearer t"), "{}").await;
        assert_eq!(status, 400, "{method} {path}: {body}");
    }
    for body in ["", "[]", "{\"customer\":\"+31\"}", "{\"who\":1}", &"x".repeat(5_000)] {
        let (status, said) = port.ask("POST", "/control/v1/erase", Some("Bearer t"), body).await;
        assert_eq!(status, 400, "{body}: {said}");
    }
    assert_eq!(port.state("").await.dead_letters[0].count, 1);
}

#[tokio::test]
async fn a_dead_letter_is_shown_by_its_id_and_without_its_text() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let (status, page) = port.ask("GET", "/control/v1/dead-letters", Some("Bearer t"), "").await;
    assert!(status == 200 && page.contains("\"id\":\"00-1\""), "{page}");
    assert!(page.contains("\"textKept\":true") && !page.contains("message\":"), "{page}");
    let one = "/control/v1/dead-letters/00-1";
    let (_, shown) = port.ask("GET", one, Some("Bearer t"), "").await;
    assert!(
        shown.contains("\"conversationId\":\"0000") && !shown.contains("message\":"),
        "{shown}"
    );
    let (_, shown) = port.ask("GET", &format!("{one}?text=true"), Some("Bearer t"), "").await;
    assert!(shown.contains("\"message\":{}"), "{shown}");
    let (status, _) = port.ask("GET", "/control/v1/dead-letters/00-2", Some("Bearer t"), "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_dead_letter_that_nobody_would_serve_stays_and_says_so() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let one = "/control/v1/dead-letters/00-1/replay";
    let (status, body) = port.ask("POST", one, Some("Bearer t"), "").await;
    assert!(status == 409 && body.contains("no channel has a route"), "{body}");
    let all = "/control/v1/dead-letters/replay?all=true";
    let (status, body) = port.ask("POST", all, Some("Bearer t"), "").await;
    assert!(status == 200 && body.contains("\"left\":{\"no-channel\":1}"), "{body}");
    assert_eq!(port.state("").await.dead_letters[0].count, 1);
}

#[tokio::test]
async fn an_erased_dead_letter_is_gone_and_a_second_request_finds_none() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let all = "/control/v1/dead-letters?channel=uid";
    for erased in [1, 0] {
        let (_, body) = port.ask("DELETE", all, Some("Bearer t"), "").await;
        assert_eq!(body, format!("{{\"erased\":{erased}}}"));
    }
    let one = "/control/v1/dead-letters/00-1";
    assert_eq!(port.ask("DELETE", one, Some("Bearer t"), "").await.0, 404);
}

#[tokio::test]
async fn an_erased_conversation_is_told_by_how_much_there_was() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let body = format!("{{\"conversation\":\"{}\"}}", "0".repeat(32));
    let (_, said) = port.ask("POST", "/control/v1/erase", Some("Bearer t"), &body).await;
    let told = r#"{"conversation":"00000000","messages":0,"deadLetters":1,"inProgress":false}"#;
    assert_eq!(said, told);
    assert!(port.state("").await.dead_letters.is_empty());
}

const LETTER_PATHS: [(&str, &str); 7] = [
    ("GET", "/control/v1/dead-letters"),
    ("GET", "/control/v1/dead-letters/00-1?text=true"),
    ("DELETE", "/control/v1/dead-letters?all=true"),
    ("DELETE", "/control/v1/dead-letters/00-1"),
    ("POST", "/control/v1/dead-letters/replay?limit=nonsense"),
    ("POST", "/control/v1/dead-letters/x/replay"),
    ("POST", "/control/v1/erase"),
];

struct Port {
    routes: Arc<RouteTable>,
    store: SharedStore,
    key: LearnedKey,
    pulse: Pulse,
    claimers: Living,
    full: FullChannels,
    stop: watch::Sender<bool>,
    router: axum::Router,
}

impl Port {
    fn new() -> Self {
        let store = EmbeddedStore::in_memory(Arc::new(|| 50_000)).unwrap();
        let store: SharedStore = Arc::new(Store::Embedded(store));
        let (routes, key) = (Arc::new(RouteTable::default()), LearnedKey::default());
        let (pulse, claimers) = (Pulse::default(), Living::default());
        let full = FullChannels::default();
        let (stop, shutdown) = watch::channel(false);
        let router = router(Arc::new(Admin {
            routes: Arc::clone(&routes),
            store: Arc::clone(&store),
            key: key.clone(),
            pulse: pulse.clone(),
            claimers: Some(claimers.clone()),
            levels: Levels::default(),
            full: full.clone(),
            doorbell: Arc::default(),
            shutdown,
        }));
        Self { routes, store, key, pulse, claimers, full, stop, router }
    }

    fn beat_until(&self, ending: watch::Receiver<bool>) -> impl Future<Output = ()> + use<> {
        let (table, store) = (Arc::clone(&self.routes), Arc::clone(&self.store));
        let (key, pulse) = (self.key.clone(), self.pulse.clone());
        let cuts = Arc::new(Cuts::new(Silence::begin(Instant::now())));
        beat("replica".parse().unwrap(), key, table, store, pulse, cuts, ending)
    }

    /// Gives it everything that it needs to be ready, the heartbeat once.
    async fn complete(&self) -> Vec<Alive> {
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

    async fn get(&self, path: &str, authorization: Option<&str>) -> (u16, String) {
        self.ask("GET", path, authorization, "").await
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: &str,
    ) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn state(&self, query: &str) -> ControlState {
        self.routes.set_control_token(Some(SecretText::new("t")));
        let path = format!("{}{query}", control::PATH);
        let (status, body) = self.get(&path, Some("Bearer t")).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn beat(&self, replica: &str, digest: &str, held: &[(&str, u64, &str)]) {
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
    async fn claimed(&self, channel: &str) -> Lease {
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

    async fn fail_once(&self, channel: &str) {
        let lease = self.claimed(channel).await;
        let evidence = Some(Evidence { serving: 3, track: Track::Canary, class: Class::Timeout });
        let failed_on = Some("r2".parse().unwrap());
        self.store.run(EndAttempt { lease, evidence, failed_on }).await.unwrap();
    }

    async fn bury_once(&self, channel: &str) {
        let lease = self.claimed(channel).await;
        self.store.run(Bury { lease, class: "http".to_owned() }).await.unwrap();
    }
}

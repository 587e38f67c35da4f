//! The admin port over a store in memory: readiness that names what is missing, and the operator's
//! question with its token.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod letters;
mod port;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kanarie_crds::control::CustomerCount;
use kanarie_crds::route::{Route, SecretText, route_name};
use kanarie_fakes::customer::Account;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_fakes::samples;
use kanarie_gateway::admin::unsynced::Unsynced;
use kanarie_gateway::admin::{control, state};
use kanarie_gateway::ends::{self, MessageEnd};
use kanarie_gateway::heartbeat::STALE_AFTER;
use kanarie_gateway::loads::Bounds;
use kanarie_gateway::routes::table::Sighting;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::fleet::Heartbeat;
use kanarie_gateway::store::redis::promise::Durability;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_queue::dead::Load;
use kanarie_queue::deliveries::NoteDeliveries;
use kanarie_queue::delivery::{Delivery, SegmentReport};
use kanarie_queue::outcome::Outcome;
use kanarie_queue::send::Complete;
use kanarie_words::ids::{ChannelUid, ConversationId, StoreKey};
use kanarie_words::track::Track;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin::port::Port;

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
async fn a_gateway_whose_store_may_lose_messages_is_ready_and_says_so() {
    let server = RedisServer::start_with(&["--appendonly", "no"]).await.unwrap();
    let settings = Settings { durability: Durability::Relaxed, ..Settings::default() };
    let store = RedisStore::open(&server.url(), settings).await.unwrap();
    let port = Port::over(Store::Redis(store));
    let _alive = port.complete().await;
    let (status, body) = port.get("/readyz", None).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.starts_with("ready\n") && body.contains("appendonly no"), "{body}");
    let (_, metrics) = port.get("/metrics", None).await;
    assert!(metrics.contains("\nkanarie_store_durable 0\n"), "{metrics}");
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
async fn a_named_channel_shows_its_customers_and_whom_stable_rescued() {
    let port = Port::new();
    let lease = port.fail_once("uid").await;
    let expected = |rescued| CustomerCount {
        serving: 3,
        track: Track::Canary,
        conversations: 1,
        failed: 1,
        rescued: Some(rescued),
    };
    let told = async || port.state("?channels=uid").await.channels.remove(0).customers.unwrap();
    assert_eq!(told().await, [expected(0)]);
    let outcome = Some(Outcome::Rescued { serving: 3 });
    port.store.run(Complete { lease, outcome }).await.unwrap();
    assert_eq!(told().await, [expected(1)]);
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
    assert_eq!(port.state("").await.undelivered, Some(Vec::new()));
    let report = SegmentReport {
        channel: "uid".parse().unwrap(),
        conversation: ConversationId::from_bytes([1; 16]),
        intent: "a1".parse().unwrap(),
        segment: 0,
        delivery: Delivery::reported("undelivered", Some(63_016)).unwrap(),
    };
    port.store.run(NoteDeliveries { reports: vec![report] }).await.unwrap();
    let told = port.state("").await.undelivered.unwrap();
    let [told] = &told[..] else { unreachable!("one channel is told") };
    assert_eq!((told.uid.as_str(), told.count), ("uid", 1));
    assert_eq!((told.last_code, told.last_at_ms), (Some(63_016), 50_000));
}

/// A hold runs from the time in the answer, so it is no earlier than what is said to be obeyed.
#[tokio::test]
async fn the_time_of_an_answer_is_read_after_what_the_replicas_obey() {
    let ticks = Arc::new(AtomicU64::new(50_000));
    let clock = Arc::clone(&ticks);
    let clock = Arc::new(move || clock.fetch_add(1, Ordering::Relaxed));
    let port = Port::over(Store::Embedded(EmbeddedStore::in_memory(clock).unwrap()));
    let uid: ChannelUid = "uid".parse().unwrap();
    let heartbeat = Heartbeat {
        replica: "gateway-0".parse().unwrap(),
        key: port.store.key().await.unwrap(),
        digest: "digest".parse().unwrap(),
        obeyed: [(uid.clone(), (3, "hash".parse().unwrap()))].into_iter().collect(),
        cut: BTreeSet::new(),
    };
    port.store.heartbeat(heartbeat).await.unwrap();
    let began = ticks.load(Ordering::Relaxed);
    let took = port.store.replicas().await.unwrap().0 - began;
    let first_look = ticks.load(Ordering::Relaxed) + took;
    let told =
        state::read(&port.store, &Unsynced::default(), vec![uid.clone()], vec![uid]).await.unwrap();
    assert_eq!(told.channels[0].acknowledged.len(), 1);
    assert!(told.observed_at_ms > first_look, "{} is no later", told.observed_at_ms);
}

#[tokio::test]
async fn the_counts_of_a_channel_without_a_canary_are_not_read() {
    let port = Port::new();
    port.beat("a", "1", &[("uid", 3, "h")]).await;
    port.fail_once("uid").await;
    let account = Account {
        sid: "AC00000000000000000000000000000001".to_owned(),
        token: "t".to_owned(),
        sender: "whatsapp:+31201234567".to_owned(),
        webhook_url: "https://hooks.example.com/".to_owned(),
    };
    let mut route = samples::route(&account);
    route["channel"]["uid"] = json!("uid");
    route["canary"] =
        samples::revision("r2", json!({"http": {"url": "http://agent.example.com/"}}));
    let route: Route = serde_json::from_value(route).unwrap();
    let rests = Route { canary: None, ..route.clone() };
    for (route, counts) in [(rests, 0), (route, 1)] {
        let name = route_name(&route.account_sid, &route.sender);
        let seen = Sighting::Route(Box::new(route), "h".parse().unwrap());
        port.routes.replace(vec![(name, seen)], Instant::now());
        let told = port.state("?channels=uid").await.channels.remove(0);
        assert_eq!((told.acknowledged.len(), told.counts.len()), (1, counts));
    }
}

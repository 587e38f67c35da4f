//! What only a real Redis server can show: memory, access lists, slots, several gateways at once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_gateway::store::{Store as _, StoreError};
use kanarie_queue::types::{
    Admission, Admit, Buried, Claim, Claimed, ConversationId, Lease, Marked, Nonce, Owned,
};
use redis::{Cmd, FromRedisValue, cmd};
use redis_server::RedisServer;
use stage::{START, canary, intent, lease_of, message};

#[expect(dead_code, reason = "only tests of the connection stop and start the server")]
#[path = "common/redis_server.rs"]
mod redis_server;
#[expect(dead_code, reason = "these tests open their stores themselves")]
#[path = "common/stage.rs"]
mod stage;

/// Memory of the small server: enough for itself and a few thousand rows.
const SMALL: [&str; 4] = ["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"];

#[tokio::test]
async fn a_hundred_copies_at_two_gateways_are_one_admission() {
    let server = RedisServer::start().await;
    let gateways = [open(&server).await, open(&server).await];
    let copies = (0..100).map(|copy| gateways[copy % 2].admit(message(1, "SM1")));
    let answers = join_all(copies).await.into_iter().map(Result::unwrap);
    let (queued, rest): (Vec<_>, Vec<_>) = answers.partition(|a| *a == Admission::Queued);
    assert_eq!(queued.len(), 1);
    assert!(rest.iter().all(|answer| *answer == Admission::Duplicate));
}

#[tokio::test]
async fn of_sixty_messages_at_once_from_one_sender_fifty_are_queued() {
    let server = RedisServer::start().await;
    let gateways = [open(&server).await, open(&server).await];
    let messages = (0..60).map(|at| gateways[at % 2].admit(message(1, &format!("SM{at}"))));
    let answers = join_all(messages).await.into_iter().map(Result::unwrap);
    let (queued, rest): (Vec<_>, Vec<_>) = answers.partition(|a| *a == Admission::Queued);
    assert_eq!(queued.len(), 50);
    assert!(rest.iter().all(|answer| matches!(answer, Admission::Limited { .. })));
}

#[tokio::test]
async fn two_gateways_have_one_key() {
    let server = RedisServer::start().await;
    let (one, other) = (open(&server).await, open(&server).await);
    let (one, other) = tokio::join!(one.key(), other.key());
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn without_a_given_clock_the_time_is_the_servers() {
    let server = RedisServer::start().await;
    let store = open(&server).await;
    store.admit(message(1, "SM1")).await.unwrap();
    let before = millis(&server).await;
    let (head, _) = claim(&store, "a").await;
    let after = millis(&server).await;
    assert!((before..=after).contains(&head.now), "{before} {} {after}", head.now);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_given_to_it_again() {
    let server = RedisServer::start().await;
    let store = open(&server).await;
    store.admit(message(1, "SM1")).await.unwrap();
    raw::<String>(&server, cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    assert_eq!(store.admit(message(1, "SM2")).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn a_server_that_would_drop_messages_is_refused_by_name() {
    let settings = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let server = RedisServer::start_with(&settings).await;
    let error = RedisStore::open(&server.url(), Settings::default()).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("allkeys-lru") && text.contains("noeviction"), "{text}");
}

#[tokio::test]
async fn a_server_that_forbids_config_is_used() {
    let server = RedisServer::start().await;
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("gateway").arg(["on", ">secret", "~*", "+@all", "-config"].as_slice());
    raw::<String>(&server, &user).await.unwrap();
    let url = server.url().replace("redis://", "redis://gateway:secret@");
    let store = RedisStore::open(&url, settings()).await.unwrap();
    assert_eq!(store.admit(message(1, "SM1")).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn a_wrong_password_makes_the_store_unavailable_and_is_not_shown() {
    let server = RedisServer::start_with(&["--requirepass", "right-one"]).await;
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let store = RedisStore::open(&url, settings()).await.unwrap();
    let error = store.admit(message(1, "SM1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn when_memory_is_full_nothing_is_admitted_and_draining_goes_on() {
    let server = RedisServer::start_with(&SMALL).await;
    let store = open(&server).await;
    fill(&store).await;
    let (_, lease) = claim(&store, "a").await;
    let reply = store.commit_reply(lease.clone(), intent("i", 1), None).await;
    assert_eq!(reply.unwrap(), kanarie_queue::types::Committed::Done);
    assert_eq!(mark(&store, &lease, "p").await, Marked::Go);
    let sent = store.mark_sent(lease.conversation.clone(), "i".to_owned(), 0, "SM".to_owned());
    assert!(sent.await.unwrap());
    assert_eq!(store.complete(lease, None).await.unwrap(), Owned::Done);
}

#[tokio::test]
async fn when_memory_is_full_the_other_verbs_of_an_owner_still_work() {
    let server = RedisServer::start_with(&SMALL).await;
    let store = open(&server).await;
    fill(&store).await;
    let (_, lease) = claim(&store, "a").await;
    let run = store.keep_run(lease.clone(), Some("run".to_owned())).await;
    assert_eq!(run.unwrap(), Owned::Done);
    let outcome = canary(1, kanarie_queue::types::Class::Http);
    let end = store.end_attempt(lease.clone(), outcome, Some("r".to_owned())).await;
    assert_eq!(end.unwrap(), Owned::Done);
    assert_eq!(store.release(lease).await.unwrap(), Owned::Done);
    let (_, lease) = claim(&store, "b").await;
    assert_eq!(store.retry(lease, 0, true).await.unwrap(), Owned::Done);
    let (_, lease) = claim(&store, "c").await;
    assert_eq!(store.bury(lease, "budget".to_owned()).await.unwrap(), Buried::Done);
    store.sweep(0).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_loses_its_text_24_hours_after_it_ended_and_nothing_else() {
    let server = RedisServer::start().await;
    let (store, clock) = open_at_start(&server).await;
    for sid in ["SM1", "SM2"] {
        store.admit(message(1, sid)).await.unwrap();
        let (_, lease) = claim(&store, sid).await;
        store.bury(lease, "budget".to_owned()).await.unwrap();
        clock.fetch_add(1_000, Ordering::Relaxed);
    }
    clock.store(START + 86_400_000 - 1, Ordering::Relaxed);
    store.sweep(0).await.unwrap();
    assert_eq!(texts(&server).await, [Some("SM1"), Some("SM2")].map(|t| t.map(str::to_owned)));
    clock.store(START + 86_400_000, Ordering::Relaxed);
    store.sweep(0).await.unwrap();
    assert_eq!(texts(&server).await, [None, Some("SM2".to_owned())]);
    clock.fetch_add(1_000, Ordering::Relaxed);
    store.sweep(0).await.unwrap();
    assert_eq!(texts(&server).await, [None, None]);
    assert_eq!(store.dead_letters().await.unwrap()[0].count, 2);
}

#[tokio::test]
async fn the_rows_of_a_drained_shard_are_gone() {
    let server = RedisServer::start().await;
    let store = open(&server).await;
    work_a_message(&store).await;
    for row in ["conv", "msg", "int", "bod", "rdy", "lse", "dly"] {
        let exists: i64 =
            raw(&server, cmd("EXISTS").arg(format!("{{gw:00}}:{row}"))).await.unwrap();
        assert_eq!(exists, 0, "{row}");
    }
    let meta: BTreeMap<String, String> =
        raw(&server, cmd("HGETALL").arg("{gw:00}:meta")).await.unwrap();
    assert_eq!((meta["messages"].as_str(), meta["bytes"].as_str()), ("0", "0"));
}

#[tokio::test]
async fn what_is_only_remembered_has_a_time_to_live() {
    let server = RedisServer::start().await;
    let store = open(&server).await;
    work_a_message(&store).await;
    let id = message(1, "").conversation;
    for key in
        ["dd:AC1:SM1", &format!("rl:{}", id.as_str()), &format!("at:{}", id.as_str()), "ev:shop"]
    {
        let left: i64 = raw(&server, cmd("PTTL").arg(format!("{{gw:00}}:{key}"))).await.unwrap();
        assert!(left > 0, "{key}: {left}");
    }
}

#[tokio::test]
async fn a_cluster_node_runs_every_script_so_none_touches_another_slot() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let mut slots = cmd("CLUSTER");
    slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383);
    raw::<String>(&server, &slots).await.unwrap();
    let ready = async {
        while raw::<String>(&server, cmd("CLUSTER").arg("INFO"))
            .await
            .is_ok_and(|info| !info.contains("cluster_state:ok"))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap();
    let store = open(&server).await;
    work_a_message(&store).await;
    store.admit(message(2, "SM2")).await.unwrap();
    let (_, lease) = claim(&store, "c").await;
    assert_eq!(store.bury(lease, "budget".to_owned()).await.unwrap(), Buried::Done);
    store.sweep(0).await.unwrap();
    store.counts(vec!["shop".to_owned(), "bar".to_owned()]).await.unwrap();
    assert_eq!(store.dead_letters().await.unwrap().len(), 1);
    store.reserve("AC1|whatsapp:sender".to_owned(), 80).await.unwrap();
    store.heartbeat(kanarie_gateway::store::Heartbeat::default()).await.unwrap();
    store.replicas().await.unwrap();
    store.acknowledged(String::new(), None).await.unwrap();
    store.key().await.unwrap();
}

/// One message through every verb of an owner, to its end.
async fn work_a_message(store: &RedisStore) {
    store.admit(message(1, "SM1")).await.unwrap();
    let (_, lease) = claim(store, "a").await;
    let leases = vec![(lease.conversation.clone(), lease.nonce.clone())];
    assert_eq!(store.extend(leases, 15_000).await.unwrap(), []);
    store.keep_run(lease.clone(), Some("run".to_owned())).await.unwrap();
    let outcome = canary(1, kanarie_queue::types::Class::Http);
    store.end_attempt(lease.clone(), outcome, None).await.unwrap();
    store.release(lease).await.unwrap();
    let (_, lease) = claim(store, "b").await;
    store.retry(lease, 0, true).await.unwrap();
    let (_, lease) = claim(store, "c").await;
    store.commit_reply(lease.clone(), intent("i", 1), None).await.unwrap();
    mark(store, &lease, "p").await;
    store.unmark(lease.clone(), "i".to_owned(), 0, "p".to_owned()).await.unwrap();
    mark(store, &lease, "q").await;
    let sent = store.mark_sent(lease.conversation.clone(), "i".to_owned(), 0, "SMout".to_owned());
    assert!(sent.await.unwrap());
    assert_eq!(store.complete(lease, None).await.unwrap(), Owned::Done);
}

fn settings() -> Settings {
    Settings { beat: Duration::from_secs(20), clock: None }
}

async fn open(server: &RedisServer) -> RedisStore {
    RedisStore::open(&server.url(), settings()).await.unwrap()
}

async fn open_at_start(server: &RedisServer) -> (RedisStore, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(START));
    let settings = Settings { clock: Some(Arc::clone(&clock)), ..settings() };
    (RedisStore::open(&server.url(), settings).await.unwrap(), clock)
}

async fn claim(store: &RedisStore, nonce: &str) -> (Claim, Lease) {
    let claimed = store.claim(0, Nonce(nonce.to_owned()), 15_000).await.unwrap();
    let Claimed::Head(head) = claimed else { panic!("nothing to claim") };
    let lease = lease_of(&head);
    (*head, lease)
}

async fn mark(store: &RedisStore, lease: &Lease, attempt: &str) -> Marked {
    let mark = store.mark_sending(lease.clone(), "i".to_owned(), 0, attempt.to_owned(), None);
    mark.await.unwrap()
}

/// Admits large messages until the server has no memory left.
async fn fill(store: &RedisStore) {
    for number in 0_u32.. {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        let large = Admit {
            conversation: ConversationId::from_bytes(bytes),
            envelope: "x".repeat(16_000),
            ..message(1, &format!("SM{number}"))
        };
        match store.admit(large).await {
            Ok(answer) => assert_eq!(answer, Admission::Queued),
            Err(StoreError::OutOfSpace(_)) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

/// The texts of the dead letters of shard 0, oldest first.
async fn texts(server: &RedisServer) -> Vec<Option<String>> {
    let letters: BTreeMap<String, String> =
        raw(server, cmd("HGETALL").arg("{gw:00}:dl")).await.unwrap();
    let letters = letters.into_values().map(|letter| {
        let letter: serde_json::Value = serde_json::from_str(&letter).unwrap();
        letter["text"].as_str().map(str::to_owned)
    });
    letters.collect()
}

async fn millis(server: &RedisServer) -> u64 {
    let (seconds, micros): (u64, u64) = raw(server, &cmd("TIME")).await.unwrap();
    seconds * 1_000 + micros / 1_000
}

async fn raw<T: FromRedisValue>(server: &RedisServer, command: &Cmd) -> redis::RedisResult<T> {
    let client = redis::Client::open(server.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    command.query_async(&mut connection).await
}

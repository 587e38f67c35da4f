//! What only a real Redis server can show: memory, access lists, slots, several gateways at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::error::StoreError;
use kanarie_gateway::store::fleet::{Heard, Heartbeat};
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed, Extend, Head, Isolate, KeepRun, Release, Retry};
use kanarie_queue::dead::{Buried, Bury, SumDead};
use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::intent::Memo;
use kanarie_queue::lease::{Lease, Owned, Park};
use kanarie_queue::park::{ParkHead, WakeParked};
use kanarie_queue::reserve::Reserve;
use kanarie_queue::send::{
    CommitReply, Committed, Complete, MarkSending, MarkSent, Marked, NoteMissed, Unmark,
};
use kanarie_queue::sweep::Sweep;
use kanarie_words::class::Class;
use kanarie_words::ids::{ConversationId, RevisionName, StoreKey};
use redis::{Cmd, FromRedisValue, cmd};

use crate::store::stage::{START, canary, id, intent, lease_of, message, post};

/// Memory of the small server: enough for itself and a few thousand rows.
const SMALL: [&str; 4] = ["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"];

#[tokio::test]
async fn a_hundred_copies_at_two_gateways_are_one_admission() {
    let server = RedisServer::start_quick().await.unwrap();
    let gateways = [open(&server).await, open(&server).await];
    let copies = (0..100).map(|copy| gateways[copy % 2].run(message(1, "SM1")));
    let answers = join_all(copies).await.into_iter().map(Result::unwrap);
    let (queued, rest): (Vec<_>, Vec<_>) = answers.partition(|a| *a == Admission::Queued);
    assert_eq!(queued.len(), 1);
    assert!(rest.iter().all(|answer| *answer == Admission::Duplicate));
}

#[tokio::test]
async fn of_sixty_messages_at_once_from_one_sender_fifty_are_queued() {
    let server = RedisServer::start_quick().await.unwrap();
    let gateways = [open(&server).await, open(&server).await];
    let messages = (0..60).map(|at| gateways[at % 2].run(message(1, &format!("SM{at}"))));
    let answers = join_all(messages).await.into_iter().map(Result::unwrap);
    let (queued, rest): (Vec<_>, Vec<_>) = answers.partition(|a| *a == Admission::Queued);
    assert_eq!(queued.len(), 50);
    assert!(rest.iter().all(|answer| matches!(answer, Admission::Limited { .. })));
}

#[tokio::test]
async fn two_gateways_have_one_key() {
    let server = RedisServer::start_quick().await.unwrap();
    let (one, other) = (open(&server).await, open(&server).await);
    let (one, other) = tokio::join!(one.key(), other.key());
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn without_a_given_clock_the_time_is_the_servers() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    store.run(message(1, "SM1")).await.unwrap();
    let before = millis(&server).await;
    let (head, _) = claim(&store, "a").await;
    let after = millis(&server).await;
    assert!((before..=after).contains(&head.now), "{before} {} {after}", head.now);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_given_to_it_again() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    store.run(message(1, "SM1")).await.unwrap();
    raw::<String>(&server, cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    assert_eq!(store.run(message(1, "SM2")).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn a_wrong_password_makes_the_store_unavailable_and_is_not_shown() {
    let server = RedisServer::start_with(&["--requirepass", "right-one"]).await.unwrap();
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let store = Store::Redis(RedisStore::open(&url, settings()).await.unwrap());
    let error = store.run(message(1, "SM1")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn when_memory_is_full_nothing_is_admitted_and_draining_goes_on() {
    let server = RedisServer::start_with(&SMALL).await.unwrap();
    let store = open(&server).await;
    fill(&store).await;
    let (_, lease) = claim(&store, "a").await;
    assert_eq!(commit(&store, &lease).await, Committed::Done);
    assert_eq!(mark(&store, &lease, "p").await, Marked::Go);
    assert!(sent(&store, &lease).await);
    assert_eq!(complete(&store, lease).await, Owned::Done);
}

#[tokio::test]
async fn when_memory_is_full_the_other_verbs_of_an_owner_still_work() {
    let server = RedisServer::start_with(&SMALL).await.unwrap();
    let store = open(&server).await;
    fill(&store).await;
    let (_, lease) = claim(&store, "a").await;
    let run = KeepRun { lease: lease.clone(), run: Some("run".to_owned()) };
    assert_eq!(store.run(run).await.unwrap(), Owned::Done);
    let evidence = Some(canary(1, Class::Http));
    let end = EndAttempt { lease: lease.clone(), evidence, failed_on: Some(id("r")) };
    assert_eq!(store.run(end).await.unwrap(), Owned::Done);
    assert_eq!(store.run(Release { lease }).await.unwrap(), Owned::Done);
    let (_, lease) = claim(&store, "b").await;
    let retry = Retry { lease, delay_ms: 0, counted: true };
    assert_eq!(store.run(retry).await.unwrap(), Owned::Done);
    let (_, lease) = claim(&store, "c").await;
    assert_eq!(store.run(Bury { lease, class: "budget".to_owned() }).await.unwrap(), Buried::Done);
    store.run(Sweep { shard: 0 }).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_loses_its_text_24_hours_after_it_ended_and_nothing_else() {
    let server = RedisServer::start_quick().await.unwrap();
    let (store, clock) = open_at_start(&server).await;
    for sid in ["SM1", "SM2"] {
        store.run(message(1, sid)).await.unwrap();
        let (_, lease) = claim(&store, sid).await;
        store.run(Bury { lease, class: "budget".to_owned() }).await.unwrap();
        clock.fetch_add(1_000, Ordering::Relaxed);
    }
    clock.store(START + 86_400_000 - 1, Ordering::Relaxed);
    store.run(Sweep { shard: 0 }).await.unwrap();
    assert_eq!(texts(&server).await, [Some("SM1"), Some("SM2")].map(|t| t.map(str::to_owned)));
    clock.store(START + 86_400_000, Ordering::Relaxed);
    store.run(Sweep { shard: 0 }).await.unwrap();
    assert_eq!(texts(&server).await, [None, Some("SM2".to_owned())]);
    clock.fetch_add(1_000, Ordering::Relaxed);
    store.run(Sweep { shard: 0 }).await.unwrap();
    assert_eq!(texts(&server).await, [None, None]);
    assert_eq!(store.run(SumDead).await.unwrap()[0].count, 2);
}

#[tokio::test]
async fn the_rows_of_a_drained_shard_are_gone() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    work_a_message(&store).await;
    assert_eq!(rows_of_a_queue(&server).await, Vec::<String>::new());
    let meta: BTreeMap<String, String> =
        raw(&server, cmd("HGETALL").arg("{gw:00}:meta")).await.unwrap();
    assert_eq!((meta["messages"].as_str(), meta["bytes"].as_str()), ("0", "0"));
}

#[tokio::test]
async fn what_is_only_remembered_has_a_time_to_live() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    work_a_message(&store).await;
    let id = message(1, "SM1").conversation;
    let (stamps, sids) = (format!("rl:{id}"), format!("at:{id}"));
    for key in ["dd:AC1:SM1", &stamps, &sids, "ev:shop", "cu:shop"] {
        let left: i64 = raw(&server, cmd("PTTL").arg(format!("{{gw:00}}:{key}"))).await.unwrap();
        assert!(left > 0, "{key}: {left}");
    }
}

#[tokio::test]
async fn nothing_that_waited_for_an_agent_leaves_a_row_behind() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    for number in 1..=3 {
        store.run(message(number, &format!("SM{number}"))).await.unwrap();
        let (_, lease) = claim(&store, &format!("a{number}")).await;
        let park = ParkHead { lease, revision: id("r"), until_ms: 0, probe_ms: 0 };
        assert_eq!(store.run(park).await.unwrap(), Owned::Done);
    }
    for number in 1..=3 {
        let (_, lease) = claim(&store, &format!("b{number}")).await;
        assert_eq!(complete(&store, lease).await, Owned::Done);
    }
    let idle = Claim { shard: 0, nonce: id("c"), lease_ms: 15_000 };
    assert_eq!(store.run(idle).await.unwrap(), Claimed::Nothing { next_in_ms: None });
    assert_eq!(rows_of_a_queue(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn leases_that_are_lost_taken_over_or_buried_leave_no_nonce_behind() {
    let server = RedisServer::start_quick().await.unwrap();
    let (store, clock) = open_at_start(&server).await;
    for sid in ["SM1", "SM2"] {
        store.run(message(1, sid)).await.unwrap();
    }
    claim(&store, "a").await;
    clock.fetch_add(15_000, Ordering::Relaxed);
    let (_, lease) = claim(&store, "b").await;
    let bury = Bury { lease, class: "budget".to_owned() };
    assert_eq!(store.run(bury).await.unwrap(), Buried::Done);
    let (_, lease) = claim(&store, "c").await;
    assert_eq!(commit(&store, &lease).await, Committed::Done);
    assert_eq!(complete(&store, lease).await, Owned::Done);
    assert_eq!(rows_of_a_queue(&server).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_empty_envelope_is_counted_like_any_other() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    let empty = |channel: &str, sid: &str| Admit {
        channel: id(channel),
        envelope: String::new(),
        ..message(1, sid)
    };
    store.run(empty("shop", "SM1")).await.unwrap();
    store.run(empty("anew", "SM2")).await.unwrap();
    for nonce in ["a", "b"] {
        let (_, lease) = claim(&store, nonce).await;
        assert_eq!(complete(&store, lease).await, Owned::Done);
    }
    assert_eq!(rows_of_a_queue(&server).await, Vec::<String>::new());
}

/// Commands that the server ran for one claim.
async fn cost_of_a_claim(server: &RedisServer, store: &Store, nonce: &str) -> u64 {
    raw::<String>(server, cmd("CONFIG").arg("RESETSTAT")).await.unwrap();
    store.run(Claim { shard: 0, nonce: id(nonce), lease_ms: 60_000 }).await.unwrap();
    let info: String = raw(server, cmd("INFO").arg("commandstats")).await.unwrap();
    let calls = info.lines().filter_map(|line| {
        let (command, rest) = line.split_once(":calls=")?;
        // What the test itself and the idle lanes of the store say.
        let is_other = ["config", "info", "client", "hello", "ping", "command"]
            .iter()
            .any(|other| command.starts_with(&format!("cmdstat_{other}")));
        if is_other { None } else { rest.split(',').next()?.parse::<u64>().ok() }
    });
    calls.sum()
}

#[tokio::test]
async fn a_claim_costs_the_same_however_many_leases_there_are() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    let mut costs = Vec::new();
    for number in 0..=200 {
        store.run(message(number, &format!("SM{number}"))).await.unwrap();
        let nonce = format!("n{number}");
        if [3, 200].contains(&number) {
            let head = cost_of_a_claim(&server, &store, &nonce).await;
            let again = cost_of_a_claim(&server, &store, &nonce).await;
            let nothing = cost_of_a_claim(&server, &store, "idle").await;
            costs.push([head, again, nothing]);
        } else {
            claim(&store, &nonce).await;
        }
    }
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].iter().all(|cost| (5..40).contains(cost)), "{costs:?}");
}

#[tokio::test]
async fn a_key_that_the_server_lost_is_brought_back_by_the_next_heartbeat() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    let key = store.key().await.unwrap();
    let beat = heartbeat(key);
    assert_eq!(store.heartbeat(beat.clone()).await.unwrap(), Heard::Done { asked: None, live: 1 });
    raw::<String>(&server, &cmd("FLUSHALL")).await.unwrap();
    assert_eq!(store.heartbeat(beat).await.unwrap(), Heard::Done { asked: None, live: 1 });
    assert_eq!(open(&server).await.key().await.unwrap(), key);
    assert_eq!(store.acknowledged(id("gateway-0"), None).await.unwrap().len(), 1);
    let layout: String = raw(&server, cmd("GET").arg("{gw:sys}:layout")).await.unwrap();
    assert_eq!(layout, "2");
}

#[tokio::test]
async fn a_server_that_was_emptied_and_given_another_key_says_so() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = open(&server).await;
    let old = store.key().await.unwrap();
    assert_eq!(
        store.heartbeat(heartbeat(old)).await.unwrap(),
        Heard::Done { asked: None, live: 1 }
    );
    raw::<String>(&server, &cmd("FLUSHALL")).await.unwrap();
    let new = open(&server).await.key().await.unwrap();
    assert_ne!(new, old);
    assert_eq!(store.heartbeat(heartbeat(old)).await.unwrap(), Heard::OtherKey);
    assert_eq!(store.replicas().await.unwrap().1, []);
    assert_eq!(
        store.heartbeat(heartbeat(new)).await.unwrap(),
        Heard::Done { asked: None, live: 1 }
    );
    assert_eq!(store.replicas().await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn a_cluster_node_runs_every_script_so_none_touches_another_slot() {
    let server = RedisServer::start_as_cluster().await.unwrap();
    let store = open(&server).await;
    work_a_message(&store).await;
    store.run(message(2, "SM2")).await.unwrap();
    let (_, lease) = claim(&store, "c").await;
    assert_eq!(store.run(Bury { lease, class: "budget".to_owned() }).await.unwrap(), Buried::Done);
    store.run(Sweep { shard: 0 }).await.unwrap();
    store.run(ReadCounts { channels: vec![id("shop"), id("bar")] }).await.unwrap();
    assert_eq!(store.run(SumDead).await.unwrap().len(), 1);
    store
        .run(Reserve { sender: id("AC1|whatsapp:sender"), per_second: 80, count: 1 })
        .await
        .unwrap();
    let key = store.key().await.unwrap();
    assert_eq!(
        store.heartbeat(heartbeat(key)).await.unwrap(),
        Heard::Done { asked: None, live: 1 }
    );
    assert_eq!(store.replicas().await.unwrap().1.len(), 1);
    assert_eq!(store.acknowledged(id("gateway-0"), None).await.unwrap().len(), 1);
    store.goodbye(id("gateway-0")).await.unwrap();
}

/// Rows of shard 0 that are there only while something waits.
async fn rows_of_a_queue(server: &RedisServer) -> Vec<String> {
    let mut found = Vec::new();
    for row in ["conv", "msg", "int", "bod", "rdy", "lse", "dly", "own", "load", "prb", "prk"] {
        let key = format!("{{gw:00}}:{row}");
        if raw::<bool>(server, cmd("EXISTS").arg(key)).await.unwrap() {
            found.push(row.to_owned());
        }
    }
    found
}

/// What `gateway-0` says of itself.
fn heartbeat(key: StoreKey) -> Heartbeat {
    let obeyed = [(id("shop"), (4, id("hash")))].into();
    Heartbeat { replica: id("gateway-0"), key, digest: id("digest"), obeyed, cut: BTreeSet::new() }
}

/// One message through every verb of an owner, to its end.
async fn work_a_message(store: &Store) {
    store.run(message(1, "SM1")).await.unwrap();
    let (_, lease) = claim(store, "a").await;
    let leases = vec![(lease.conversation.clone(), lease.nonce.clone())];
    assert_eq!(store.run(Extend { leases, lease_ms: 15_000 }).await.unwrap(), []);
    store.run(KeepRun { lease: lease.clone(), run: Some("run".to_owned()) }).await.unwrap();
    let evidence = Some(canary(1, Class::Http));
    store.run(EndAttempt { lease: lease.clone(), evidence, failed_on: None }).await.unwrap();
    store.run(Isolate { lease: lease.clone() }).await.unwrap();
    store.run(Release { lease }).await.unwrap();
    let (_, lease) = claim(store, "b").await;
    store.run(Retry { lease, delay_ms: 0, counted: true }).await.unwrap();
    let (_, lease) = claim(store, "c").await;
    let revision: RevisionName = id("r");
    let park = Park { channel: lease.channel.clone(), revision: revision.clone() };
    store.run(ParkHead { lease, revision, until_ms: 1_000, probe_ms: 1_000 }).await.unwrap();
    assert_eq!(store.run(WakeParked { park }).await.unwrap(), 1);
    let (_, lease) = claim(store, "d").await;
    assert_eq!(commit(store, &lease).await, Committed::Done);
    mark(store, &lease, "p").await;
    store.run(NoteMissed { lease: lease.clone(), post: post("i", 0, "p") }).await.unwrap();
    store.run(Unmark { lease: lease.clone(), post: post("i", 0, "p") }).await.unwrap();
    mark(store, &lease, "q").await;
    assert!(sent(store, &lease).await);
    assert_eq!(complete(store, lease).await, Owned::Done);
}

fn settings() -> Settings {
    Settings { beat: Duration::from_secs(20), ..Settings::default() }
}

async fn open(server: &RedisServer) -> Store {
    Store::Redis(RedisStore::open(&server.url(), settings()).await.unwrap())
}

async fn open_at_start(server: &RedisServer) -> (Store, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(START));
    let settings = Settings { clock: Some(Arc::clone(&clock)), ..settings() };
    (Store::Redis(RedisStore::open(&server.url(), settings).await.unwrap()), clock)
}

async fn claim(store: &Store, nonce: &str) -> (Head, Lease) {
    let claim = Claim { shard: 0, nonce: id(nonce), lease_ms: 15_000 };
    let Claimed::Head(head) = store.run(claim).await.unwrap() else { panic!("nothing to claim") };
    let lease = lease_of(&head);
    (*head, lease)
}

/// Commits reply `i`, of one segment.
async fn commit(store: &Store, lease: &Lease) -> Committed {
    let (lease, memo) = (lease.clone(), Memo::default());
    let commit = CommitReply { lease, intent: intent("i", 1), outcome: None, memo, mark: None };
    store.run(commit).await.unwrap()
}

async fn mark(store: &Store, lease: &Lease, attempt: &str) -> Marked {
    let post = post("i", 0, attempt);
    store.run(MarkSending { lease: lease.clone(), post, refuted: None }).await.unwrap()
}

async fn sent(store: &Store, lease: &Lease) -> bool {
    let conversation = lease.conversation.clone();
    let sent = MarkSent { conversation, intent: id("i"), segment: 0, sid: id("SMout") };
    store.run(sent).await.unwrap()
}

async fn complete(store: &Store, lease: Lease) -> Owned {
    store.run(Complete { lease, outcome: None }).await.unwrap()
}

/// Admits large messages until the server has no memory left.
async fn fill(store: &Store) {
    for number in 0_u32.. {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        let large = Admit {
            conversation: ConversationId::from_bytes(bytes),
            envelope: "x".repeat(16_000),
            ..message(1, &format!("SM{number}"))
        };
        match store.run(large).await {
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

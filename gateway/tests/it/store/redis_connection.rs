//! The connection to Redis heals by itself, whatever the server did.
//!
//! Each way in which a plain client would stay broken is played by a fake server; stop and start by
//! a real one. The beat is short: what takes seconds in service takes milliseconds here.

use std::collections::BTreeSet;

use std::time::Duration;

use futures::FutureExt as _;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::error::StoreError;
use kanarie_gateway::store::fleet::{Acknowledgement, Heard, Heartbeat};
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::evidence::ReadCounts;
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::send::Complete;
use kanarie_words::ids::ConversationId;
use tokio::time::{sleep, timeout};

use crate::store::fake_redis::{FakeRedis, Manner};

/// Long enough for an answer on a busy machine.
const BEAT: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_peer_that_falls_silent_is_replaced() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    server.turn(Manner::Silent, Manner::Well);
    assert!(is_unavailable(&admit(&store).await));
    until_admitted(&store).await;
}

#[tokio::test]
async fn the_lanes_that_can_be_used_are_counted() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    assert_eq!(store.lanes_up(), 4);
    server.turn(Manner::Silent, Manner::Silent);
    until(|| store.lanes_up() == 0).await;
    server.turn(Manner::Well, Manner::Well);
    until(|| store.lanes_up() == 4).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_replaced_without_any_traffic() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    let before = server.accepted();
    server.turn(Manner::Silent, Manner::Well);
    until(|| server.accepted() >= 2 * before).await;
    until_admitted(&store).await;
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_replaced() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    server.turn(Manner::ReadOnly, Manner::Well);
    assert!(is_unavailable(&admit(&store).await));
    until_admitted(&store).await;
}

#[tokio::test]
async fn a_replica_behind_the_same_address_is_asked_again_until_it_is_none() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    let before = server.accepted();
    server.turn(Manner::Reset, Manner::ReadOnly);
    until(|| server.accepted() > before + 12).await;
    assert!(is_unavailable(&admit(&store).await));
    server.turn(Manner::Well, Manner::Well);
    until_admitted(&store).await;
}

#[tokio::test]
async fn a_server_that_loads_its_data_for_long_is_waited_for() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    let before = server.accepted();
    server.turn(Manner::Reset, Manner::Loading);
    // Far more attempts than the client's own six.
    until(|| server.accepted() > before + 40).await;
    let refused = admit(&store).await;
    assert!(refused.unwrap_err().to_string().contains("LOADING"));
    server.turn(Manner::Well, Manner::Well);
    until_admitted(&store).await;
}

#[tokio::test]
async fn a_server_that_starts_to_load_its_data_is_replaced() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    server.turn(Manner::Loading, Manner::Well);
    assert!(is_unavailable(&admit(&store).await));
    until_admitted(&store).await;
}

#[tokio::test]
async fn a_node_that_has_not_every_key_is_refused_as_one_of_a_cluster() {
    let server = FakeRedis::start().await;
    server.turn(Manner::Moved, Manner::Moved);
    let settings = Settings { beat: BEAT, ..Settings::default() };
    let error = RedisStore::open(&server.url(), settings).await.err().unwrap().to_string();
    assert!(error.contains("Redis Cluster"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_replaced_by_a_node_of_a_cluster_is_refused() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    server.turn(Manner::Moved, Manner::Moved);
    let is_told = |answer: &Result<Admission, StoreError>| {
        answer.as_ref().is_err_and(|error| error.to_string().contains("Redis Cluster"))
    };
    let told = async {
        loop {
            let answer = admit(&store).await;
            assert!(is_unavailable(&answer));
            if is_told(&answer) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), told).await.expect("every lane finds it out");
}

#[tokio::test]
async fn connections_that_are_reset_are_made_again() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    server.turn(Manner::Reset, Manner::Well);
    until_admitted(&store).await;
}

#[tokio::test]
async fn an_admission_whose_connection_breaks_is_made_again_at_once() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    server.leave_one_unanswered();
    assert_eq!(admit(&store).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn who_gives_a_lease_up_hears_that_the_answer_was_lost() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    let Admit { channel, conversation, .. } = message("SM1");
    let lease = Lease { channel, conversation, nonce: "nonce".parse().unwrap() };
    let complete = Complete { lease, outcome: None };
    server.leave_one_unanswered();
    let lost = store.run(complete.clone()).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "not as if it were somebody else's");
    assert_eq!(store.run(complete).await.unwrap(), Owned::Stale);
}

#[tokio::test]
async fn while_nothing_answers_a_verb_is_refused_without_waiting() {
    let server = FakeRedis::start().await;
    let store = open(&server.url()).await;
    server.turn(Manner::Silent, Manner::Silent);
    until(|| store.ping().now_or_never().is_some_and(|answer| answer.is_err())).await;
    let refused = store.run(message("SM1")).now_or_never().expect("refused at the first poll");
    assert!(is_unavailable(&refused));
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let mut server = RedisServer::start_quick().await.unwrap();
    server.kill();
    let store = open(&server.url()).await;
    assert!(is_unavailable(&admit(&store).await));
    server.restart_empty().await.unwrap();
    until_admitted(&store).await;
}

#[tokio::test]
async fn a_real_server_may_be_stopped_and_started() {
    let mut server = RedisServer::start_quick().await.unwrap();
    let store = open(&server.url()).await;
    assert_eq!(admit(&store).await.unwrap(), Admission::Queued);
    server.kill();
    until(|| store.ping().now_or_never().is_some_and(|answer| answer.is_err())).await;
    assert!(is_unavailable(&admit(&store).await));
    server.restart_empty().await.unwrap();
    until_admitted(&store).await;
}

#[tokio::test]
async fn a_server_that_lost_its_data_has_other_epochs() {
    let mut server = RedisServer::start_quick().await.unwrap();
    let store = open(&server.url()).await;
    let before = store.run(ReadCounts { channels: Vec::new() }).await.unwrap().epochs;
    server.restart_empty().await.unwrap();
    until_admitted(&store).await;
    let after = store.run(ReadCounts { channels: Vec::new() }).await.unwrap().epochs;
    assert_ne!(after, before);
}

#[tokio::test]
async fn a_server_that_lost_its_data_is_told_every_route_again() {
    let mut server = RedisServer::start_quick().await.unwrap();
    let store = open(&server.url()).await;
    let heartbeat = Heartbeat {
        replica: "gateway-0".parse().unwrap(),
        key: store.key().await.unwrap(),
        digest: "d1".parse().unwrap(),
        obeyed: [("shop".parse().unwrap(), (4, "aa".parse().unwrap()))].into(),
        cut: BTreeSet::new(),
    };
    assert_eq!(
        store.heartbeat(heartbeat.clone()).await.unwrap(),
        Heard::Done { asked: None, live: 1 }
    );
    server.restart_empty().await.unwrap();
    until_admitted(&store).await;
    assert_eq!(
        store.heartbeat(heartbeat.clone()).await.unwrap(),
        Heard::Done { asked: None, live: 1 }
    );
    let told = store.acknowledged("gateway-0".parse().unwrap(), None).await.unwrap();
    let (channel, hash) = ("shop".parse().unwrap(), "aa".parse().unwrap());
    assert_eq!(told, [Acknowledgement { channel, serving: 4, hash, cut: false }]);
    assert_eq!(store.key().await.unwrap(), heartbeat.key);
}

async fn open(url: &str) -> Store {
    Store::Redis(
        RedisStore::open(url, Settings { beat: BEAT, ..Settings::default() }).await.unwrap(),
    )
}

async fn admit(store: &Store) -> Result<Admission, StoreError> {
    store.run(message("SM1")).await
}

/// Admitted, or known from an attempt whose answer was lost.
async fn until_admitted(store: &Store) {
    let admitted = async {
        while admit(store).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), admitted).await.expect("the connection heals");
}

async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), holds).await.expect("this comes to hold");
}

fn is_unavailable(answer: &Result<Admission, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable(_)))
}

fn message(sid: &str) -> Admit {
    Admit {
        channel: "shop".parse().unwrap(),
        dedup_key: format!("AC1:{sid}").parse().unwrap(),
        conversation: ConversationId::from_bytes([1; 16]),
        envelope: sid.to_owned(),
        limit: 50,
        window_ms: 60_000,
        dedup_ms: 86_400_000,
        lease: None,
    }
}

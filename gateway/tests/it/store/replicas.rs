//! Replicas: who is alive, and which routes each one obeys. And the store's key.

use std::collections::BTreeSet;

use kanarie_gateway::store::fleet::{Acknowledgement, Asked, Heard, Heartbeat, ReplicaState};
use kanarie_words::ids::StoreKey;

use crate::store::stage::{START, Stage, id};

on_both_stores!(
    a_replica_is_live_for_ten_seconds_after_its_heartbeat,
    a_replica_is_known_for_a_minute_after_its_heartbeat,
    replicas_are_told_by_name_with_their_digests,
    a_replica_acknowledges_routes_and_later_changes,
    a_route_that_is_obeyed_no_more_is_no_longer_acknowledged,
    acknowledgements_are_told_of_the_channels_asked_for,
    acknowledgements_are_forgotten_a_minute_after_the_last_heartbeat,
    a_replica_that_was_silent_for_a_minute_still_obeys_what_it_acknowledged,
    an_unknown_replica_has_acknowledged_nothing,
    a_replica_that_says_goodbye_is_gone_at_once,
    a_replica_that_said_goodbye_may_come_back,
    a_heartbeat_with_another_key_is_told_so_and_changes_nothing,
    a_canary_that_is_cut_off_is_told_with_its_route,
    a_heartbeat_is_told_when_the_counts_were_last_asked_for,
    a_heartbeat_is_told_how_many_replicas_live,
    the_key_is_made_once,
    a_store_that_answers_says_so,
);

async fn a_replica_is_live_for_ten_seconds_after_its_heartbeat(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[]).await;
    stage.at(9_999);
    let (now, live) = stage.store.replicas().await.unwrap();
    assert_eq!((now, live), (START + 9_999, vec![state("gateway-0", 0, "d1")]));
    stage.at(10_000);
    assert_eq!(stage.store.replicas().await.unwrap(), (START + 10_000, Vec::new()));
}

async fn a_replica_is_known_for_a_minute_after_its_heartbeat(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[]).await;
    stage.at(59_999);
    assert_eq!(stage.store.heard().await.unwrap().1, [state("gateway-0", 0, "d1")]);
    stage.at(60_000);
    assert_eq!(stage.store.heard().await.unwrap().1, []);
}

async fn replicas_are_told_by_name_with_their_digests(stage: &Stage) {
    beat(stage, "gateway-1", "d1", &[]).await;
    stage.pass(1_000);
    beat(stage, "gateway-0", "d2", &[]).await;
    beat(stage, "gateway-1", "d3", &[]).await;
    let live = vec![state("gateway-0", 1_000, "d2"), state("gateway-1", 1_000, "d3")];
    assert_eq!(stage.store.replicas().await.unwrap().1, live);
}

async fn a_replica_acknowledges_routes_and_later_changes(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa"), ("bar", 4, "bb")]).await;
    beat(stage, "gateway-0", "d2", &[("shop", 2, "cc"), ("bar", 4, "bb")]).await;
    beat(stage, "gateway-0", "d2", &[("shop", 2, "cc"), ("bar", 4, "bb")]).await;
    assert_eq!(all(stage).await, [route("bar", 4, "bb"), route("shop", 2, "cc")]);
}

async fn a_route_that_is_obeyed_no_more_is_no_longer_acknowledged(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa"), ("bar", 4, "bb")]).await;
    beat(stage, "gateway-0", "d2", &[("bar", 4, "bb")]).await;
    assert_eq!(all(stage).await, [route("bar", 4, "bb")]);
}

async fn acknowledgements_are_told_of_the_channels_asked_for(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa"), ("bar", 4, "bb")]).await;
    let asked = Some(vec![id("shop"), id("zoo")]);
    let told = stage.store.acknowledged(id("gateway-0"), asked).await.unwrap();
    assert_eq!(told, [route("shop", 1, "aa")]);
    let none = stage.store.acknowledged(id("gateway-0"), Some(Vec::new())).await.unwrap();
    assert_eq!(none, []);
}

async fn acknowledgements_are_forgotten_a_minute_after_the_last_heartbeat(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    stage.at(59_999);
    assert_eq!(all(stage).await, [route("shop", 1, "aa")]);
    stage.at(60_000);
    assert_eq!(all(stage).await, []);
}

async fn a_replica_that_was_silent_for_a_minute_still_obeys_what_it_acknowledged(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    stage.at(90_000);
    beat(stage, "gateway-1", "d1", &[]).await;
    // Nothing changed, and the store may have forgotten everything.
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    assert_eq!(all(stage).await, [route("shop", 1, "aa")]);
}

async fn an_unknown_replica_has_acknowledged_nothing(stage: &Stage) {
    assert_eq!(all(stage).await, []);
}

async fn a_replica_that_says_goodbye_is_gone_at_once(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    beat(stage, "gateway-1", "d1", &[]).await;
    stage.store.goodbye(id("gateway-0")).await.unwrap();
    assert_eq!(stage.store.replicas().await.unwrap().1, [state("gateway-1", 0, "d1")]);
    assert_eq!(all(stage).await, []);
    // Said again, or by somebody unknown, it is nothing new.
    stage.store.goodbye(id("gateway-0")).await.unwrap();
    stage.store.goodbye(id("gateway-9")).await.unwrap();
    assert_eq!(stage.store.replicas().await.unwrap().1.len(), 1);
}

async fn a_replica_that_said_goodbye_may_come_back(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    stage.store.goodbye(id("gateway-0")).await.unwrap();
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    assert_eq!(all(stage).await, [route("shop", 1, "aa")]);
}

async fn a_heartbeat_with_another_key_is_told_so_and_changes_nothing(stage: &Stage) {
    beat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    let other = Heartbeat {
        key: StoreKey::from_bytes([7; 32]),
        ..heartbeat(stage, "gateway-0", "d2", &[("bar", 4, "bb")]).await
    };
    assert_eq!(stage.store.heartbeat(other).await.unwrap(), Heard::OtherKey);
    assert_eq!(all(stage).await, [route("shop", 1, "aa")]);
    assert_eq!(stage.store.replicas().await.unwrap().1, [state("gateway-0", 0, "d1")]);
}

async fn a_canary_that_is_cut_off_is_told_with_its_route(stage: &Stage) {
    let plain = heartbeat(stage, "gateway-0", "d1", &[("shop", 1, "aa")]).await;
    let cut = Heartbeat { cut: [id("shop")].into(), ..plain.clone() };
    stage.store.heartbeat(cut).await.unwrap();
    assert_eq!(all(stage).await, [Acknowledgement { cut: true, ..route("shop", 1, "aa") }]);
    stage.store.heartbeat(plain).await.unwrap();
    assert_eq!(all(stage).await, [route("shop", 1, "aa")]);
}

async fn a_heartbeat_is_told_when_the_counts_were_last_asked_for(stage: &Stage) {
    let beat = heartbeat(stage, "gateway-0", "d1", &[]).await;
    let told = || async { stage.store.heartbeat(beat.clone()).await.unwrap() };
    assert_eq!(told().await, Heard::Done { asked: None, live: 1 });
    stage.store.note_asked().await.unwrap();
    stage.at(4_000);
    assert_eq!(
        told().await,
        Heard::Done { asked: Some(Asked { age_ms: 4_000, gap_ms: 0 }), live: 1 }
    );
    stage.store.note_asked().await.unwrap();
    stage.at(5_000);
    assert_eq!(
        told().await,
        Heard::Done { asked: Some(Asked { age_ms: 1_000, gap_ms: 4_000 }), live: 1 }
    );
}

async fn a_heartbeat_is_told_how_many_replicas_live(stage: &Stage) {
    let live = async |replica: &str| {
        let beat = heartbeat(stage, replica, "d1", &[]).await;
        match stage.store.heartbeat(beat).await.unwrap() {
            Heard::Done { live, .. } => live,
            Heard::OtherKey => panic!("it has the store's key"),
        }
    };
    assert_eq!(live("gateway-0").await, 1);
    assert_eq!(live("gateway-1").await, 2);
    stage.pass(9_999);
    assert_eq!(live("gateway-1").await, 2);
    stage.pass(1);
    assert_eq!(live("gateway-1").await, 1, "the other one is silent for ten seconds");
    live("gateway-0").await;
    stage.store.goodbye(id("gateway-0")).await.unwrap();
    assert_eq!(live("gateway-1").await, 1);
}

async fn the_key_is_made_once(stage: &Stage) {
    let key = stage.store.key().await.unwrap();
    assert_eq!(stage.store.key().await.unwrap(), key);
    assert_ne!(key.as_bytes(), &[0; 32]);
}

async fn a_store_that_answers_says_so(stage: &Stage) {
    stage.store.ping().await.unwrap();
}

async fn beat(stage: &Stage, replica: &str, digest: &str, obeyed: &[(&str, u64, &str)]) {
    let heartbeat = heartbeat(stage, replica, digest, obeyed).await;
    let heard = stage.store.heartbeat(heartbeat).await.unwrap();
    assert!(matches!(heard, Heard::Done { asked: None, .. }), "{heard:?}");
}

/// A heartbeat with the store's key.
async fn heartbeat(
    stage: &Stage,
    replica: &str,
    digest: &str,
    obeyed: &[(&str, u64, &str)],
) -> Heartbeat {
    Heartbeat {
        replica: id(replica),
        key: stage.store.key().await.unwrap(),
        digest: id(digest),
        obeyed: obeyed.iter().map(|(c, serving, hash)| (id(c), (*serving, id(hash)))).collect(),
        cut: BTreeSet::new(),
    }
}

async fn all(stage: &Stage) -> Vec<Acknowledgement> {
    stage.store.acknowledged(id("gateway-0"), None).await.unwrap()
}

fn route(channel: &str, serving: u64, hash: &str) -> Acknowledgement {
    Acknowledgement { channel: id(channel), serving, hash: id(hash), cut: false }
}

fn state(replica: &str, seen_at: u64, digest: &str) -> ReplicaState {
    ReplicaState { replica: id(replica), seen_at: START + seen_at, digest: id(digest) }
}

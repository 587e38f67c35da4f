//! Calls between replicas over one server.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_gateway::store::{SharedStore, Store};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A replica that listens, and what it has heard.
async fn listener(server: &RedisServer) -> (SharedStore, Arc<Mutex<Vec<u32>>>, JoinHandle<()>) {
    let settings = Settings { beat: Duration::from_millis(100), ..Settings::default() };
    let store = Arc::new(Store::Redis(RedisStore::open(&server.url(), settings).await.unwrap()));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (listening, told) = (Arc::clone(&store), Arc::clone(&heard));
    let task = tokio::spawn(async move {
        listening.answer(|shards| told.lock().unwrap().push(shards)).await;
    });
    until("it listens", || store.hears()).await;
    (store, heard, task)
}

async fn until(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_true() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}

#[tokio::test]
async fn a_call_is_heard_by_every_replica_that_listens() {
    let server = RedisServer::start_quick().await.unwrap();
    let (one, heard_by_one, _task) = listener(&server).await;
    let (_other, heard_by_other, _other_task) = listener(&server).await;
    one.call(1 << 5 | 1 << 31).await.unwrap();
    for heard in [heard_by_one, heard_by_other] {
        until("the call", || heard.lock().unwrap().len() == 2).await;
        let shards = heard.lock().unwrap().clone();
        assert_eq!(shards, [u32::MAX, 1 << 5 | 1 << 31], "all at first, for calls before");
    }
}

#[tokio::test]
async fn a_replica_that_lost_the_server_hears_nothing_and_then_looks_everywhere() {
    let mut server = RedisServer::start_quick().await.unwrap();
    let (store, heard, _task) = listener(&server).await;
    server.kill();
    until("it is deaf", || !store.hears()).await;
    server.restart_empty().await.unwrap();
    until("it listens again", || store.hears()).await;
    assert_eq!(heard.lock().unwrap().clone(), [u32::MAX; 3], "at first, when deaf, and again");
}

#[tokio::test]
async fn the_embedded_store_has_nobody_to_call_and_hears_all_there_is() {
    let stage = crate::store::stage::Stage::embedded();
    stage.store.call(1).await.unwrap();
    assert!(stage.store.hears());
}

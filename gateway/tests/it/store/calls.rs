//! Calls between replicas over one server.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::store::hail::Hail;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_gateway::store::{SharedStore, Store};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A replica that listens, and what it has heard.
async fn listener(server: &RedisServer) -> (SharedStore, Arc<Mutex<Vec<Hail>>>, JoinHandle<()>) {
    let settings = Settings { beat: Duration::from_millis(100), ..Settings::default() };
    let store = Arc::new(Store::Redis(RedisStore::open(&server.url(), settings).await.unwrap()));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (listening, told) = (Arc::clone(&store), Arc::clone(&heard));
    let task = tokio::spawn(async move {
        let push = |hail| told.lock().unwrap().push(hail);
        listening.answer(push).await;
    });
    until("it listens", || store.hears()).await;
    (store, heard, task)
}

/// What a replica hears that may have missed something.
fn everything() -> [Hail; 2] {
    [Hail::Shards(u32::MAX), Hail::Counted(Vec::new())]
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
    let calls = [Hail::Shards(1 << 5 | 1 << 31), Hail::Counted(vec!["u".parse().unwrap()])];
    for call in &calls {
        one.call(call).await.unwrap();
    }
    for heard in [heard_by_one, heard_by_other] {
        until("the calls", || heard.lock().unwrap().len() == 4).await;
        let heard = heard.lock().unwrap().clone();
        assert_eq!(heard[..2], everything(), "all at first, for calls before");
        assert_eq!(heard[2..], calls);
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
    let heard = heard.lock().unwrap().clone();
    let thrice = [everything(), everything(), everything()].concat();
    assert_eq!(heard, thrice, "at first, when deaf, and again");
}

#[tokio::test]
async fn the_embedded_store_has_nobody_to_call_and_hears_all_there_is() {
    let stage = crate::store::stage::Stage::embedded();
    stage.store.call(&Hail::Shards(1)).await.unwrap();
    assert!(stage.store.hears());
}

//! What is asked of a Redis server before it is used, and each time it is connected to again.

use std::time::Duration;

use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::redis::promise::Durability;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_queue::admit::Admission;
use redis::{Cmd, FromRedisValue, cmd};

use crate::store::stage::message;

#[tokio::test]
async fn a_server_that_would_drop_messages_is_refused_by_name() {
    let settings = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let server = RedisServer::start_with(&settings).await.unwrap();
    let error = RedisStore::open(&server.url(), Settings::default()).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("allkeys-lru") && text.contains("noeviction"), "{text}");
}

#[tokio::test]
async fn a_server_without_an_append_only_file_is_refused_by_name() {
    let server = RedisServer::start_with(&["--appendonly", "no"]).await.unwrap();
    let error = RedisStore::open(&server.url(), Settings::default()).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("appendonly yes") && text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_server_that_forgets_or_drops_is_used_where_that_is_allowed_and_told() {
    for (of, word) in [
        (vec!["--appendonly", "no"], "appendonly no"),
        (vec!["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"], "allkeys-lru"),
    ] {
        let server = RedisServer::start_with(&of).await.unwrap();
        let settings = Settings { durability: Durability::Relaxed, ..settings() };
        let store = Store::Redis(RedisStore::open(&server.url(), settings).await.unwrap());
        assert_eq!(store.run(message(1, "SM1")).await.unwrap(), Admission::Queued);
        let lacks = store.lacks().unwrap();
        assert!(lacks.contains(word), "{lacks}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_what_it_is_told_lacks_nothing() {
    let server = RedisServer::start_quick().await.unwrap();
    let store = Store::Redis(RedisStore::open(&server.url(), settings()).await.unwrap());
    assert_eq!(store.lacks(), None);
}

#[tokio::test]
async fn a_node_of_a_cluster_is_refused_by_name() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await.unwrap();
    for durability in [Durability::Strict, Durability::Relaxed] {
        let settings = Settings { durability, ..settings() };
        let error = RedisStore::open(&server.url(), settings).await.err().unwrap().to_string();
        assert!(error.contains("Redis Cluster"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_stops_to_keep_what_it_is_told_is_refused_when_it_is_connected_to_again() {
    let server = RedisServer::start_quick().await.unwrap();
    let settings = Settings { beat: Duration::from_millis(250), ..Settings::default() };
    let store = Store::Redis(RedisStore::open(&server.url(), settings).await.unwrap());
    assert_eq!(store.run(message(1, "SM1")).await.unwrap(), Admission::Queued);
    let set = async |value: &str| {
        let mut set = cmd("CONFIG");
        raw::<String>(&server, set.arg("SET").arg("appendonly").arg(value)).await.unwrap();
        raw::<u64>(&server, cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal")).await.unwrap();
    };
    set("no").await;
    until(async || {
        store.ping().await.is_err_and(|error| error.to_string().contains("append-only file"))
    })
    .await;
    set("yes").await;
    until(async || store.ping().await.is_ok()).await;
}

async fn until(holds: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("this does not come to hold");
}

#[tokio::test]
async fn a_server_that_forbids_config_is_used() {
    let server = RedisServer::start_quick().await.unwrap();
    let store =
        Store::Redis(RedisStore::open(&forbidden(&server).await, settings()).await.unwrap());
    assert_eq!(store.run(message(1, "SM1")).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn a_server_that_forbids_config_and_would_drop_messages_is_refused() {
    let policy = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let server = RedisServer::start_with(&policy).await.unwrap();
    let error = RedisStore::open(&forbidden(&server).await, settings()).await.err().unwrap();
    assert!(error.to_string().contains("allkeys-lru"), "{error}");
}

/// The URL of a user who may not ask for settings.
async fn forbidden(server: &RedisServer) -> String {
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("gateway").arg(["on", ">secret", "~*", "+@all", "-config"].as_slice());
    raw::<String>(server, &user).await.unwrap();
    server.url().replace("redis://", "redis://gateway:secret@")
}

fn settings() -> Settings {
    Settings { beat: Duration::from_secs(20), ..Settings::default() }
}

async fn raw<T: FromRedisValue>(server: &RedisServer, command: &Cmd) -> redis::RedisResult<T> {
    let client = redis::Client::open(server.url()).unwrap();
    command.query_async(&mut client.get_multiplexed_async_connection().await?).await
}

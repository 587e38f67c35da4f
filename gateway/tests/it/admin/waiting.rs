//! The operator's question that waits for an answer worth giving.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kanarie_crds::control::ControlState;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::admin::control;
use kanarie_gateway::calls;
use kanarie_gateway::cut::Cuts;
use kanarie_gateway::server;
use kanarie_gateway::server::limits::ClientLimits;
use kanarie_gateway::silence::Silence;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::fleet::{Heard, Heartbeat, Obeyed};
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_words::ids::{ChannelUid, RouteHash};
use redis::cmd;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::admin::port::Port;
use crate::worker::world::{breathe, eventually};

/// Only a question that is answered too late needs so long.
const TOO_LONG: Duration = Duration::from_secs(20);

fn uid(text: &str) -> ChannelUid {
    text.parse().unwrap()
}

/// A question that waits, from an operator who knows all that there is.
async fn asked(port: &Arc<Port>, channel: &str) -> JoinHandle<ControlState> {
    let known = port.state(&format!("?channels={channel}&wait=0")).await.digest.unwrap();
    let (port, query) = (Arc::clone(port), format!("?channels={channel}&wait=30&known={known}"));
    let question = tokio::spawn(async move { port.state(&query).await });
    breathe_a_while().await;
    assert!(!question.is_finished(), "there is nothing new");
    question
}

async fn breathe_a_while() {
    for _ in 0..150 {
        breathe().await;
    }
}

async fn answered(question: JoinHandle<ControlState>) -> ControlState {
    timeout(TOO_LONG, question).await.expect("an answer before the wait is over").unwrap()
}

/// How often a channel has failed, as the answer tells.
fn failures(state: &ControlState) -> u64 {
    let counts = state.channels.iter().flat_map(|channel| &channel.counts);
    counts.filter(|count| count.class.is_failure()).map(|count| count.messages).sum()
}

async fn over_redis(server: &RedisServer) -> Arc<Port> {
    let store = RedisStore::open(&server.url(), Settings::default()).await.unwrap();
    Arc::new(Port::over(Store::Redis(store)))
}

#[tokio::test]
async fn a_failure_is_told_to_whoever_waits_for_its_channel() {
    let server = RedisServer::start_quick().await.unwrap();
    for port in [Arc::new(Port::new()), over_redis(&server).await] {
        let question = asked(&port, "u").await;
        port.doorbell.counted(&uid("v"));
        breathe_a_while().await;
        assert!(!question.is_finished(), "another channel is nobody's business");
        port.fail_once("u").await;
        port.doorbell.counted(&uid("u"));
        assert_eq!(failures(&answered(question).await), 1);
    }
}

#[tokio::test]
async fn a_failure_that_another_replica_counted_is_told() {
    let server = RedisServer::start_quick().await.unwrap();
    let (port, other) = (over_redis(&server).await, over_redis(&server).await);
    tokio::spawn(calls::answer(Arc::clone(&port.doorbell), Arc::clone(&port.store)));
    let (_stop, going) = watch::channel(false);
    let bell = Arc::clone(&other.doorbell);
    tokio::spawn(calls::call(bell, Arc::clone(&other.store), other.pulse.clone(), going));
    eventually("a subscription", || port.store.hears()).await;
    let question = asked(&port, "u").await;
    other.fail_once("u").await;
    other.doorbell.counted(&uid("u"));
    assert_eq!(failures(&answered(question).await), 1);
}

#[tokio::test]
async fn whoever_knows_less_than_there_is_does_not_wait() {
    let port = Arc::new(Port::new());
    let before = port.state("?channels=u&wait=0").await.digest.unwrap();
    port.fail_once("u").await;
    for known in ["", "&known=", "&known=sth", &format!("&known={before}")] {
        let (port, query) = (Arc::clone(&port), format!("?channels=u&wait=30{known}"));
        let question = tokio::spawn(async move { port.state(&query).await });
        assert_eq!(failures(&answered(question).await), 1, "{known}");
    }
    assert_eq!(port.state("?channels=u").await.digest, None, "an older operator never waits");
}

#[tokio::test]
async fn at_the_end_of_the_wait_it_is_told_what_there_is() {
    let port = Port::new();
    let known = port.state("?channels=u&wait=0").await.digest.unwrap();
    let told = port.state(&format!("?channels=u&wait=1&known={known}")).await;
    assert_eq!(told.digest, Some(known));
}

#[tokio::test]
async fn a_gateway_that_stops_lets_nobody_wait() {
    let port = Arc::new(Port::new());
    let question = asked(&port, "u").await;
    port.stop.send_replace(true);
    let known = answered(question).await.digest.unwrap();
    let query = format!("?channels=u&wait=30&known={known}");
    let again = tokio::spawn(async move { port.state(&query).await });
    assert_eq!(answered(again).await.digest, Some(known));
}

#[tokio::test]
async fn when_too_many_wait_the_next_one_is_answered_at_once() {
    let port = Arc::new(Port::new());
    let known = port.state("?channels=u&wait=0").await.digest.unwrap();
    let _listeners: Vec<_> = (0..64).map(|_| port.doorbell.news().listen().unwrap()).collect();
    let query = format!("?channels=u&wait=30&known={known}");
    let question = tokio::spawn(async move { port.state(&query).await });
    assert_eq!(answered(question).await.digest, Some(known));
}

/// Commands that the server was given.
async fn commands(server: &RedisServer) -> u64 {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let info: String = cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_burst_of_failures_is_a_few_looks_at_the_store() {
    let server = RedisServer::start_quick().await.unwrap();
    let port = over_redis(&server).await;
    let before = commands(&server).await;
    port.state("?channels=u&wait=0").await;
    let a_look = commands(&server).await - before;
    let question = asked(&port, "u").await;
    let before = commands(&server).await;
    for _ in 0..100 {
        port.doorbell.counted(&uid("u"));
        breathe().await;
    }
    let looks = (commands(&server).await - before) / a_look;
    assert!((1..50).contains(&looks), "{looks} looks for a hundred");
    assert!(!question.is_finished(), "nothing was counted");
}

/// How often the server read a whole hash.
async fn tables_read(server: &RedisServer) -> u64 {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let info: String = cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_hgetall:calls="));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn routes_that_are_taken_up_are_compared_once_for_everybody_who_asks() {
    let server = RedisServer::start_quick().await.unwrap();
    let port = over_redis(&server).await;
    for replica in ["a", "b"] {
        port.beat(replica, "1", &[("u", 1, "h")]).await;
    }
    let before = tables_read(&server).await;
    port.state("").await;
    let at_rest = tables_read(&server).await - before;
    let (before, began) = (tables_read(&server).await, Instant::now());
    for serving in 2..=20 {
        port.beat("a", &serving.to_string(), &[("u", serving, "h")]).await;
        assert_eq!(port.state("").await.unsynced, ["u"]);
    }
    let read = tables_read(&server).await - before - 19 * at_rest;
    let readings = began.elapsed().as_secs() + 1;
    assert!((2..=2 * readings).contains(&read), "{read} tables in {readings} readings");

    // Nothing has changed since the next reading: there is no other.
    tokio::time::sleep(Duration::from_secs(1)).await;
    port.state("").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = tables_read(&server).await;
    assert_eq!(port.state("").await.unsynced, ["u"]);
    assert_eq!(tables_read(&server).await - before, at_rest);
    port.beat("a", "1", &[("u", 1, "h")]).await;
    assert!(port.state("").await.unsynced.is_empty(), "told without a reading");
}

/// What the store says of the last question, `after_ms` later by its clock.
async fn silence(port: &Port, clock: &AtomicU64, after_ms: u64) -> Silence {
    clock.fetch_add(after_ms, Ordering::SeqCst);
    let heartbeat = Heartbeat {
        replica: "a".parse().unwrap(),
        key: port.store.key().await.unwrap(),
        digest: RouteHash::from_bytes([0; 16]),
        obeyed: Obeyed::new(),
        cut: [].into(),
    };
    let heard = port.store.heartbeat(heartbeat).await.unwrap();
    let Heard::Done { asked, .. } = heard else { unreachable!("there is one key") };
    let now = Instant::now();
    let silence = Silence::begin(now);
    silence.learn(asked, now);
    silence
}

/// Lets the clock of the process pass.
async fn pass(seconds: u64) {
    for _ in 0..seconds {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..5 {
            breathe().await;
        }
    }
}

#[tokio::test]
async fn no_canary_is_cut_while_somebody_waits_and_one_is_after_he_is_gone() {
    tokio::time::pause();
    // Keeps the clock from running by itself while something waits for the store.
    let (_still, until) = std::sync::mpsc::sync_channel::<()>(0);
    tokio::task::spawn_blocking(move || until.recv());
    tokio::time::advance(Duration::from_secs(1_000)).await;
    let clock = Arc::new(AtomicU64::new(50_000));
    let told = Arc::clone(&clock);
    let store = EmbeddedStore::in_memory(Arc::new(move || told.load(Ordering::SeqCst))).unwrap();
    let port = Arc::new(Port::over(Store::Embedded(store)));
    let is_cut = |silence: Silence| {
        let (cuts, canary) = (Cuts::new(silence), "r2".parse().unwrap());
        (0..5).for_each(|_| cuts.learn(&uid("u"), &canary, true));
        cuts.is_cut(&uid("u"), &canary, Instant::now())
    };
    let question = asked(&port, "u").await;
    for _ in 0..3 {
        clock.fetch_add(6_000, Ordering::SeqCst);
        pass(6).await;
        assert!(!is_cut(silence(&port, &clock, 20_000).await), "somebody watches");
        clock.fetch_sub(20_000, Ordering::SeqCst);
    }
    assert!(!question.is_finished());
    question.abort();
    clock.fetch_add(6_000, Ordering::SeqCst);
    pass(6).await;
    assert!(is_cut(silence(&port, &clock, 100_000).await), "nobody watches any more");
}

#[tokio::test]
async fn a_client_that_hangs_up_waits_no_more() {
    let port = Port::new();
    let known = port.state("?channels=u&wait=0").await.digest.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_stop, going) = watch::channel(false);
    let limits = ClientLimits::default();
    tokio::spawn(server::run(listener, port.router.clone(), limits, going));
    let others: Vec<_> = (0..63).map(|_| port.doorbell.news().listen().unwrap()).collect();
    let waits = || port.doorbell.news().listen().is_none();
    let mut client = TcpStream::connect(address).await.unwrap();
    let path = format!("{}?channels=u&wait=30&known={known}", control::PATH);
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer t\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    eventually("a question that waits", waits).await;
    drop(client);
    eventually("the end of its wait", || !waits()).await;
    drop(others);
}

//! What the accept loop takes from a client and for how long. Sockets are loopback, time is paused:
//! it passes only when everybody waits.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::routing::post;
use kanarie_gateway::events;
use kanarie_gateway::levels::Standing;
use kanarie_gateway::server;
use kanarie_gateway::server::body::{BodyBudget, BodyError, read_body};
use kanarie_gateway::server::limits::ClientLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const LIMITS: ClientLimits = ClientLimits {
    header: Duration::from_secs(5),
    idle: Duration::from_secs(75),
    body: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    body_bytes: 64,
    connections: 2,
    drain: Duration::from_secs(10),
};
/// Bytes of a long answer: more than the system keeps for a client that does not read.
const LONG: usize = 16 << 20;
const REQUEST: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test(start_paused = true)]
async fn a_client_without_a_byte_is_cut_off_after_the_header_time() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let began = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_trickles_is_cut_off_after_the_header_time() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let began = Instant::now();
    for byte in REQUEST.bytes() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if client.write_all(&[byte]).await.is_err() || began.elapsed().as_secs() > 20 {
            break;
        }
    }
    assert!(!rest(&mut client).await.contains("200"));
    assert!(began.elapsed().as_secs() <= 8, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_second_header_that_trickles_is_cut_off_too() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    client.write_all(b"POST / HT").await.unwrap();
    let began = Instant::now();
    assert!(!rest(&mut client).await.contains("200"));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlives_the_header_time_and_is_used_again() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_secs(70)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_the_idle_time() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(began.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn half_a_body_is_answered_408_after_the_body_time() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let began = Instant::now();
    client.write_all(&REQUEST.as_bytes()[..REQUEST.len() - 1]).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 408"));
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_says_it_is_too_large_is_answered_413_unread() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65\r\n\r\n").await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_grows_too_large_is_answered_413() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("21\r\n{}\r\n", "x".repeat(33));
    client.write_all(format!("{head}{chunk}{chunk}").as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test(start_paused = true)]
async fn a_body_of_exactly_the_cap_is_taken() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let body = "x".repeat(64);
    let request = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 64\r\n\r\n{body}");
    client.write_all(request.as_bytes()).await.unwrap();
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_answer_is_cut_off() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let requests = REQUEST.replace("POST /", "POST /long").repeat(1_000);
    let refused = async { while client.write_all(requests.as_bytes()).await.is_ok() {} };
    let refused = tokio::time::timeout(Duration::from_secs(3_600), refused).await;
    assert!(refused.is_ok(), "it still has its connection after an hour");
}

#[tokio::test]
async fn a_frame_of_a_body_is_let_go_before_the_next_is_read() {
    let alive = Arc::new(());
    let frames = (0..64).map({
        let alive = Arc::clone(&alive);
        move |_| {
            let kept = Arc::strong_count(&alive) - 2;
            let frame = Bytes::from_owner(Frame(Arc::clone(&alive)));
            if kept == 0 { Ok(frame) } else { Err(format!("{kept} frames are kept")) }
        }
    });
    let body = Body::from_stream(futures::stream::iter(frames));
    let held = read_body(body, &LIMITS, &BodyBudget::default()).await.unwrap();
    assert_eq!(&*held, "x".repeat(64).as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_client_over_the_cap_gets_the_place_of_the_oldest() {
    let server = Server::start().await;
    let before = crowded();
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        client.write_all(REQUEST.as_bytes()).await.unwrap();
        assert!(answer(client).await.starts_with("HTTP/1.1 200"));
    }
    let mut third = server.connect().await;
    third.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(answer(&mut third).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut first).await, "");
    assert!(crowded() > before, "it is counted that it gave its place");
    second.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(answer(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_client_over_the_cap_waits_for_answers_that_are_being_made() {
    let server = Server::start().await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        client.write_all(REQUEST.replace("POST /", "POST /slow").as_bytes()).await.unwrap();
        server.entered.notified().await;
    }
    let mut third = server.connect().await;
    third.write_all(REQUEST.as_bytes()).await.unwrap();
    let mut byte = [0];
    let waited = tokio::time::timeout(Duration::from_secs(1), third.read(&mut byte)).await;
    assert!(waited.is_err(), "it has no place yet");
    server.go_on.notify_one();
    assert!(rest(&mut first).await.starts_with("HTTP/1.1 200"), "it got all of its answer");
    assert!(answer(&mut third).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_idle_connections_and_lets_answers_finish() {
    let server = Server::start().await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    idle.write_all(REQUEST.as_bytes()).await.unwrap();
    assert!(answer(&mut idle).await.starts_with("HTTP/1.1 200"));
    busy.write_all(REQUEST.replace("POST /", "POST /slow").as_bytes()).await.unwrap();
    server.entered.notified().await;
    server.stop.send(true).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    server.go_on.notify_one();
    assert!(rest(&mut busy).await.starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    server.running.await.unwrap();
    assert!(began.elapsed() < LIMITS.drain);
    assert!(TcpStream::connect(server.address).await.is_err(), "it listens no more");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_a_stuck_answer_no_longer_than_the_drain_time() {
    let server = Server::start().await;
    let mut busy = server.connect().await;
    busy.write_all(REQUEST.replace("POST /", "POST /slow").as_bytes()).await.unwrap();
    server.entered.notified().await;
    let began = Instant::now();
    server.stop.send(true).unwrap();
    server.running.await.unwrap();
    assert_eq!(began.elapsed(), LIMITS.drain);
}

/// How many connections gave their place to others, in this process.
fn crowded() -> u64 {
    let page = events::render(&Standing::default(), &HashSet::new());
    let count = |line: &str| {
        let count = line.strip_prefix(r#"kanarie_connections_closed_total{reason="crowded"} "#);
        count.and_then(|count| count.parse().ok())
    };
    page.lines().find_map(count).unwrap_or_default()
}

/// A process of its own, for the limit is one of a process.
#[test]
fn a_client_without_a_descriptor_gets_that_of_the_oldest() {
    let mut child = few::start();
    let address = few::address(&mut child);
    // More than the process may have open: each is answered, and the oldest go for it.
    let answered: Vec<few::Client> = (0..3 * few::FILES).map_while(|_| few::ask(address)).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answered.len(), 3 * few::FILES);
}

/// What the test before starts: it does nothing without an address to tell.
#[tokio::test]
async fn serves_with_few_descriptors() {
    if std::env::var_os(few::IS_CHILD).is_none() {
        return;
    }
    let limits = ClientLimits { connections: 4_096, ..LIMITS };
    let server = Server::limited(limits).await;
    println!("{}{}", few::SAYS, server.address);
    server.running.await.unwrap();
}

/// A server that may have few files open.
mod few {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    /// Files that it may have open.
    pub(super) const FILES: usize = 64;
    pub(super) const IS_CHILD: &str = "KANARIE_TEST_FEW_DESCRIPTORS";
    /// What stands before its address.
    pub(super) const SAYS: &str = "listens on ";

    pub(super) type Client = TcpStream;

    pub(super) fn start() -> Child {
        let program = std::env::current_exe().unwrap();
        let script = format!("ulimit -n {FILES}; exec \"$0\" \"$@\"");
        Command::new("sh")
            .args(["-c", &script])
            .arg(program)
            .args(["--exact", "server::serves_with_few_descriptors", "--nocapture"])
            .env(IS_CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(super) fn address(child: &mut Child) -> SocketAddr {
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once(SAYS)?;
            address.parse().ok()
        });
        told.expect("it says where it listens")
    }

    /// A client that is answered and stays; none when it is not answered.
    pub(super) fn ask(address: SocketAddr) -> Option<Client> {
        let mut client = TcpStream::connect(address).ok()?;
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(super::REQUEST.as_bytes()).ok()?;
        let mut bytes = [0; 12];
        client.read_exact(&mut bytes).ok()?;
        (&bytes == b"HTTP/1.1 200").then_some(client)
    }
}

/// A frame of one byte that tells whether it is still held.
struct Frame(#[expect(dead_code, reason = "it is counted, not read")] Arc<()>);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        b"x"
    }
}

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    /// Rings when `/slow` is being answered.
    entered: Arc<Notify>,
    /// Lets `/slow` answer.
    go_on: Arc<Notify>,
}

impl Server {
    async fn start() -> Self {
        Self::limited(LIMITS).await
    }

    async fn limited(limits: ClientLimits) -> Self {
        let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let slow = {
            let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
            move || async move {
                entered.notify_one();
                go_on.notified().await;
            }
        };
        let router = Router::new().route("/", post(read)).route("/slow", post(slow));
        let router = router.route("/long", post(async || vec![b'x'; LONG]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, shutdown) = watch::channel(false);
        let running = tokio::spawn(server::run(listener, router, limits, shutdown));
        Self { address, stop, running, entered, go_on }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn read(body: Body) -> StatusCode {
    match read_body(body, &LIMITS, &BodyBudget::default()).await {
        Ok(_) => StatusCode::OK,
        Err(BodyError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Err(BodyError::TooSlow) => StatusCode::REQUEST_TIMEOUT,
        Err(BodyError::NoRoom) => StatusCode::SERVICE_UNAVAILABLE,
        Err(BodyError::Broken) => StatusCode::BAD_REQUEST,
    }
}

/// What the server writes before it waits for more.
async fn answer(client: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = client.read(&mut bytes).await.unwrap();
    String::from_utf8(bytes[..read].to_vec()).unwrap()
}

/// Everything until the server closes the connection, with or without ceremony.
async fn rest(client: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

//! Kept connections to Twilio that the other end closes: no message twice, and no send of unknown
//! outcome, whenever they are closed. Real sockets and real time.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kanarie_crds::route::{Credentials, SecretText};
use kanarie_gateway::outbound::twilio::create::{Create, Created};
use kanarie_gateway::outbound::twilio::{Account, Twilio};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// Clients that send at moments a little apart.
const CLIENTS: u32 = 30;

/// When the other end closes a kept connection.
#[derive(Clone, Copy)]
enum Closes {
    /// When it was idle for so long.
    After(Duration),
    /// When the next request comes, of which it reads nothing.
    OnNext,
    /// When it has read so many bytes of the next request.
    Within(usize),
}

/// Creates messages over kept connections.
#[derive(Clone)]
struct Server {
    processed: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    url: String,
}

impl Server {
    async fn start(closes: Closes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { processed: Arc::default(), connections: Arc::default(), url };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(accepting.clone().keep(socket, closes));
            }
        });
        server
    }

    async fn keep(self, mut socket: TcpStream, closes: Closes) {
        for number in 0.. {
            let started = match closes {
                Closes::After(idle) => timeout(idle, socket.readable()).await.is_ok(),
                Closes::OnNext | Closes::Within(_) => socket.readable().await.is_ok(),
            };
            match closes {
                _ if !started => return,
                Closes::OnNext if number > 0 => return,
                Closes::Within(bytes) if number > 0 => {
                    let _ = socket.read_exact(&mut vec![0; bytes]).await;
                    return;
                }
                _ => {}
            }
            if !read_request(&mut socket).await {
                return;
            }
            let sid = self.processed.fetch_add(1, Ordering::SeqCst);
            let body = format!("{{\"sid\":\"SM{sid:032}\"}}");
            let length = body.len();
            let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {length}\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    fn processed(&self) -> u32 {
        self.processed.load(Ordering::SeqCst)
    }

    fn client(&self) -> Twilio {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Twilio::new(self.url.parse().unwrap()).unwrap()
    }

    /// Clients that each send `sends` messages, about `idle` apart; gives every outcome that is
    /// none of a message that was sent.
    async fn sent_about(&self, idle: Duration, sends: u32) -> Vec<Created> {
        let clients = (0..CLIENTS).map(|number| async move {
            let client = self.client();
            let mut created = vec![create(&client).await];
            for _ in 1..sends {
                // From 15 ms before the other end closes to 15 ms after.
                let early = Duration::from_millis(15);
                sleep(idle - early + Duration::from_millis(1) * number).await;
                created.push(create(&client).await);
            }
            created
        });
        let all = join_all(clients).await.into_iter().flatten();
        all.filter(|created| !matches!(created, Created::Sent(_))).collect()
    }
}

/// Reads one request to its last byte.
async fn read_request(socket: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    loop {
        match socket.read_buf(&mut request).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase();
        let length = length.split_once("content-length: ").unwrap().1;
        let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
        if body.len() >= length {
            return true;
        }
    }
}

async fn create(client: &Twilio) -> Created {
    let credentials = Credentials {
        auth_token: SecretText::new("token"),
        auth_token_secondary: None,
        api_key: None,
        signing_keys: Vec::new(),
    };
    let message = Create {
        from: "whatsapp:+14155238886",
        to: "whatsapp:+14010000001",
        body: "Hallo",
        status_callback: None,
        validity_seconds: 600,
        messaging_service_sid: None,
    };
    let account = Account { sid: "AC1", credentials: &credentials };
    client.create(account, &message, Instant::now() + Duration::from_secs(5)).await
}

async fn nothing_is_lost_or_doubled(idle: Duration, sends: u32) {
    let server = Server::start(Closes::After(idle)).await;
    assert_eq!(server.sent_about(idle, sends).await, []);
    assert_eq!(server.processed(), CLIENTS * sends);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_after_a_second_costs_no_send() {
    nothing_is_lost_or_doubled(Duration::from_secs(1), 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_closes_after_five_seconds_costs_no_send() {
    nothing_is_lost_or_doubled(Duration::from_secs(5), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: cargo test -p kanarie-gateway --test it kept_connections -- --ignored"]
async fn a_server_that_closes_after_a_minute_costs_no_send() {
    nothing_is_lost_or_doubled(Duration::from_secs(60), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_crosses_the_close_of_its_connection_is_made_again_at_once() {
    for closes in [Closes::OnNext, Closes::Within(10), Closes::Within(150)] {
        let server = Server::start(closes).await;
        let client = server.client();
        for sent in 1..=3 {
            assert!(matches!(create(&client).await, Created::Sent(_)));
            assert_eq!(server.processed(), sent);
            sleep(Duration::from_millis(600)).await;
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test]
async fn connections_are_kept_where_nobody_closes_them() {
    let server = Server::start(Closes::After(Duration::from_secs(60))).await;
    let client = server.client();
    for _ in 0..20 {
        assert!(matches!(create(&client).await, Created::Sent(_)));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

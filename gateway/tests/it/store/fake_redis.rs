//! A server on loopback that speaks enough Redis to be connected to, and misbehaves when told.
//!
//! Takes a manner for the connections it has and one for those to come; gives an address and the
//! number of connections it accepted. Every script call is answered with the integer 0. Ends with
//! the value.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How a connection is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answered.
    Well,
    /// Read from and never answered; the socket stays open.
    Silent,
    /// Told that it loads its data.
    Loading,
    /// A replica: it may look, and may not write.
    ReadOnly,
    /// Told that its keys are on another node.
    Moved,
    /// Closed.
    Reset,
}

/// The server.
pub(crate) struct FakeRedis {
    port: u16,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    accepted: AtomicU64,
    /// Scripts whose connection is closed instead of an answer.
    unanswered: AtomicU64,
    manners: Mutex<Manners>,
    turned: watch::Sender<()>,
}

struct Manners {
    boundary: u64,
    old: Manner,
    new: Manner,
}

impl FakeRedis {
    /// Starts to answer on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let manners = Manners { boundary: 0, old: Manner::Well, new: Manner::Well };
        let shared = Arc::new(Shared {
            accepted: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            manners: Mutex::new(manners),
            turned: watch::Sender::new(()),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, _accepting: accepting }
    }

    /// The URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections it accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Closes the connection of the next script, which runs and is not answered.
    pub(crate) fn leave_one_unanswered(&self) {
        self.shared.unanswered.store(1, Ordering::SeqCst);
    }

    /// Treats the connections it has in one way and later ones in another.
    pub(crate) fn turn(&self, old: Manner, new: Manner) {
        let boundary = self.accepted();
        let manners = Manners { boundary, old, new };
        *self.shared.manners.lock().unwrap_or_else(PoisonError::into_inner) = manners;
        self.shared.turned.send_replace(());
    }
}

impl Shared {
    fn manner(&self, number: u64) -> Manner {
        let manners = self.manners.lock().unwrap_or_else(PoisonError::into_inner);
        if number < manners.boundary { manners.old } else { manners.new }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(socket, number, Arc::clone(&shared)));
    }
}

async fn serve(socket: TcpStream, number: u64, shared: Arc<Shared>) {
    let mut turned = shared.turned.subscribe();
    let mut socket = BufReader::new(socket);
    loop {
        if shared.manner(number) == Manner::Reset {
            return;
        }
        let command = tokio::select! {
            command = read_command(&mut socket) => command,
            // A command that was half read is lost, which none of the manners minds.
            _ = turned.changed() => continue,
        };
        let Some(command) = command else { return };
        let lost = |left: u64| left.checked_sub(1);
        let unanswered = &shared.unanswered;
        if command == "EVALSHA"
            && unanswered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lost).is_ok()
        {
            return;
        }
        let answer = match (shared.manner(number), command.as_str()) {
            (Manner::Silent, _) => continue,
            (Manner::Reset, _) => return,
            (Manner::Loading, _) => "-LOADING Redis is loading the dataset in memory\r\n",
            (Manner::ReadOnly, "EVALSHA") => {
                "-READONLY You can't write against a read only replica.\r\n"
            }
            (Manner::Moved, "EVALSHA" | "EXISTS" | "GET") => "-MOVED 866 127.0.0.1:1\r\n",
            (Manner::ReadOnly, "ROLE") => "*1\r\n$5\r\nslave\r\n",
            (_, "ROLE") => "*1\r\n$6\r\nmaster\r\n",
            (_, "PING") => "+PONG\r\n",
            (_, "EVALSHA") => ":0\r\n",
            (_, "GET") => "$1\r\n2\r\n",
            (_, "INFO") => "$22\r\nredis_version:7.0.15\r\n\r\n",
            (_, "CONFIG") => "*2\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n",
            _ => "+OK\r\n",
        };
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one command, an array of bulk strings; gives its first word.
async fn read_command(socket: &mut BufReader<TcpStream>) -> Option<String> {
    let words = read_number(socket, '*').await?;
    let mut first = None;
    for _ in 0..words {
        let length = read_number(socket, '$').await?;
        let mut word = vec![0; length + 2];
        socket.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        first.get_or_insert(word);
    }
    String::from_utf8(first?).ok()
}

async fn read_number(socket: &mut BufReader<TcpStream>, kind: char) -> Option<usize> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    line.strip_prefix(kind)?.trim_end().parse().ok()
}

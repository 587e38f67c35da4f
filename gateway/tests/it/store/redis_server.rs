//! A real Redis server for tests: its own process, a free port on loopback, and an append-only file
//! that it need not bring to the disk.
//!
//! Takes nothing but the binary, looked for in `KANARIE_REDIS_SERVER` and then in `PATH`; gives a
//! URL. The process ends with the value.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::cmd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A running server.
pub(crate) struct RedisServer {
    process: Option<Child>,
    port: u16,
    directory: PathBuf,
    settings: Vec<String>,
    /// Name and password of its URL.
    user: &'static str,
}

impl RedisServer {
    /// Starts a server.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with settings as on its command line: `["--maxmemory", "8mb"]`.
    pub(crate) async fn start_with(settings: &[&str]) -> Self {
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        // Between finding a free port and using it somebody else may take it.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            let port = listener.local_addr().expect("a bound socket has an address").port();
            drop(listener);
            let name = format!("kanarie-redis-{}-{port}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            let settings = settings.clone();
            let mut server = Self { process: None, port, directory, settings, user: "" };
            if server.run().await {
                return server;
            }
        }
        panic!("redis-server did not start; run it by hand to see why");
    }

    /// Starts a server that is the one node of a cluster, with every slot. It does not say so to the
    /// user of its URL: a gateway refuses a cluster, and its scripts are good for one.
    pub(crate) async fn start_as_cluster() -> Self {
        let mut server = Self::start_with(&["--cluster-enabled", "yes"]).await;
        let client = redis::Client::open(server.url()).expect("its own URL is good");
        let mut connection =
            client.get_multiplexed_async_connection().await.expect("the server answers");
        let mut slots = cmd("CLUSTER");
        slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383);
        let _: String = slots.query_async(&mut connection).await.expect("slots are added");
        let ready = async {
            loop {
                let info = cmd("CLUSTER").arg("INFO").query_async::<String>(&mut connection).await;
                if info.is_ok_and(|info| info.contains("cluster_state:ok")) {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), ready).await.expect("a cluster of one is soon ready");
        let mut user = cmd("ACL");
        user.arg("SETUSER").arg("t").arg(["on", ">t", "~*", "&*", "+@all", "-info"].as_slice());
        let _: String = user.query_async(&mut connection).await.expect("a user is made");
        server.user = "t:t@";
        server
    }

    /// The URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.user, self.port)
    }

    /// Ends the process at once, as a crash would.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again on the same port, empty.
    pub(crate) async fn restart(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
        assert!(self.run().await, "redis-server did not start again on its port");
    }

    async fn run(&mut self) -> bool {
        std::fs::create_dir_all(&self.directory).expect("the temporary directory can be written");
        let process = Command::new(binary())
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "no", "--dir"])
            .arg(&self.directory)
            .args(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server can be run");
        self.process = Some(process);
        let answers = async {
            while !self.answers().await {
                if self.process.as_mut().is_none_or(|p| !matches!(p.try_wait(), Ok(None))) {
                    return false;
                }
                sleep(Duration::from_millis(5)).await;
            }
            true
        };
        timeout(Duration::from_secs(10), answers).await.unwrap_or(false)
    }

    async fn answers(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)).await else {
            return false;
        };
        let mut answer = [0; 5];
        socket.write_all(b"PING\r\n").await.is_ok()
            && socket.read_exact(&mut answer).await.is_ok()
            && matches!(&answer, b"+PONG" | b"-NOAU")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("KANARIE_REDIS_SERVER") {
        return PathBuf::from(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("redis-server"))
        .find(|candidate| candidate.is_file())
        .expect(
            "these tests need a real Redis server: install the package redis-server, version 7 or \
             newer, or name the binary in KANARIE_REDIS_SERVER",
        )
}

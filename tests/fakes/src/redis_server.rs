//! A real Redis server that can be stopped and started again on the same port.
//!
//! Takes `redis-server` from `KANARIE_REDIS_SERVER` or `PATH`, or installs Debian's package when it may.
//! Promises to keep everything, as a gateway wants it; brings each write to the disk before it is answered,
//! so that a kill loses nothing, or leaves that to the system, which is quicker. Gone when it is dropped.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use redis::cmd;
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::process::{self, Process};
use crate::programs::{installed, progress};
use crate::server::free_port;

/// A Redis server, running or stopped.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    port: u16,
    process: Option<Process>,
    settings: Vec<String>,
    /// Name and password of its URL.
    user: &'static str,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one on a free port whose every write is on the disk before it is answered.
    ///
    /// # Errors
    /// There is no `redis-server`, or it does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(&["--appendfsync", "always"]).await
    }

    /// Starts one that leaves it to the system when its writes reach the disk.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn start_quick() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts such a one with settings as on its command line: `["--maxmemory", "8mb"]`.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn start_with(settings: &[&str]) -> Result<Self> {
        let settings = settings.iter().map(|text| (*text).to_owned()).collect();
        let (program, port) = (program()?, free_port()?);
        let folder = process::folder("redis")?;
        let mut server = Self { program, port, process: None, settings, user: "", folder };
        server.resume().await?;
        Ok(server)
    }

    /// Starts one that is the one node of a cluster, with every slot. It does not say so to the user of
    /// its URL: a gateway refuses a cluster, and its scripts are good for one.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn start_as_cluster() -> Result<Self> {
        let mut server = Self::start_with(&["--cluster-enabled", "yes"]).await?;
        let client = redis::Client::open(server.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut slots = cmd("CLUSTER");
        slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383);
        let _: String = slots.query_async(&mut connection).await?;
        let ready = async {
            loop {
                let info = cmd("CLUSTER").arg("INFO").query_async::<String>(&mut connection).await;
                if info.is_ok_and(|info| info.contains("cluster_state:ok")) {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(30), ready).await.context("a cluster of one is soon ready")?;
        let mut user = cmd("ACL");
        user.arg("SETUSER").arg("t").arg(["on", ">t", "~*", "&*", "+@all", "-info"].as_slice());
        let _: String = user.query_async(&mut connection).await?;
        server.user = "t:t@";
        Ok(server)
    }

    /// The URL for `--store`.
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}/", self.user, self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The id of its process, to measure it by.
    ///
    /// # Errors
    /// It is not running.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("redis-server is not running")?.id())
    }

    /// Stops it in an orderly way; its port refuses connections until it is resumed.
    ///
    /// # Errors
    /// The system does not tell whether it ended.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::TERM);
            process.wait()?;
        }
        Ok(())
    }

    /// Kills it, as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills it and starts it again on its port, empty.
    ///
    /// # Errors
    /// Its data cannot be removed, or it does not come up.
    pub async fn restart_empty(&mut self) -> Result<()> {
        self.kill();
        fs::remove_dir_all(self.folder.path().join("appendonlydir"))?;
        self.resume().await
    }

    /// Starts it again with what it has kept, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn resume(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "no", "--dir"])
            .arg(self.folder.path())
            .args(&self.settings);
        let log = self.folder.path().join("redis.log");
        let mut process = Process::spawn("redis-server", &mut command, &log)?;
        let answers = async {
            while !answers(self.address()).await {
                if process.ended()?.is_some() {
                    return Ok(false);
                }
                sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(true)
        };
        if !matches!(timeout(Duration::from_secs(20), answers).await, Ok(Ok(true))) {
            bail!("redis-server does not come up:\n{}", process.log_tail());
        }
        self.process = Some(process);
        Ok(())
    }
}

/// Path of `redis-server`, installing it when that is allowed.
///
/// # Errors
/// It is missing, and we may not install it.
pub fn program() -> Result<PathBuf> {
    let named = std::env::var_os("KANARIE_REDIS_SERVER").map(PathBuf::from);
    if let Some(found) = named.or_else(|| installed("redis-server")) {
        return Ok(found);
    }
    if !geteuid().is_root() || installed("apt-get").is_none() {
        bail!("redis-server is not in PATH: install the package redis-server");
    }
    progress("installing the package redis-server");
    let status = Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends", "redis-server"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("run apt-get")?;
    if !status.success() {
        bail!("apt-get install redis-server ended with {status}");
    }
    installed("redis-server").context("the package redis-server brought no redis-server")
}

async fn answers(address: SocketAddr) -> bool {
    let ping = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        // One that wants a password is up as well.
        std::io::Result::Ok(matches!(&answer, b"+PONG" | b"-NOAU"))
    };
    ping.await.unwrap_or(false)
}

//! A real Redis server that can be stopped and started again on the same port with its data.
//!
//! Takes `redis-server` from `PATH`, or installs Debian's package when it may. Every write is on
//! disk before it is answered, so that a kill loses nothing. Gone when it is dropped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::process::{self, Process};
use crate::server::free_port;
use crate::tools::{installed, progress};

/// A Redis server, running or stopped.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// There is no `redis-server`, or it does not come up.
    pub async fn start() -> Result<Self> {
        let program = program()?;
        let port = free_port()?;
        let folder = process::folder("redis")?;
        let mut server = Self { program, port, process: None, folder };
        server.resume().await?;
        Ok(server)
    }

    /// The URL for `--store`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
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

    /// Starts it again with its data, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn resume(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.folder.path());
        let log = self.folder.path().join("redis.log");
        let mut process = Process::spawn("redis-server", &mut command, &log)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !answers(self.address()).await {
            if process.ended()?.is_some() || Instant::now() > deadline {
                bail!("redis-server does not come up:\n{}", process.log_tail());
            }
            sleep(Duration::from_millis(20)).await;
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
    if let Some(found) = installed("redis-server") {
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
        std::io::Result::Ok(&answer == b"+PONG")
    };
    ping.await.unwrap_or(false)
}

//! A gateway over an embedded store that somebody else has filled: what it takes, and when it is ready.
//!
//! Takes the folder of the store and the memory that it may take; gives the process, its times and its
//! memory as the system tells it. It only receives: no turn runs, so what is written stays. Used by
//! `make bench-memory` with millions of rows, and by `make test` with few.

pub mod file;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use kanarie_fakes::customer::Account;
use kanarie_fakes::process::{self, Process};
use kanarie_fakes::server::free_port;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::product::binary;

/// Counts the SIDs that the store forgot for want of memory.
pub const FORGOTTEN_EARLY: &str = "kanarie_sids_forgotten_early_total";
/// Longest that a file may be read.
const PATIENCE: Duration = Duration::from_secs(900);

/// The account whose SIDs stand in the files.
pub fn account() -> Account {
    Account::new(1)
}

/// A gateway that only receives; killed when it is dropped, as by a loss of power.
#[derive(Debug)]
pub struct Receiver {
    process: Process,
    listen: String,
    admin: String,
    /// Until it said that it is alive.
    pub alive: Duration,
    /// Until it had read its file.
    pub ready: Duration,
    _folder: TempDir,
}

impl Receiver {
    /// Starts it over the store in a directory and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in a quarter of an hour.
    pub async fn start(store: &Path, memory: &str) -> Result<Self> {
        let [listen, admin] = [free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let (account, folder) = (account(), process::folder("receiver")?);
        let mut command = Command::new(binary("kanarie-gateway")?);
        command
            .arg(format!("--listen={listen}"))
            .arg(format!("--admin-listen={admin}"))
            .arg(format!("--store=embedded:{}", store.display()))
            .arg(format!("--store-memory={memory}"))
            .arg("--turns=0")
            .env("TWILIO_ACCOUNT_SID", &account.sid)
            .env("TWILIO_AUTH_TOKEN", &account.token)
            .env("TWILIO_WHATSAPP_NUMBER", account.sender.trim_start_matches("whatsapp:"))
            .env("TWILIO_WEBHOOK_URL", &account.webhook_url)
            .env("AGENT_URL", "https://agent.example.com/");
        let began = Instant::now();
        let process = Process::spawn("kanarie-gateway", &mut command, &folder.path().join("log"))?;
        let (alive, ready) = (Duration::ZERO, Duration::ZERO);
        let mut gateway = Self { process, listen, admin, alive, ready, _folder: folder };
        gateway.alive = gateway.until("/livez", began).await?;
        gateway.ready = gateway.until("/readyz", began).await?;
        Ok(gateway)
    }

    /// Where customers' messages go, host and port.
    pub fn authority(&self) -> &str {
        &self.listen
    }

    /// MiB of memory that it has.
    ///
    /// # Errors
    /// It has ended.
    pub fn resident(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most MiB that it ever had.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    /// What one line of `/metrics` says.
    ///
    /// # Errors
    /// There is none that begins so.
    pub async fn metric(&self, name: &str) -> Result<String> {
        let page = get(&self.admin, "/metrics").await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.with_context(|| format!("no metric {name}"))?.trim().to_owned())
    }

    async fn until(&mut self, path: &str, began: Instant) -> Result<Duration> {
        loop {
            if get(&self.admin, path).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(began.elapsed());
            }
            if let Some(status) = self.process.ended()? {
                bail!("the gateway ended with {status}:\n{}", self.process.log_tail());
            }
            ensure!(began.elapsed() < PATIENCE, "it is not ready:\n{}", self.process.log_tail());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn memory(&self, name: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

async fn get(address: &str, path: &str) -> Result<String> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    timeout(Duration::from_secs(5), asked).await?
}

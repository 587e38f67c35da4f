//! What the embedded store takes of a pod, and how long it reads: `make bench-memory`.
//!
//! Takes counts of SIDs and of waiting messages; writes files with so many rows, starts the gateway of
//! this build over them, kills it, starts it again, and prints seconds and resident memory. Fails when a
//! SID takes more than 32 bytes, or when a gateway with the chart's memory leaves its pod's limit.

mod file;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use kanarie_fakes::process;
use kanarie_fakes::server::free_port;
use kanarie_tests::product::binary;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Measures the embedded store's memory.
#[derive(Parser)]
struct Options {
    /// Thousands of SIDs in the file, one after another
    #[arg(long, value_delimiter = ',', default_value = "1000,3000,6000,9000")]
    sids: Vec<u64>,
    /// Thousands of messages that wait
    #[arg(long, default_value_t = 1000)]
    waiting: u64,
    /// Fails in the end if a SID takes more bytes of the process
    #[arg(long, default_value_t = 32.0)]
    most: f64,
}

/// The memory limit of the chart, and what it gives the store of it.
const POD_MIB: f64 = 512.0;
const STORE_MEMORY: &str = "256Mi";
/// Enough for everything that is measured.
const PLENTY: &str = "8Gi";
/// Longest that a file may be read.
const PATIENCE: Duration = Duration::from_secs(900);

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let folder = process::folder("memory")?;
    let (file, empty) = (folder.path().join("sids"), folder.path().join("empty"));
    let base = Gateway::start(&empty, PLENTY).await?.resident()?;
    println!("empty store: {base:.1} MiB");
    let (mut written, mut largest) = (0, 0.0_f64);
    for thousands in &options.sids {
        let count = thousands * 1_000;
        file::write_sids(&file, written..count)?;
        written = count;
        let gateway = Gateway::start(&file, PLENTY).await?;
        let each = (gateway.resident()? - base) * 1_048_576.0 / count as f64;
        gateway.print(&format!("{count} SIDs, {each:.1} bytes each"))?;
        largest = largest.max(each);
    }
    for start in 1..=3 {
        let gateway = Gateway::start(&file, STORE_MEMORY).await?;
        gateway.print(&format!("{written} SIDs in {STORE_MEMORY}, start {start}"))?;
        println!(
            "    forgotten early: {}",
            gateway.metric("kanarie_sids_forgotten_early_total").await?
        );
        ensure!(gateway.peak()? <= POD_MIB, "it left its pod's {POD_MIB} MiB");
    }
    let waiting = options.waiting * 1_000;
    let file = folder.path().join("waiting");
    file::write_waiting(&file, waiting)?;
    for start in 1..=2 {
        let gateway = Gateway::start(&file, PLENTY).await?;
        let each = (gateway.resident()? - base) * 1_048_576.0 / waiting as f64;
        gateway.print(&format!("{waiting} messages wait, {each:.0} bytes each, start {start}"))?;
    }
    ensure!(largest <= options.most, "a SID takes up to {largest:.1} bytes of the process");
    Ok(())
}

/// A gateway that only receives; killed when it is dropped, as by a loss of power.
struct Gateway {
    child: Child,
    admin: String,
    alive: Duration,
    ready: Duration,
}

impl Gateway {
    /// Starts it over the store in a directory and waits until it is ready.
    async fn start(store: &Path, memory: &str) -> Result<Self> {
        let (listen, admin) = (free_port()?, free_port()?);
        let began = Instant::now();
        let child = Command::new(binary("kanarie-gateway")?)
            .arg(format!("--listen=127.0.0.1:{listen}"))
            .arg(format!("--admin-listen=127.0.0.1:{admin}"))
            .arg(format!("--store=embedded:{}", store.display()))
            .arg(format!("--store-memory={memory}"))
            .arg("--turns=0")
            .env("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001")
            .env("TWILIO_AUTH_TOKEN", "token")
            .env("TWILIO_WHATSAPP_NUMBER", "+31201234567")
            .env("TWILIO_WEBHOOK_URL", "https://hooks.example.com/webhooks/twilio/whatsapp")
            .env("AGENT_URL", "https://agent.example.com/")
            .stderr(Stdio::null())
            .spawn()?;
        let admin = format!("127.0.0.1:{admin}");
        let mut gateway = Self { child, admin, alive: Duration::ZERO, ready: Duration::ZERO };
        gateway.alive = gateway.until("/livez", began).await?;
        gateway.ready = gateway.until("/readyz", began).await?;
        Ok(gateway)
    }

    async fn until(&mut self, path: &str, began: Instant) -> Result<Duration> {
        loop {
            if get(&self.admin, path).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(began.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the gateway ended with {status}");
            }
            ensure!(began.elapsed() < PATIENCE, "the gateway is not ready");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn print(&self, what: &str) -> Result<()> {
        let (alive, ready) = (self.alive.as_secs_f64(), self.ready.as_secs_f64());
        let (resident, peak) = (self.resident()?, self.peak()?);
        println!(
            "{what}: alive in {alive:.2} s, ready in {ready:.1} s, {resident:.0} MiB, peak {peak:.0} MiB"
        );
        Ok(())
    }

    fn resident(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    fn peak(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    async fn metric(&self, name: &str) -> Result<String> {
        let page = get(&self.admin, "/metrics").await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context("no such metric")?.trim().to_owned())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

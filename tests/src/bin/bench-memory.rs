//! What the embedded store takes of a pod, and how long it reads: `make bench-memory`.
//!
//! Takes counts of SIDs and of waiting messages; writes files with so many rows, starts the gateway of
//! this build over them, kills it, starts it again, and prints seconds and resident memory. Fails when a
//! SID takes more than 32 bytes, or when a gateway with the chart's memory leaves its pod's limit.

use anyhow::{Result, ensure};
use clap::Parser;
use kanarie_fakes::process;
use kanarie_tests::memory::file::{write_sids, write_waiting};
use kanarie_tests::memory::{FORGOTTEN_EARLY, Receiver};

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

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let folder = process::folder("memory")?;
    let (file, empty) = (folder.path().join("sids"), folder.path().join("empty"));
    let base = Receiver::start(&empty, PLENTY).await?.resident()?;
    println!("empty store: {base:.1} MiB");
    let (mut written, mut largest) = (0, 0.0_f64);
    for thousands in &options.sids {
        let count = thousands * 1_000;
        write_sids(&file, written..count)?;
        written = count;
        let gateway = Receiver::start(&file, PLENTY).await?;
        let each = (gateway.resident()? - base) * 1_048_576.0 / count as f64;
        print(&gateway, &format!("{count} SIDs, {each:.1} bytes each"))?;
        largest = largest.max(each);
    }
    for start in 1..=3 {
        let gateway = Receiver::start(&file, STORE_MEMORY).await?;
        print(&gateway, &format!("{written} SIDs in {STORE_MEMORY}, start {start}"))?;
        println!("    forgotten early: {}", gateway.metric(FORGOTTEN_EARLY).await?);
        ensure!(gateway.peak()? <= POD_MIB, "it left its pod's {POD_MIB} MiB");
    }
    let waiting = options.waiting * 1_000;
    let file = folder.path().join("waiting");
    write_waiting(&file, waiting)?;
    for start in 1..=2 {
        let gateway = Receiver::start(&file, PLENTY).await?;
        let each = (gateway.resident()? - base) * 1_048_576.0 / waiting as f64;
        print(&gateway, &format!("{waiting} messages wait, {each:.0} bytes each, start {start}"))?;
    }
    ensure!(largest <= options.most, "a SID takes up to {largest:.1} bytes of the process");
    Ok(())
}

fn print(gateway: &Receiver, what: &str) -> Result<()> {
    let (alive, ready) = (gateway.alive.as_secs_f64(), gateway.ready.as_secs_f64());
    let (resident, peak) = (gateway.resident()?, gateway.peak()?);
    println!(
        "{what}: alive in {alive:.2} s, ready in {ready:.1} s, {resident:.0} MiB, peak {peak:.0} MiB"
    );
    Ok(())
}

//! What the operator costs: processor time and memory of its process, and its requests at the API
//! server.
//!
//! Takes the id of the process and the file in which the API server writes requests down; gives
//! differences. Never counts a watch.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::time::sleep;

/// How long the API server may keep what it writes down in batches.
const BATCH: Duration = Duration::from_millis(1500);

/// Reads the file of requests on and on.
pub(crate) struct Requests {
    file: PathBuf,
    read: u64,
}

/// Requests by verb and kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(BTreeMap<String, u64>);

#[derive(Deserialize)]
struct Line {
    verb: String,
    #[serde(rename = "objectRef")]
    about: Option<About>,
}

#[derive(Deserialize)]
struct About {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

impl Requests {
    /// Of this file, from its beginning.
    pub(crate) fn of(file: PathBuf) -> Self {
        Self { file, read: 0 }
    }

    /// Those since the last time.
    pub(crate) async fn since(&mut self) -> Result<Counts> {
        sleep(BATCH).await;
        let mut counts = Counts::default();
        let Ok(mut file) = File::open(&self.file) else { return Ok(counts) };
        file.seek(SeekFrom::Start(self.read))?;
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        // A line without its end is read by the next call.
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            self.read += line.len() as u64;
            let Line { verb, about } = serde_json::from_str(&line)?;
            let kind = about.map_or_else(
                || "-".to_owned(),
                |about| match &*about.subresource {
                    "" => about.resource,
                    of => format!("{}/{of}", about.resource),
                },
            );
            *counts.0.entry(format!("{verb} {kind}")).or_default() += 1;
            line.clear();
        }
        Ok(counts)
    }
}

impl Counts {
    /// All of them, without the Lease.
    pub(crate) fn all(&self) -> u64 {
        self.of(|name| !name.ends_with(" leases"))
    }

    /// Those that write, without the Lease.
    pub(crate) fn writes(&self) -> u64 {
        self.of(|name| {
            let reads = ["get ", "list "].iter().any(|verb| name.starts_with(verb));
            !reads && !name.ends_with(" leases")
        })
    }

    /// Those of the Lease.
    pub(crate) fn leases(&self) -> u64 {
        self.of(|name| name.ends_with(" leases"))
    }

    /// Takes others in.
    pub(crate) fn add(&mut self, others: Self) {
        for (name, count) in others.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    fn of(&self, counts: impl Fn(&str) -> bool) -> u64 {
        self.0.iter().filter(|(name, _)| counts(name)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(|(name, n)| format!("{n} {name}")).collect();
        write!(to, "{}", each.join(", "))
    }
}

/// Seconds of processor time that a process has used.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may have spaces; the 14th and 15th field of all.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// MiB of memory that a process has.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    memory(pid, "VmRSS:")
}

/// The most MiB that it ever had.
pub(crate) fn peak(pid: u32) -> Result<f64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

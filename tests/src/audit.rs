//! What a program asks an API server, counted where it arrives.
//!
//! Takes the file in which the control plane of the tests writes the requests of service accounts; gives
//! how many there were of each kind. Never counts a watch, nor what an administrator asks.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use tokio::time::sleep;

use crate::control_plane::ControlPlane;

/// How long the API server may keep what it writes down in batches.
const BATCH: Duration = Duration::from_millis(1500);

/// Reads the requests of one service account, on and on.
#[derive(Debug)]
pub struct AuditedRequests {
    file: PathBuf,
    account: String,
    read: u64,
}

/// Requests by verb and kind.
#[derive(Clone, Debug, Default)]
pub struct RequestCounts(BTreeMap<String, u64>);

#[derive(Deserialize)]
struct Line {
    verb: String,
    user: User,
    #[serde(rename = "objectRef")]
    about: Option<About>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct About {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

impl AuditedRequests {
    /// Of a service account, from its beginning.
    pub fn of(plane: &ControlPlane, namespace: &str, name: &str) -> Self {
        let account = format!("system:serviceaccount:{namespace}:{name}");
        Self { file: plane.audit(), account, read: 0 }
    }

    /// Those since the last time.
    ///
    /// # Errors
    /// The file is not what an API server writes.
    pub async fn since(&mut self) -> Result<RequestCounts> {
        sleep(BATCH).await;
        let mut counts = RequestCounts::default();
        let Ok(mut file) = File::open(&self.file) else { return Ok(counts) };
        file.seek(SeekFrom::Start(self.read))?;
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        // A line without its end is read by the next call.
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            self.read += line.len() as u64;
            let Line { verb, user, about } = serde_json::from_str(&line)?;
            let kind = about.map_or_else(
                || "-".to_owned(),
                |about| match &*about.subresource {
                    "" => about.resource,
                    of => format!("{}/{of}", about.resource),
                },
            );
            if user.username == self.account {
                *counts.0.entry(format!("{verb} {kind}")).or_default() += 1;
            }
            line.clear();
        }
        Ok(counts)
    }
}

impl RequestCounts {
    /// All of them, without the Lease.
    pub fn all(&self) -> u64 {
        self.of(|name| !name.ends_with(" leases"))
    }

    /// Those that write, without the Lease.
    pub fn writes(&self) -> u64 {
        self.of(|name| {
            let reads = ["get ", "list "].iter().any(|verb| name.starts_with(verb));
            !reads && !name.ends_with(" leases")
        })
    }

    /// Those that read, without the Lease.
    pub fn reads(&self) -> u64 {
        self.all() - self.writes()
    }

    /// Those of the Lease.
    pub fn leases(&self) -> u64 {
        self.of(|name| name.ends_with(" leases"))
    }

    /// Takes others in.
    pub fn add(&mut self, others: Self) {
        for (name, count) in others.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    fn of(&self, counts: impl Fn(&str) -> bool) -> u64 {
        self.0.iter().filter(|(name, _)| counts(name)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for RequestCounts {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> = self.0.iter().map(|(name, n)| format!("{n} {name}")).collect();
        write!(to, "{}", each.join(", "))
    }
}

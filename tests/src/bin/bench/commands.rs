//! What a Redis server was asked so far, by its own count.
//!
//! Takes a server; gives calls and time by command from INFO commandstats. A trip is a command of a
//! client; those inside a script are counted beside it. The connection is made before a timed part.

use std::collections::BTreeMap;

use anyhow::Result;
use kanarie_fakes::redis_server::RedisServer;
use redis::aio::MultiplexedConnection;

/// What a client sends that no script calls.
const TRIPS: [&str; 5] = ["evalsha", "eval", "fcall", "ping", "script|load"];

/// A connection that asks.
pub(crate) struct Counter(MultiplexedConnection);

/// Calls and microseconds by command.
#[derive(Clone, Default)]
pub(crate) struct Commands(BTreeMap<String, (u64, u64)>);

impl Counter {
    /// Connects.
    pub(crate) async fn of(server: &RedisServer) -> Result<Self> {
        let client = redis::Client::open(server.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        // A rewrite of the log in one run and not in another would be most of its time.
        redis::cmd("CONFIG")
            .arg("SET")
            .arg("auto-aof-rewrite-percentage")
            .arg(0)
            .query_async::<()>(&mut connection)
            .await?;
        Ok(Self(connection))
    }

    /// Everything so far.
    pub(crate) async fn read(&mut self) -> Result<Commands> {
        let info: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.0).await?;
        Ok(Commands(info.lines().filter_map(line).collect()))
    }
}

impl Commands {
    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let new = self.0.iter().map(|(name, (calls, time))| {
            let (before, spent) = before.0.get(name).copied().unwrap_or_default();
            (name.clone(), (calls - before, time - spent))
        });
        Self(new.filter(|(name, (calls, _))| *calls > 0 && name != "info").collect())
    }

    /// Commands of clients.
    pub(crate) fn trips(&self) -> f64 {
        TRIPS.iter().filter_map(|name| self.0.get(*name)).map(|(calls, _)| *calls as f64).sum()
    }

    /// Scripts that were called.
    pub(crate) fn scripts(&self) -> f64 {
        ["evalsha", "fcall"]
            .iter()
            .filter_map(|name| self.0.get(*name))
            .map(|(n, _)| *n as f64)
            .sum()
    }

    /// Everything, also what scripts called.
    pub(crate) fn all(&self) -> f64 {
        self.0.values().map(|(calls, _)| *calls as f64).sum()
    }

    /// Microseconds inside scripts; the rest of the server's time is sockets, log and fsync.
    pub(crate) fn inside(&self) -> f64 {
        ["evalsha", "fcall"]
            .iter()
            .filter_map(|name| self.0.get(*name))
            .map(|(_, t)| *t as f64)
            .sum()
    }

    /// The most called, by name, for each of `messages`.
    pub(crate) fn profile(&self, messages: f64) -> String {
        let mut calls: Vec<_> = self.0.iter().map(|(name, (calls, _))| (*calls, name)).collect();
        calls.sort_unstable_by(|a, b| b.cmp(a));
        let each =
            |(calls, name): &(u64, &String)| format!("{name} {:.2}", *calls as f64 / messages);
        calls.iter().take(12).map(each).collect::<Vec<_>>().join(", ")
    }
}

/// `cmdstat_evalsha:calls=3,usec=40,…`
fn line(line: &str) -> Option<(String, (u64, u64))> {
    let (name, values) = line.strip_prefix("cmdstat_")?.split_once(':')?;
    let value = |wanted: &str| {
        values.trim().split(',').find_map(|pair| pair.strip_prefix(wanted)?.parse().ok())
    };
    Some((name.to_owned(), (value("calls=")?, value("usec=")?)))
}

#[cfg(test)]
mod tests {
    use super::{Commands, line};

    fn commands(text: &str) -> Commands {
        Commands(text.lines().filter_map(line).collect())
    }

    #[test]
    fn trips_are_what_clients_sent_since_the_first_reading() {
        let before = commands("cmdstat_evalsha:calls=10,usec=400,usec_per_call=40.00\r\n");
        let after = commands(
            "# Commandstats\r\ncmdstat_evalsha:calls=13,usec=460,usec_per_call=35.00\r\n\
             cmdstat_hget:calls=30,usec=20,x=1\r\ncmdstat_info:calls=1,usec=9\r\n",
        );
        let new = after.since(&before);
        assert_eq!((new.trips(), new.all(), new.inside()), (3.0, 33.0, 60.0));
        assert_eq!(new.profile(3.0), "hget 10.00, evalsha 1.00");
    }
}

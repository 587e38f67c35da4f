//! A new connection, and whether the server behind it can be used.
//!
//! Takes an address; gives a connection to a writable server that keeps what is asked of it and whose
//! rows this version reads, or why there is none. Changes no setting of the server, and writes one
//! thing: the number of the layout, where none stands and nothing waits.

use std::collections::BTreeMap;
use std::time::Duration;

use kanarie_words::ids::SHARDS;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind,
    Value, cmd, pipe,
};
use tokio::time::timeout;

use crate::store::redis::address::Address;
use crate::store::redis::call::{KEY, LAYOUT};
use crate::store::redis::failure::describe;
use crate::store::redis::promise::{Promise, Promises};
use crate::store::redis::unfit::Unfit;

/// Commands that wait for the socket in one lane. Enough for every task of a busy gateway to have
/// one, few enough that the last is still answered within the deadline.
const IN_FLIGHT: usize = 1_024;

/// The layout of the rows that this version reads and writes.
const READS: u64 = 2;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Failed {
    /// Not now.
    Away(String),
    /// Never, until somebody changes the server.
    Unfit(Unfit),
}

/// Connects and looks at the server. Each of the two takes at most `limit`.
pub(super) async fn connect(
    address: &Address,
    limit: Duration,
    promises: &Promises,
) -> Result<MultiplexedConnection, Failed> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        // Whoever asks has a deadline of his own: a second timer for each command says no more.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(IN_FLIGHT)
        .set_concurrency_limit(IN_FLIGHT);
    let client = Client::open(address.info.clone()).map_err(|error| away(&error))?;
    let connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|error| away(&error))?;
    let mut look = Look { connection: connection.clone(), server: &address.name };
    let inspected = timeout(limit, look.inspect(promises));
    inspected.await.map_err(|_| Failed::Away("no answer in time".to_owned()))??;
    Ok(connection)
}

/// A look at a server, question by question.
struct Look<'a> {
    connection: MultiplexedConnection,
    /// Host and port.
    server: &'a str,
}

impl Look<'_> {
    async fn inspect(&mut self, promises: &Promises) -> Result<(), Failed> {
        // A server that loads its data answers everything else, but this one with LOADING.
        let ping = cmd("PING").query_async::<Value>(&mut self.connection).await;
        ping.map_err(|error| away(&error))?;
        let role: Option<Vec<Value>> = self.ask(&cmd("ROLE")).await?;
        if role.and_then(|role| role.into_iter().next()).is_some_and(|role| role != word("master"))
        {
            return Err(Failed::Away("the server is a replica".to_owned()));
        }
        let info: String = self.ask(&cmd("INFO")).await?.unwrap_or_default();
        if let Some(version) = too_old(&info) {
            let (server, version) = (self.server.to_owned(), version.to_owned());
            return Err(Failed::Unfit(Unfit::TooOld { server, version }));
        }
        match field(&info, "cluster_enabled") {
            Some("1") => return Err(self.cluster()),
            Some(_) => {}
            // It does not say so: a node of one has a part of the shards only.
            None => drop(self.anything_waits().await?),
        }
        let promise = self.promise(&info).await?;
        promises.hear(self.server, promise).map_err(Failed::Unfit)?;
        self.layout().await
    }

    /// What it promises about what it is told.
    async fn promise(&mut self, info: &str) -> Result<Promise, Failed> {
        let get = |name| {
            let mut get = cmd("CONFIG");
            get.arg("GET").arg(name);
            get
        };
        let memory: Option<BTreeMap<String, String>> = self.ask(&get("maxmemory*")).await?;
        let fsync: Option<BTreeMap<String, String>> = self.ask(&get("appendfsync")).await?;
        Ok(Promise {
            has_file: field(info, "aof_enabled").map(|enabled| enabled != "0"),
            fsync: fsync.and_then(|mut settings| settings.remove("appendfsync")),
            evicts: evicts(&memory.unwrap_or_default(), info),
        })
    }

    /// A server with a key and no number is of layout 1: it is taken over once nothing waits in it.
    async fn layout(&mut self) -> Result<(), Failed> {
        let server = self.server.to_owned();
        let found: Option<Option<String>> = self.ask(cmd("GET").arg(LAYOUT)).await?;
        match found {
            // Not allowed to read it: neither will a verb be.
            None => return Ok(()),
            Some(Some(found)) if found == READS.to_string() => return Ok(()),
            Some(Some(found)) => {
                return Err(Failed::Unfit(Unfit::Newer { server, found, reads: READS }));
            }
            Some(None) => {}
        }
        let has_key: Option<bool> = self.ask(cmd("EXISTS").arg(KEY)).await?;
        if has_key == Some(true) && self.anything_waits().await? {
            return Err(Failed::Unfit(Unfit::Undrained { server }));
        }
        self.ask::<Value>(cmd("SET").arg(LAYOUT).arg(READS).arg("NX")).await.map(drop)
    }

    /// One key a command, which a node of a cluster asks for, and one trip.
    async fn anything_waits(&mut self) -> Result<bool, Failed> {
        let mut commands = pipe();
        for shard in 0..SHARDS {
            commands.cmd("EXISTS").arg(format!("{{gw:{shard:02}}}:conv"));
        }
        let found: Result<Vec<bool>, _> = commands.query_async(&mut self.connection).await;
        Ok(self.allowed(found)?.is_some_and(|found| found.contains(&true)))
    }

    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<Option<T>, Failed> {
        let answer = command.query_async(&mut self.connection).await;
        self.allowed(answer)
    }

    /// A command that an access list or a provider may forbid: then it tells nothing.
    fn allowed<T>(&self, answer: Result<T, RedisError>) -> Result<Option<T>, Failed> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_io_error() => Err(away(&error)),
            Err(error) => match error.kind() {
                ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::ClusterDown) => {
                    Err(self.cluster())
                }
                _ => Ok(None),
            },
        }
    }

    fn cluster(&self) -> Failed {
        Failed::Unfit(Unfit::Cluster { server: self.server.to_owned() })
    }
}

/// One line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let of = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(of).map(str::trim)
}

fn too_old(info: &str) -> Option<&str> {
    let version = field(info, "redis_version")?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < 7).then_some(version)
}

/// The policy, when there is a limit and the policy drops keys at it; nothing when the server does not say
/// enough. What its settings do not tell, `INFO` does.
fn evicts(settings: &BTreeMap<String, String>, info: &str) -> Option<Option<String>> {
    let of = |setting: &str, name: &str| {
        settings.get(setting).map(String::as_str).or_else(|| field(info, name))
    };
    match (of("maxmemory", "maxmemory"), of("maxmemory-policy", "maxmemory_policy")) {
        (Some("0"), _) | (_, Some("noeviction")) => Some(None),
        (Some(_), Some(policy)) => Some(Some(policy.to_owned())),
        _ => None,
    }
}

fn away(error: &RedisError) -> Failed {
    Failed::Away(describe(error))
}

fn word(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(maxmemory: &str, policy: &str) -> BTreeMap<String, String> {
        [("maxmemory", maxmemory), ("maxmemory-policy", policy)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_policy_that_drops_keys_is_unfit_only_with_a_limit() {
        let drops = Some(Some("allkeys-lru".to_owned()));
        assert_eq!(evicts(&settings("100", "allkeys-lru"), ""), drops);
        assert_eq!(evicts(&settings("0", "allkeys-lru"), ""), Some(None));
        assert_eq!(evicts(&settings("100", "noeviction"), ""), Some(None));
    }

    #[test]
    fn what_the_settings_do_not_tell_info_does_and_else_it_is_unknown() {
        let info = "# Memory\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n";
        let none = BTreeMap::new();
        assert_eq!(evicts(&none, info), Some(Some("allkeys-lru".to_owned())));
        assert_eq!(evicts(&none, "maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"), Some(None));
        for little in ["", "maxmemory:100\r\n", "maxmemory_policy:allkeys-lru\r\n"] {
            assert_eq!(evicts(&none, little), None, "{little}");
        }
    }

    #[test]
    fn a_server_before_version_7_is_too_old() {
        assert_eq!(too_old("# Server\r\nredis_version:6.2.14\r\nx:y"), Some("6.2.14"));
        assert_eq!(too_old("redis_version:7.0.15\r\n"), None);
        assert_eq!(too_old("redis_version:10.0.0\r\n"), None);
    }
}

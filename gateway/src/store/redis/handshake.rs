//! A new connection, and whether the server behind it can be used.
//!
//! Takes an address; gives a connection to a writable server that drops nothing by itself and whose
//! rows this version reads, or why there is none. Changes no setting of the server, and writes one
//! thing: the number of the layout, where none stands and nothing waits.

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::Duration;

use kanarie_words::ids::SHARDS;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Value, cmd, pipe};
use tokio::time::timeout;

use crate::store::redis::address::Address;
use crate::store::redis::call::{KEY, LAYOUT};
use crate::store::redis::failure::describe;

/// Commands that wait for the socket in one lane. Enough for every task of a busy gateway to have
/// one, few enough that the last is still answered within the deadline.
const IN_FLIGHT: usize = 1_024;

/// The layout of the rows that this version reads and writes.
const READS: u64 = 2;

/// A server that answers and must not be used: nobody is helped by waiting.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    /// It would drop messages to make room.
    #[error(
        "the Redis server {server} has maxmemory-policy {policy} and would drop accepted messages \
         when its memory is full: set maxmemory-policy noeviction"
    )]
    Evicts {
        /// Host and port.
        server: String,
        /// Its policy.
        policy: String,
    },
    /// It does not know script flags.
    #[error("the Redis server {server} is version {version}: version 7 or newer is needed")]
    TooOld {
        /// Host and port.
        server: String,
        /// Its version.
        version: String,
    },
    /// Messages wait in rows that this version does not read.
    #[error(
        "messages in rows of layout 1 still wait in the Redis server {server}: let the gateways that \
         wrote them answer them, end those gateways, and start this one again"
    )]
    Undrained {
        /// Host and port.
        server: String,
    },
    /// Its rows are of a layout that this version does not know.
    #[error(
        "the rows in the Redis server {server} are of layout {found}, written by a newer version: \
         this one reads layout {READS}; run that version, or use another server"
    )]
    Newer {
        /// Host and port.
        server: String,
        /// The number that stands there.
        found: String,
    },
}

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
) -> Result<MultiplexedConnection, Failed> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        // Whoever asks has a deadline of his own: a second timer for each command says no more.
        .set_response_timeout(None)
        .set_pipeline_buffer_size(IN_FLIGHT)
        .set_concurrency_limit(IN_FLIGHT);
    let client = Client::open(address.info.clone()).map_err(|error| away(&error))?;
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|error| away(&error))?;
    let look = timeout(limit, inspect(&mut connection, &address.name));
    look.await.map_err(|_| Failed::Away("no answer in time".to_owned()))??;
    Ok(connection)
}

async fn inspect(connection: &mut MultiplexedConnection, server: &str) -> Result<(), Failed> {
    // A server that loads its data answers everything else, but this one with LOADING.
    let _: Value = cmd("PING").query_async(connection).await.map_err(|error| away(&error))?;
    let role: Option<Vec<Value>> = allowed(cmd("ROLE").query_async(connection).await)?;
    if role.and_then(|role| role.into_iter().next()).is_some_and(|role| role != word("master")) {
        return Err(Failed::Away("the server is a replica".to_owned()));
    }
    let server_info: Option<String> =
        allowed(cmd("INFO").arg("server").query_async(connection).await)?;
    if let Some(version) = server_info.as_deref().and_then(too_old) {
        let (server, version) = (server.to_owned(), version.to_owned());
        return Err(Failed::Unfit(Unfit::TooOld { server, version }));
    }
    look_at_memory(connection, server).await?;
    look_at_layout(connection, server).await
}

async fn look_at_memory(
    connection: &mut MultiplexedConnection,
    server: &str,
) -> Result<(), Failed> {
    let memory = cmd("CONFIG").arg("GET").arg("maxmemory*").query_async(connection).await;
    let Some(settings) = allowed::<BTreeMap<String, String>>(memory)? else {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::warn!(
                %server,
                "CONFIG GET is forbidden: make sure that maxmemory-policy is noeviction, or \
                 accepted messages are dropped when the server's memory is full"
            );
        });
        return Ok(());
    };
    match evicts(&settings) {
        Some(policy) => Err(Failed::Unfit(Unfit::Evicts { server: server.to_owned(), policy })),
        None => Ok(()),
    }
}

/// A server with a key and no number is of layout 1: it is taken over once nothing waits in it.
async fn look_at_layout(
    connection: &mut MultiplexedConnection,
    server: &str,
) -> Result<(), Failed> {
    let server = server.to_owned();
    let found: Option<Option<String>> =
        allowed(cmd("GET").arg(LAYOUT).query_async(connection).await)?;
    match found {
        // Not allowed to read it: neither will a verb be.
        None => return Ok(()),
        Some(Some(found)) if found == READS.to_string() => return Ok(()),
        Some(Some(found)) => return Err(Failed::Unfit(Unfit::Newer { server, found })),
        Some(None) => {}
    }
    let of_key = cmd("EXISTS").arg(KEY).query_async(connection).await;
    if allowed::<bool>(of_key)? == Some(true) && anything_waits(connection).await? {
        return Err(Failed::Unfit(Unfit::Undrained { server }));
    }
    let set = cmd("SET").arg(LAYOUT).arg(READS).arg("NX").query_async(connection).await;
    allowed::<Value>(set).map(drop)
}

/// One key a command, which a node of a cluster asks for, and one trip.
async fn anything_waits(connection: &mut MultiplexedConnection) -> Result<bool, Failed> {
    let mut commands = pipe();
    for shard in 0..SHARDS {
        commands.cmd("EXISTS").arg(format!("{{gw:{shard:02}}}:conv"));
    }
    let found: Option<Vec<bool>> = allowed(commands.query_async(connection).await)?;
    Ok(found.is_some_and(|found| found.contains(&true)))
}

/// A command that an access list or a provider may forbid: then it tells nothing.
fn allowed<T>(answer: Result<T, RedisError>) -> Result<Option<T>, Failed> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_io_error() => Err(away(&error)),
        Err(_) => Ok(None),
    }
}

fn too_old(info: &str) -> Option<&str> {
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"))?.trim();
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < 7).then_some(version)
}

/// The policy, when there is a limit and the policy drops keys at it.
fn evicts(settings: &BTreeMap<String, String>) -> Option<String> {
    let limit = settings.get("maxmemory").map_or("0", String::as_str);
    let policy = settings.get("maxmemory-policy").map_or("noeviction", String::as_str);
    (limit != "0" && policy != "noeviction").then(|| policy.to_owned())
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
        assert_eq!(evicts(&settings("100", "allkeys-lru")).as_deref(), Some("allkeys-lru"));
        assert_eq!(evicts(&settings("0", "allkeys-lru")), None);
        assert_eq!(evicts(&settings("100", "noeviction")), None);
    }

    #[test]
    fn a_server_before_version_7_is_too_old() {
        assert_eq!(too_old("# Server\r\nredis_version:6.2.14\r\nx:y"), Some("6.2.14"));
        assert_eq!(too_old("redis_version:7.0.15\r\n"), None);
        assert_eq!(too_old("redis_version:10.0.0\r\n"), None);
    }
}

//! The store's URL: which Redis to speak to, and how.
//!
//! Takes `redis://` or `rediss://` with one host; gives what the client needs and a name for logs.
//! Does no I/O. Neither its errors nor its Debug ever show user or password.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2};
use redis::{ConnectionInfo, IntoConnectionInfo};
use url::Url;

/// A server to connect to.
#[derive(Clone)]
pub(super) struct Address {
    /// Host, port, credentials and socket options.
    pub(super) info: ConnectionInfo,
    /// Host and port, for people.
    pub(super) name: String,
}

/// Why a URL names no store. None of these shows the URL.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Sentinel.
    #[error(
        "the store's URL names Redis Sentinel, which is not supported yet: give the address of \
         one server, redis://host:6379"
    )]
    Sentinel,
    /// Cluster.
    #[error(
        "the store's URL names Redis Cluster, which is not supported yet: give the address of \
         one server, redis://host:6379"
    )]
    Cluster,
    /// Several hosts.
    #[error(
        "the store's URL names several hosts, which is not supported yet: give the address of \
         one server, redis://host:6379"
    )]
    SeveralHosts,
    /// A database other than 0.
    #[error("the store's URL names a database: only 0 is used, as in redis://host:6379")]
    Database,
    /// Settings in the URL.
    #[error("the store's URL has a query or a fragment: write it as redis://host:6379")]
    Settings,
    /// Not such a URL at all.
    #[error(
        "the store's URL is not of the form redis://user:password@host:6379 or rediss://host:6379"
    )]
    Malformed,
}

impl Address {
    /// Parses the URL.
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Malformed)?;
        if scheme.contains("sentinel") {
            return Err(AddressError::Sentinel);
        }
        if scheme.contains("cluster") {
            return Err(AddressError::Cluster);
        }
        // A comma may stand in a password, never in a host.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.rsplit('@').next().is_some_and(|hosts| hosts.contains(',')) {
            return Err(AddressError::SeveralHosts);
        }
        let url = Url::parse(text).map_err(|_| AddressError::Malformed)?;
        if !matches!(url.scheme(), "redis" | "rediss") {
            return Err(AddressError::Malformed);
        }
        if !matches!(url.path().trim_matches('/'), "" | "0") {
            return Err(AddressError::Database);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Settings);
        }
        let info = url.into_connection_info().map_err(|_| AddressError::Malformed)?;
        let name = info.addr().to_string();
        let login = info.redis_settings().clone().set_skip_set_lib_name();
        let info = info.set_redis_settings(login).set_tcp_settings(socket());
        Ok(Self { info, name })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Address").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Nagle's wait would cost a round trip a write; the two others let the kernel notice a silent peer
/// even if the supervisor should not.
fn socket() -> TcpSettings {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(15));
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(5));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> AddressError {
        Address::parse(url).unwrap_err()
    }

    #[test]
    fn one_server_with_or_without_tls_is_accepted() {
        for url in ["redis://localhost", "redis://:p@h:6380/0", "rediss://u:p%2C@h:6380/"] {
            assert!(Address::parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn sentinels_are_refused_with_a_sentence() {
        assert_eq!(refusal("redis-sentinel://a:26379/main"), AddressError::Sentinel);
        assert_eq!(refusal("redis+sentinel://a:26379/main"), AddressError::Sentinel);
    }

    #[test]
    fn clusters_are_refused_with_a_sentence() {
        assert_eq!(refusal("redis-cluster://a:6379"), AddressError::Cluster);
    }

    #[test]
    fn several_hosts_are_refused_with_a_sentence() {
        assert_eq!(refusal("redis://a:6379,b:6379"), AddressError::SeveralHosts);
        assert_eq!(refusal("redis://u:p@a,b/0"), AddressError::SeveralHosts);
    }

    #[test]
    fn other_databases_and_settings_are_refused() {
        assert_eq!(refusal("redis://a:6379/1"), AddressError::Database);
        assert_eq!(refusal("rediss://a:6379/#insecure"), AddressError::Settings);
        assert_eq!(refusal("redis://a?protocol=resp3"), AddressError::Settings);
    }

    #[test]
    fn anything_else_is_refused() {
        for url in ["", "localhost:6379", "http://a", "redis://", "unix:///tmp/redis.sock"] {
            assert_eq!(refusal(url), AddressError::Malformed, "{url}");
        }
    }

    #[test]
    fn no_word_of_the_credentials_is_ever_shown() {
        let shown = format!("{:?}", Address::parse("redis://alice:hunter2@h:1").unwrap());
        assert!(!shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
        for url in ["redis://alice:hunter2@h:1/x", "redis://alice:hunter2@h:one"] {
            let shown = format!("{0} {0:?}", refusal(url));
            assert!(!shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
        }
    }
}

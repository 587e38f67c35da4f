//! Why a Redis server that answers must not be used.
//!
//! Takes nothing, gives sentences: what the server is, and what to do about it. Never shows a URL.

/// A server that answers and must not be used: nobody is helped by waiting.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    /// It would drop messages to make room.
    #[error(
        "the Redis server {server} has maxmemory-policy {policy} and would drop accepted messages \
         when its memory is full: set maxmemory-policy noeviction, or say --store-durability=relaxed \
         if they may be lost"
    )]
    Evicts {
        /// Host and port.
        server: String,
        /// Its policy.
        policy: String,
    },
    /// It would lose messages with its process.
    #[error(
        "the Redis server {server} has no append-only file and would lose accepted messages with its \
         process: set appendonly yes, or say --store-durability=relaxed if they may be lost"
    )]
    Forgets {
        /// Host and port.
        server: String,
    },
    /// It has a part of the keys only.
    #[error(
        "the Redis server {server} is a node of a Redis Cluster, which is not supported yet: use a \
         server that is none"
    )]
    Cluster {
        /// Host and port.
        server: String,
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
         this one reads layout {reads}; run that version, or use another server"
    )]
    Newer {
        /// Host and port.
        server: String,
        /// The number that stands there.
        found: String,
        /// The number that is read.
        reads: u64,
    },
}

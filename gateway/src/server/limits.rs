//! What a client of a port may take: times, sizes and places.
//!
//! Takes nothing, gives numbers. The defaults are those of the public port.

use std::time::Duration;

/// What a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// From a header's first byte to its last; for the first request, from the connection.
    pub header: Duration,
    /// Between an answer and the next request: longer than the proxies before us keep an idle
    /// connection, so that they end it and not we.
    pub idle: Duration,
    /// For a body.
    pub body: Duration,
    /// For the client to make room for more of an answer, once what the system keeps for it is full.
    pub answer: Duration,
    /// Most bytes of a body.
    pub body_bytes: usize,
    /// Most connections at once.
    pub connections: usize,
    /// For what is being answered when the server is told to stop.
    pub drain: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            body_bytes: 64 * 1024,
            connections: 4096,
            drain: Duration::from_secs(10),
        }
    }
}

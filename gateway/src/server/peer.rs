//! Who is at the other end of a connection.
//!
//! Takes the address that a connection came from; handlers find it among a request's extensions. Behind
//! a proxy it is the proxy's: no header is believed.

use std::net::SocketAddr;

/// The address that a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

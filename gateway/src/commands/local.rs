//! The URL of a listener on this machine.
//!
//! Takes an address as a flag has it; gives a URL by which this machine reaches it. One that listens
//! everywhere is reached by loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The URL of a listener on this machine.
pub(super) fn local(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let here = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port());
            format!("http://{here}")
        }
        _ => format!("http://{listen}"),
    }
}

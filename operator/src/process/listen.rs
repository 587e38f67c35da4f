//! Opens a port: `[::]` is every address of this machine, of both families where it has both.
//!
//! Takes an address, gives a listener. On a machine without IPv6 `[::]` becomes `0.0.0.0`, and a line
//! says so; every other address is taken as it is or not at all.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// Listens on an address.
///
/// # Errors
/// The system's.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(&candidates(address)[..]).await?;
    let instead = listener.local_addr()?;
    if address.is_ipv6() && instead.is_ipv4() {
        tracing::warn!(%instead, "there is no IPv6 here: listening on IPv4 only");
    }
    Ok(listener)
}

/// The addresses to try, the first that there is being taken.
fn candidates(address: SocketAddr) -> Vec<SocketAddr> {
    let is_every = address.is_ipv6() && address.ip().is_unspecified();
    let instead = is_every.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())));
    [Some(address), instead].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::{bind, candidates};

    #[test]
    fn every_ipv6_address_may_become_every_ipv4_one_and_no_other_is_replaced() {
        let tried = |address: &str| {
            let addresses = candidates(address.parse().unwrap());
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(tried("[::]:8080"), ["[::]:8080", "0.0.0.0:8080"]);
        assert_eq!(tried("[::1]:8080"), ["[::1]:8080"]);
        assert_eq!(tried("127.0.0.1:8080"), ["127.0.0.1:8080"]);
    }

    #[tokio::test]
    async fn every_address_is_reached_by_ipv4_too_and_taken_once() {
        let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
        assert!(bind(format!("[::]:{port}").parse().unwrap()).await.is_err());
    }
}

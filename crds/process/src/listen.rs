//! Opens a port: `[::]` is every address of this machine, of both families where it has both.
//!
//! Takes an address, gives a listener. On a machine without IPv6 `[::]` becomes `0.0.0.0`, and the caller
//! is told so; every other address is taken as it is or not at all.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Listens on an address; `without_ipv6` hears of the one that was taken instead.
///
/// # Errors
/// The system's.
pub fn bind(address: SocketAddr, without_ipv6: impl FnOnce(SocketAddr)) -> io::Result<TcpListener> {
    let mut listener = Err(io::ErrorKind::AddrNotAvailable.into());
    for candidate in candidates(address) {
        listener = open(candidate);
        if listener.is_ok() {
            break;
        }
    }
    let listener = listener?;
    let instead = listener.local_addr()?;
    if address.is_ipv6() && instead.is_ipv4() {
        without_ipv6(instead);
    }
    Ok(listener)
}

/// Clients that wait for a place at most; the system may allow fewer. What comes beyond gets no answer
/// and asks again a second later.
const BACKLOG: u32 = 1_024;

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    // A port is taken again though connections of the process before still end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The addresses to try, the first that there is being taken.
fn candidates(address: SocketAddr) -> Vec<SocketAddr> {
    let is_every = address.is_ipv6() && address.ip().is_unspecified();
    let instead = is_every.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())));
    [Some(address), instead].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::time::timeout;

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
        let listener = bind("[::]:0".parse().unwrap(), |_| ()).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_ok());
        assert!(bind(format!("[::]:{port}").parse().unwrap(), |_| ()).is_err());
    }

    #[tokio::test]
    async fn many_clients_may_wait_to_be_taken() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), |_| ()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = || timeout(Duration::from_secs(10), TcpStream::connect(address));
        let mut waiting = Vec::new();
        for _ in 0..200 {
            waiting.push(client().await.expect("it waits with the others").unwrap());
        }
    }
}

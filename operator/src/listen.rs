//! Opens a port: `[::]` is every address of this machine, of both families where it has both.
//!
//! Takes an address, gives a listener. On a machine without IPv6 `[::]` becomes `0.0.0.0`, and a line
//! says so; every other address is taken as it is or not at all.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::io::Errno;
use tokio::net::TcpListener;

/// Listens on an address.
///
/// # Errors
/// The system's.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_by(address, TcpListener::bind).await
}

async fn bind_by<T, F>(address: SocketAddr, bind: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    match bind(address).await {
        Err(error) if is_every_ipv6(address) && lacks_ipv6(&error) => {
            let instead = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            tracing::warn!(%instead, "there is no IPv6 here: listening on IPv4 only");
            bind(instead).await
        }
        bound => bound,
    }
}

fn is_every_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// Whether the system has no such family at all, or no address of it.
fn lacks_ipv6(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use rustix::io::Errno;

    use super::{bind, bind_by};

    /// Binds on a machine without IPv6.
    async fn without_ipv6(address: SocketAddr) -> io::Result<SocketAddr> {
        if address.is_ipv6() { Err(Errno::AFNOSUPPORT.into()) } else { Ok(address) }
    }

    #[tokio::test]
    async fn where_there_is_no_ipv6_every_address_is_every_ipv4_one() {
        let bound = bind_by("[::]:8080".parse().unwrap(), without_ipv6).await;
        assert_eq!(bound.unwrap().to_string(), "0.0.0.0:8080");
    }

    #[tokio::test]
    async fn one_address_is_never_replaced_by_another() {
        assert!(bind_by("[::1]:8080".parse().unwrap(), without_ipv6).await.is_err());
        let taken = |_| async { Err::<(), _>(io::Error::from(Errno::ADDRINUSE)) };
        let error = bind_by("[::]:8080".parse().unwrap(), taken).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn every_address_is_reached_by_ipv4_too() {
        let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok());
    }
}

//! A TCP proxy that breaks, pauses and restores the way to a server.
//!
//! Takes the address of the server; gives an address to use instead. Never looks at the bytes.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::loopback;

/// What the proxy does to connections, old and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Bytes flow.
    Open,
    /// Connections stay and are accepted, but no byte flows: a network that swallows packets.
    Paused,
    /// Connections are closed, and new ones at once: a server that is gone.
    Broken,
    /// Connections are closed, and nobody listens: the system refuses new ones.
    Refused,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one in front of a server, open.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(loopback()).await?;
        let address = listener.local_addr()?;
        let (way, seen) = watch::channel(Way::Open);
        let task = tokio::spawn(async move {
            // It ends with its task, or when its port is gone: then nobody is served.
            let _ = serve(listener, server, seen).await;
        });
        Ok(Self { address, way, task })
    }

    /// The address to use instead of the server's.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the way, for every connection, at once.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Way::Broken);
        self.task.abort();
    }
}

async fn serve(
    mut listener: TcpListener,
    server: SocketAddr,
    mut seen: watch::Receiver<Way>,
) -> Result<()> {
    let address = listener.local_addr()?;
    loop {
        let mut refusing = seen.clone();
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted?.0),
            refused = refusing.wait_for(|way| *way == Way::Refused) => {
                refused?;
                None
            }
        };
        let Some(client) = accepted else {
            drop(listener);
            seen.wait_for(|way| *way != Way::Refused).await?;
            listener = TcpListener::bind(address).await?;
            continue;
        };
        let seen = seen.clone();
        tokio::spawn(async move {
            // Whichever side fails first ends the connection, which is all that can happen.
            let _ = carry(client, server, seen).await;
        });
    }
}

async fn carry(
    client: TcpStream,
    server: SocketAddr,
    mut seen: watch::Receiver<Way>,
) -> Result<()> {
    if seen.wait_for(|way| *way != Way::Paused).await.is_ok_and(|way| is_closed(*way)) {
        return Ok(());
    }
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let mut broken = seen.clone();
    tokio::select! {
        _ = broken.wait_for(|way| is_closed(*way)) => {}
        _ = pour(client_in, server_out, seen.clone()) => {}
        _ = pour(server_in, client_out, seen) => {}
    }
    Ok(())
}

fn is_closed(way: Way) -> bool {
    matches!(way, Way::Broken | Way::Refused)
}

async fn pour(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut seen: watch::Receiver<Way>,
) -> Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        seen.wait_for(|way| *way == Way::Open).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..count]).await?;
    }
}

#[cfg(test)]
mod tests {

    use std::time::Duration;

    use super::*;

    async fn echo_server() -> SocketAddr {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn heard(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut byte));
        matches!(read.await, Ok(Ok(1)))
    }

    #[tokio::test]
    async fn a_paused_way_holds_bytes_back_until_it_is_open_again() {
        let proxy = Proxy::start(echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"a").await.unwrap();
        assert!(heard(&mut stream).await);
        proxy.set(Way::Paused);
        stream.write_all(b"b").await.unwrap();
        assert!(!heard(&mut stream).await);
        proxy.set(Way::Open);
        assert!(heard(&mut stream).await);
    }

    #[tokio::test]
    async fn a_broken_way_closes_connections_and_lets_new_ones_in_only_when_restored() {
        let proxy = Proxy::start(echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Way::Broken);
        assert!(!heard(&mut stream).await);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        let _ = refused.write_all(b"a").await;
        assert!(!heard(&mut refused).await);
        proxy.set(Way::Open);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(b"a").await.unwrap();
        assert!(heard(&mut stream).await);
    }

    #[tokio::test]
    async fn a_refused_way_closes_connections_and_refuses_new_ones_until_it_is_open_again() {
        let proxy = Proxy::start(echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Way::Refused);
        assert!(!heard(&mut stream).await);
        while TcpStream::connect(proxy.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        proxy.set(Way::Open);
        let mut stream = loop {
            if let Ok(stream) = TcpStream::connect(proxy.address()).await {
                break stream;
            }
            tokio::task::yield_now().await;
        };
        stream.write_all(b"a").await.unwrap();
        assert!(heard(&mut stream).await);
    }
}

//! A small HTTP server on the loopback interface that ends with its handle.
//!
//! Takes a router and a port, 0 for a free one. Never outlives the runtime that it runs on.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Where [`free_port`] looks.
const PORTS: Range<u16> = 10_000..32_000;

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Listens and serves.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(address: SocketAddr, router: Router) -> Result<Self> {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // It ends with its task only; there is nobody to tell.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A free port of the loopback interface, for a server of this process.
pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A port of the loopback interface that was free a moment ago, for a server that is started, and
/// perhaps started again. No connection gets it while nobody listens: systems take those from 32768
/// up.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Each process begins somewhere else; two at once meet only by bad luck.
    let begin = std::process::id().wrapping_mul(7_919);
    for _ in 0..PORTS.len() {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (offset % PORTS.len() as u32) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

//! Customers who write as fast as they are answered, or at a steady rate.
//!
//! Takes requests and an address; gives when each was written and how long its answer took. An
//! answer of another status than the expected one is an error: a gateway that refuses is quick.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::post::{Connection, Prepared};

/// Connections that are busy all the time at saturation, about those of Twilio's own proxies.
const BUSY: usize = 32;
/// Connections at a steady rate: so many that no customer waits for one, or a stall would delay the
/// others' clocks instead of showing in their times.
const WAITING: usize = 128;

/// One webhook that was answered.
pub(crate) struct Posted {
    /// Who wrote it.
    pub(crate) customer: String,
    /// When it was written.
    pub(crate) begun: Instant,
    /// Until its answer was there.
    pub(crate) took: Duration,
}

/// Connections, opened before the clock runs.
pub(crate) struct Line(Vec<Connection>);

impl Line {
    /// For [`saturate`].
    pub(crate) async fn busy(address: &str) -> Result<Self> {
        Self::open(address, BUSY).await
    }

    /// For [`steadily`].
    pub(crate) async fn waiting(address: &str) -> Result<Self> {
        Self::open(address, WAITING).await
    }

    async fn open(address: &str, count: usize) -> Result<Self> {
        let connections = (0..count).map(|_| Connection::open(address));
        Ok(Self(try_join_all(connections).await.context("connect to post webhooks")?))
    }
}

/// Posts all, each connection the next as soon as it was answered.
pub(crate) async fn saturate(line: Line, requests: Vec<Prepared>, expected: u16) -> Result<()> {
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for mut connection in line.0 {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        tasks.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let status = connection.exchange(request).await?;
                ensure!(status == expected, "a webhook was answered {status}, not {expected}");
            }
            anyhow::Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect()
}

/// Posts so many a second, whatever becomes of those before; each must be answered 200.
pub(crate) async fn steadily(
    line: Line,
    requests: Vec<Prepared>,
    rate: u32,
) -> Result<Vec<Posted>> {
    let (back, mut free) = mpsc::channel(WAITING);
    for connection in line.0 {
        back.send(connection).await?;
    }
    let mut ticks = interval(Duration::from_secs(1) / rate);
    let mut posts = JoinSet::new();
    for request in requests {
        ticks.tick().await;
        let mut connection = free.recv().await.context("a connection is free")?;
        let back = back.clone();
        posts.spawn(async move {
            let begun = Instant::now();
            let status = connection.exchange(&request).await?;
            let took = begun.elapsed();
            ensure!(status == 200, "a webhook was answered {status}");
            back.send(connection).await?;
            anyhow::Ok(Posted { customer: request.customer, begun, took })
        });
    }
    posts.join_all().await.into_iter().collect()
}

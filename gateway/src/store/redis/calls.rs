//! Calls between replicas over one channel of the server.
//!
//! Takes a call and publishes it; gives those that others published while a connection of its own is
//! subscribed. Every time it is subscribed anew it calls to everything: what was published before was
//! lost. Keeps nothing on the server, and never gives up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, Value, cmd};
use tokio::time::{Instant, interval_at, sleep, timeout};

use crate::store::error::StoreError;
use crate::store::hail::Hail;
use crate::store::redis::address::Address;
use crate::store::redis::server::Server;

/// The channel. It is no key, so it lies in no slot.
const CHANNEL: &str = "gw:calls";

/// Beats between two pings of the subscription.
const CALM: u32 = 30;

/// The channel as one replica uses it.
pub(super) struct Calls {
    address: Box<Address>,
    beat: Duration,
    is_subscribed: AtomicBool,
}

impl Calls {
    pub(super) fn new(address: Address, beat: Duration) -> Self {
        Self { address: Box::new(address), beat, is_subscribed: AtomicBool::new(false) }
    }

    /// Publishes a call.
    pub(super) async fn call(&self, server: &Server, hail: &Hail) -> Result<(), StoreError> {
        server.command(cmd("PUBLISH").arg(CHANNEL).arg(hail.text())).await.map(drop)
    }

    /// Whether what others publish now is heard.
    pub(super) fn are_heard(&self) -> bool {
        self.is_subscribed.load(Ordering::Relaxed)
    }

    /// For ever: gives what others publish.
    pub(super) async fn answer(&self, ring: impl Fn(Hail) + Send) {
        let ring_all = || {
            ring(Hail::Shards(u32::MAX));
            ring(Hail::Counted(Vec::new()));
        };
        loop {
            if let Some((sink, stream)) = self.subscribe().await {
                self.is_subscribed.store(true, Ordering::Relaxed);
                ring_all();
                self.listen(sink, stream, &ring).await;
                self.is_subscribed.store(false, Ordering::Relaxed);
                // From now on everybody looks by himself, and more often.
                ring_all();
            }
            sleep(self.beat).await;
        }
    }

    async fn subscribe(&self) -> Option<(PubSubSink, PubSubStream)> {
        let subscribed = async {
            let client = Client::open(self.address.info.clone())?;
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.subscribe(CHANNEL).await?;
            redis::RedisResult::Ok((sink, stream))
        };
        timeout(self.beat, subscribed).await.ok()?.ok()
    }

    /// Until the connection is of no use any more.
    async fn listen(&self, mut sink: PubSubSink, mut stream: PubSubStream, ring: &impl Fn(Hail)) {
        let mut pings = interval_at(Instant::now() + self.beat * CALM, self.beat * CALM);
        loop {
            tokio::select! {
                message = stream.next() => {
                    let Some(message) = message else { return };
                    let text = message.get_payload::<String>().unwrap_or_default();
                    if let Some(hail) = Hail::parse(&text) {
                        ring(hail);
                    }
                }
                _ = pings.tick() => {
                    if !matches!(timeout(self.beat, sink.ping::<Value>()).await, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }
}

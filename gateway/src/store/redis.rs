//! The store of a fleet: one Redis server, one script a verb.
//!
//! Takes verbs; gives their answers within the deadline. A verb is one round trip and atomic in each
//! shard that it concerns. Decides nothing: the rules stand in the scripts, next to this file. Never
//! logs or repeats an argument, and never shows the URL it was opened with.

mod address;
pub mod call;
mod calls;
mod connection;
mod failure;
mod handshake;
pub mod promise;
mod rows;
mod server;
mod unfit;
mod verbs;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::try_join_all;
use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ReplicaName, StoreKey};

use crate::store::error::StoreError;
use crate::store::fleet::{Acknowledgement, Heard, Heartbeat, ReplicaState};
use crate::store::hail::Hail;
use crate::store::redis::address::{Address, AddressError};
use crate::store::redis::call::Scripted;
use crate::store::redis::calls::Calls;
use crate::store::redis::connection::Connection;
use crate::store::redis::promise::{Durability, Promises};
use crate::store::redis::server::Server;
use crate::store::redis::unfit::Unfit;
use crate::store::redis::verbs::fleet::Fleet;

/// A Redis server as the store.
pub struct RedisStore {
    server: Server,
    fleet: Fleet,
    calls: Calls,
    promises: Arc<Promises>,
}

/// How to speak to the server. The defaults are for every use but tests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Deadline of a verb, time between pings, and longest wait before connecting again.
    pub beat: Duration,
    /// A clock in Unix milliseconds that the scripts use instead of the server's.
    pub clock: Option<Arc<AtomicU64>>,
    /// What is asked of the server.
    pub durability: Durability,
}

/// Why there is no store. Nothing here shows the URL's credentials.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The server.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Default for Settings {
    fn default() -> Self {
        Self { beat: Duration::from_secs(1), clock: None, durability: Durability::default() }
    }
}

impl RedisStore {
    /// Opens the server at a `redis://` or `rediss://` URL. A server that is away is waited for in
    /// the background and its verbs are `Unavailable`; one that must not be used is an error.
    pub async fn open(url: &str, settings: Settings) -> Result<Self, OpenError> {
        let address = Address::parse(url)?;
        let calls = Calls::new(address.clone(), settings.beat);
        let promises = Arc::new(Promises::asked(settings.durability));
        let connection = Connection::open(address, settings.beat, Arc::clone(&promises)).await?;
        let server = Server { connection, clock: settings.clock };
        Ok(Self { server, fleet: Fleet::default(), calls, promises })
    }

    /// Runs a verb: its calls at once, its answer from theirs.
    pub(super) async fn run<V: Scripted>(&self, verb: V) -> Result<V::Answer, StoreError> {
        let calls = verb.calls();
        let calls = calls.into_iter().map(|call| self.server.run(call, V::AT_ONCE));
        let values = try_join_all(calls).await?;
        verb.answer(values)
    }

    pub(super) async fn heartbeat(&self, beat: Heartbeat) -> Result<Heard, StoreError> {
        self.fleet.heartbeat(&self.server, beat).await
    }

    pub(super) async fn note_asked(&self) -> Result<(), StoreError> {
        self.fleet.note_asked(&self.server).await
    }

    pub(super) async fn goodbye(&self, replica: ReplicaName) -> Result<(), StoreError> {
        self.fleet.goodbye(&self.server, replica).await
    }

    pub(super) async fn heard(&self) -> Result<(Millis, Vec<ReplicaState>), StoreError> {
        self.fleet.replicas(&self.server).await
    }

    pub(super) async fn acknowledged(
        &self,
        replica: ReplicaName,
        channels: Option<Vec<ChannelUid>>,
    ) -> Result<Vec<Acknowledgement>, StoreError> {
        self.fleet.acknowledged(&self.server, replica, channels).await
    }

    pub(super) async fn key(&self) -> Result<StoreKey, StoreError> {
        self.fleet.key(&self.server).await
    }

    pub(super) async fn call(&self, hail: &Hail) -> Result<(), StoreError> {
        self.calls.call(&self.server, hail).await
    }

    pub(super) async fn answer(&self, ring: impl Fn(Hail) + Send) {
        self.calls.answer(ring).await
    }

    pub(super) fn lanes_up(&self) -> usize {
        self.server.lanes_up()
    }

    pub(super) fn hears(&self) -> bool {
        self.calls.are_heard()
    }

    pub(super) fn lacks(&self) -> Option<String> {
        self.promises.lacks()
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.server.ping().await
    }
}

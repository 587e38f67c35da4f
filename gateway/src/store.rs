//! The store: one of two, asked by verbs as values.
//!
//! Takes a verb of the machine, gives its answer or the reason there is none. Every verb may be
//! repeated with the same fields: a lost answer is not a lost verb. Never decides anything; the
//! contract of each verb stands in `kanarie_queue` and `docs/queue.md`.

pub mod embedded;
pub mod error;
pub mod fleet;
pub mod hail;
pub mod outage;
pub mod redis;

use std::sync::{Arc, LazyLock};

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ReplicaName, StoreKey};
use tokio::time::Instant;

use crate::events::{Event, emit};
use crate::store::embedded::EmbeddedStore;
use crate::store::error::StoreError;
use crate::store::fleet::{Acknowledgement, Heard, Heartbeat, ReplicaState};
use crate::store::hail::Hail;
use crate::store::outage::{OutageChange, Outages};
use crate::store::redis::RedisStore;
use crate::store::redis::call::Scripted;

/// Outages of this process's store, as the log tells them.
static OUTAGES: LazyLock<Outages> = LazyLock::new(Outages::default);

/// The store as the rest of the gateway holds it.
pub type SharedStore = Arc<Store>;

/// One of the two stores.
pub enum Store {
    /// A Redis server, for a fleet.
    Redis(RedisStore),
    /// A database in a directory, for one machine.
    Embedded(EmbeddedStore),
}

impl Store {
    /// Runs a verb of the machine.
    ///
    /// # Errors
    /// Why there is no answer; the verb may have taken effect all the same.
    pub async fn run<V: Scripted>(&self, verb: V) -> Result<V::Answer, StoreError> {
        let answer = match self {
            Self::Redis(store) => store.run(verb).await,
            Self::Embedded(store) => store.run(verb).await,
        };
        if let Some(change) = OUTAGES.note(&answer, Instant::now()) {
            emit(Event::from(change));
        }
        answer
    }

    /// Announces a replica and every route that it obeys.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Heard, StoreError> {
        match self {
            Self::Redis(store) => store.heartbeat(heartbeat).await,
            Self::Embedded(store) => store.heartbeat(heartbeat).await,
        }
    }

    /// Notes that the operator asks for the counts.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn note_asked(&self) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.note_asked().await,
            Self::Embedded(store) => store.note_asked().await,
        }
    }

    /// Takes back a replica's heartbeats: it works no more.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn goodbye(&self, replica: ReplicaName) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.goodbye(replica).await,
            Self::Embedded(store) => store.goodbye(replica).await,
        }
    }

    /// Replicas with a heartbeat younger than ten seconds, and the store's clock.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn replicas(&self) -> Result<(Millis, Vec<ReplicaState>), StoreError> {
        let (now, mut heard) = self.heard().await?;
        heard.retain(|replica| replica.is_live(now));
        Ok((now, heard))
    }

    /// Replicas with a heartbeat younger than a minute, and the store's clock. A clock that steps ahead makes
    /// who lives seem dead, and who is dead must not go from sight with that.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn heard(&self) -> Result<(Millis, Vec<ReplicaState>), StoreError> {
        match self {
            Self::Redis(store) => store.heard().await,
            Self::Embedded(store) => store.heard().await,
        }
    }

    /// The routes that a replica acknowledged, of the named channels or of all.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn acknowledged(
        &self,
        replica: ReplicaName,
        channels: Option<Vec<ChannelUid>>,
    ) -> Result<Vec<Acknowledgement>, StoreError> {
        match self {
            Self::Redis(store) => store.acknowledged(replica, channels).await,
            Self::Embedded(store) => store.acknowledged(replica, channels).await,
        }
    }

    /// The 32 random bytes that the first replica created.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn key(&self) -> Result<StoreKey, StoreError> {
        match self {
            Self::Redis(store) => store.key().await,
            Self::Embedded(store) => store.key().await,
        }
    }

    /// Calls to the other replicas.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn call(&self, hail: &Hail) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.call(hail).await,
            Self::Embedded(_) => Ok(()),
        }
    }

    /// For ever: gives what other replicas call. After a time in which calls may have been lost it calls
    /// to everything.
    pub async fn answer(&self, ring: impl Fn(Hail) + Send) {
        match self {
            Self::Redis(store) => store.answer(ring).await,
            Self::Embedded(_) => std::future::pending().await,
        }
    }

    /// Whether a call of another replica would be heard now.
    pub fn hears(&self) -> bool {
        match self {
            Self::Redis(store) => store.hears(),
            Self::Embedded(_) => true,
        }
    }

    /// Connections to the store that can be used now; the embedded one is always there.
    pub fn lanes_up(&self) -> usize {
        match self {
            Self::Redis(store) => store.lanes_up(),
            Self::Embedded(_) => 1,
        }
    }

    /// Waits until the store is of no use to this process any more: its disk failed.
    pub async fn broken(&self) {
        match self {
            Self::Redis(_) => std::future::pending().await,
            Self::Embedded(store) => store.broken().await,
        }
    }

    /// What the store lacks to keep every message that it accepted, in words.
    pub fn lacks(&self) -> Option<String> {
        match self {
            Self::Redis(store) => store.lacks(),
            Self::Embedded(_) => None,
        }
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// As [`Store::run`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Redis(store) => store.ping().await,
            Self::Embedded(store) => store.ping().await,
        }
    }
}

impl From<OutageChange> for Event {
    fn from(change: OutageChange) -> Self {
        match change {
            OutageChange::Began(error) => Self::StoreOutageBegan { error },
            OutageChange::Ended { failures, lasted } => Self::StoreOutageEnded { failures, lasted },
        }
    }
}

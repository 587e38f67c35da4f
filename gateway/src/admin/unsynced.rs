//! Which channels not every replica holds alike.
//!
//! Takes the replicas with the digests of their tables; gives the channels of which they hold different routes, or
//! some of them none. Equal digests are equal tables, so a fleet at rest reads none of them. While routes are taken up
//! the tables are read at most once a second for everybody who asks, for of 10,000 channels each is a
//! megabyte: then the answer is that much older than the question. Never tells which replica it is.

use std::collections::BTreeMap;
use std::time::Duration;

use kanarie_words::ids::{ChannelUid, ReplicaName, RouteHash};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::SharedStore;
use crate::store::error::StoreError;
use crate::store::fleet::ReplicaState;

/// How long one reading does for everybody, though the digests are others by now.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// The last reading, for whoever asks next.
#[derive(Default)]
pub struct Unsynced(Mutex<Option<Reading>>);

struct Reading {
    began: Instant,
    /// The digests that it belongs to; none, if they changed while the tables were read.
    digests: Option<Digests>,
    channels: Vec<ChannelUid>,
}

/// The digest of each replica's table.
type Digests = Vec<(ReplicaName, RouteHash)>;

impl Unsynced {
    /// The channels that these replicas do not hold alike, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn among(
        &self,
        store: &SharedStore,
        replicas: &[ReplicaState],
    ) -> Result<Vec<ChannelUid>, StoreError> {
        let now = digests(replicas);
        if now.windows(2).all(|two| two[0].1 == two[1].1) {
            return Ok(Vec::new());
        }
        // Who comes meanwhile waits for this reading instead of making his own.
        let mut last = self.0.lock().await;
        let does =
            |of: &&Reading| of.digests.as_ref() == Some(&now) || of.began.elapsed() < SHARED_FOR;
        if let Some(reading) = last.as_ref().filter(does) {
            return Ok(reading.channels.clone());
        }
        let began = Instant::now();
        let channels = differing(store, replicas).await?;
        let (_, after) = store.replicas().await?;
        let digests = (digests(&after) == now).then_some(now);
        *last = Some(Reading { began, digests, channels: channels.clone() });
        Ok(channels)
    }
}

fn digests(replicas: &[ReplicaState]) -> Digests {
    replicas.iter().map(|one| (one.replica.clone(), one.digest.clone())).collect()
}

async fn differing(
    store: &SharedStore,
    replicas: &[ReplicaState],
) -> Result<Vec<ChannelUid>, StoreError> {
    let mut holders: BTreeMap<ChannelUid, BTreeMap<(u64, RouteHash), usize>> = BTreeMap::new();
    for replica in replicas {
        for held in store.acknowledged(replica.replica.clone(), None).await? {
            let route = (held.serving, held.hash);
            *holders.entry(held.channel).or_default().entry(route).or_default() += 1;
        }
    }
    let alike = |routes: &BTreeMap<_, usize>| routes.values().any(|held| *held == replicas.len());
    Ok(holders.into_iter().filter(|(_, routes)| !alike(routes)).map(|(uid, _)| uid).collect())
}

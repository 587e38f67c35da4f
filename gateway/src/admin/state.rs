//! What the store knows of all replicas, as the operator is told it.
//!
//! Takes the channels that are asked about and those of them whose counts are wanted; gives a `ControlState`, and
//! the digest of what is urgent in it. Changes nothing, and knows nothing that is not in the store.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kanarie_crds::control::{
    Acknowledged, ChannelDeadLetters, ChannelState, ChannelUndelivered, ClassCount, ControlState,
    CustomerCount, Replica,
};
use kanarie_queue::dead::{DeadSum, SumDead};
use kanarie_queue::deliveries::{SumUndelivered, Undelivered};
use kanarie_queue::evidence::ReadCounts;
use kanarie_queue::outcome::{self, CountsRead, Customers, Evidence};
use kanarie_words::hex;
use kanarie_words::ids::{ChannelUid, Epoch, EpochDigest, UrgentDigest};
use sha2::{Digest as _, Sha256};

use crate::admin::unsynced::Unsynced;
use crate::store::SharedStore;
use crate::store::error::StoreError;
use crate::store::fleet::{Acknowledgement, ReplicaState};

/// The state of the fleet, and in detail of the named channels; the counts of those that are to be counted.
///
/// # Errors
/// The store's.
pub async fn read(
    store: &SharedStore,
    unsynced: &Unsynced,
    named: Vec<ChannelUid>,
    counted: Vec<ChannelUid>,
) -> Result<ControlState, StoreError> {
    let (_, heard) = store.replicas().await?;
    let unsynced = unsynced.among(store, &heard).await?;
    let mut channels: BTreeMap<ChannelUid, ChannelState> = BTreeMap::new();
    for replica in heard.iter().filter(|_| !named.is_empty()) {
        let held = store.acknowledged(replica.replica.clone(), Some(named.clone())).await?;
        for Acknowledgement { channel: uid, serving, hash, cut } in held {
            let replica = replica.replica.clone();
            let acknowledged = Acknowledged { replica, serving, hash, cut };
            channel(&mut channels, uid).acknowledged.push(acknowledged);
        }
    }
    // A hold runs from this moment: what was obeyed was obeyed before it, and who came since holds nothing
    // yet. What is counted after it is told as well.
    let (now, replicas) = store.replicas().await?;
    let CountsRead { epochs, counts } = store.run(ReadCounts { channels: counted }).await?;
    for counted in counts {
        let state = channel(&mut channels, counted.channel);
        state.counts = counted.messages.into_iter().map(count).collect();
        state.customers = Some(counted.customers.into_iter().map(customers).collect());
    }
    channels.retain(|_, state| !state.acknowledged.is_empty() || !state.counts.is_empty());
    let seen = |replica: &ReplicaState| Replica {
        id: replica.replica.clone(),
        age_ms: now.saturating_sub(replica.seen_at),
    };
    Ok(ControlState {
        observed_at_ms: now,
        epoch: digest(&epochs),
        replicas: replicas.iter().map(seen).collect(),
        unsynced,
        dead_letters: store.run(SumDead).await?.into_iter().map(dead_letters).collect(),
        undelivered: undelivered(store).await?,
        channels: channels.into_values().collect(),
        digest: None,
    })
}

/// Another digest means that the state says something that nobody should wait for: a failure or a rescue
/// was counted, another route is obeyed, a replica came or went, counts were lost. A success is none.
pub(super) fn urgent(state: &ControlState) -> UrgentDigest {
    let mut text = format!("{}\n", state.epoch);
    // Writing into text cannot fail.
    for Replica { id, .. } in &state.replicas {
        let _ = writeln!(text, "{id}");
    }
    for channel in &state.channels {
        let _ = writeln!(text, "{}", channel.uid);
        for Acknowledged { replica, serving, hash, cut } in &channel.acknowledged {
            let _ = writeln!(text, "{replica} {serving} {hash} {cut}");
        }
        for count in channel.counts.iter().filter(|count| count.class.is_failure()) {
            let ClassCount { serving, track, class, messages } = count;
            let _ = writeln!(text, "{serving} {} {} {messages}", track.as_str(), class.as_str());
        }
        let customers = channel.customers.iter().flatten();
        for CustomerCount { serving, track, failed, rescued, .. } in
            customers.filter(|of| of.failed > 0)
        {
            let rescued = rescued.unwrap_or_default();
            let _ = writeln!(text, "{serving} {} {failed} {rescued}", track.as_str());
        }
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(text)[..16]);
    UrgentDigest::from_bytes(bytes)
}

/// Another digest means that some shard lost its counts.
fn digest(epochs: &[Option<Epoch>]) -> EpochDigest {
    let mut hash = Sha256::new();
    for epoch in epochs {
        hash.update(epoch.as_ref().map(Epoch::as_str).unwrap_or_default());
        hash.update("\n");
    }
    EpochDigest::parse(&hex::encode(&hash.finalize()[..16])).expect("digits are an id")
}

fn channel(
    channels: &mut BTreeMap<ChannelUid, ChannelState>,
    uid: ChannelUid,
) -> &mut ChannelState {
    channels.entry(uid.clone()).or_insert_with(|| ChannelState {
        uid,
        acknowledged: Vec::new(),
        counts: Vec::new(),
        customers: Some(Vec::new()),
    })
}

fn count(count: outcome::Count) -> ClassCount {
    let Evidence { serving, track, class } = count.evidence;
    ClassCount { serving, track, class, messages: count.messages }
}

fn customers(customers: Customers) -> CustomerCount {
    let Customers { serving, track, conversations, failed, rescued } = customers;
    CustomerCount { serving, track, conversations, failed, rescued: Some(rescued) }
}

fn dead_letters(sum: DeadSum) -> ChannelDeadLetters {
    let DeadSum { channel, count, oldest_at, class } = sum;
    ChannelDeadLetters { uid: channel, count, oldest_at_ms: oldest_at, class }
}

/// Statistics: rows of theirs that make no sense take nothing else of the state away.
async fn undelivered(store: &SharedStore) -> Result<Option<Vec<ChannelUndelivered>>, StoreError> {
    let sums = match store.run(SumUndelivered).await {
        Err(StoreError::Corrupt(error)) => {
            tracing::warn!(%error, "nobody can tell what was not delivered: the rows make no sense");
            return Ok(None);
        }
        sums => sums?,
    };
    let told = |sum: Undelivered| {
        let Undelivered { channel, count, last_code, last_at } = sum;
        ChannelUndelivered { uid: channel, count, last_code, last_at_ms: last_at }
    };
    Ok(Some(sums.into_iter().map(told).collect()))
}

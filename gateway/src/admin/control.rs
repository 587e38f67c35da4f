//! `GET /control/v1/state`: what the operator asks of any one gateway about all of them.
//!
//! Takes the bearer token and, optionally, `channels=UID,UID`; gives a `ControlState` read from the
//! store. Never tells anything without the token, and knows nothing that is not in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kanarie_crds::control::{
    Acknowledged, ChannelDeadLetters, ChannelState, ChannelUndelivered, ClassCount, ControlState,
    CustomerCount, MAX_CHANNELS_PER_REQUEST, Replica,
};
use kanarie_queue::dead::{DeadSum, SumDead};
use kanarie_queue::deliveries::{SumUndelivered, Undelivered};
use kanarie_queue::evidence::ReadCounts;
use kanarie_queue::outcome::{self, CountsRead, Customers, Evidence};
use kanarie_words::hex;
use kanarie_words::ids::{ChannelUid, Epoch, EpochDigest, RouteHash};
use sha2::{Digest as _, Sha256};

use crate::admin::caller::authorize;
use crate::admin::shared::Admin;
use crate::store::SharedStore;
use crate::store::error::StoreError;
use crate::store::fleet::{Acknowledgement, ReplicaState};

/// Path of the endpoint.
pub const PATH: &str = "/control/v1/state";

/// Longest that an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Answers the operator.
pub async fn state(
    State(admin): State<Arc<Admin>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if let Err(refusal) = authorize(&admin, &headers) {
        return refusal.into_response();
    }
    let named = named(query.as_deref().unwrap_or_default());
    if named.len() > MAX_CHANNELS_PER_REQUEST {
        let text = format!("at most {MAX_CHANNELS_PER_REQUEST} channels a request\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let answer = async {
        admin.store.note_asked().await?;
        read(&admin.store, named).await
    };
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(state)) => Json(state).into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store is too slow\n").into_response(),
    }
}

/// The state of the fleet, and in detail of the named channels.
///
/// # Errors
/// The store's.
pub async fn read(store: &SharedStore, named: Vec<ChannelUid>) -> Result<ControlState, StoreError> {
    let (now, replicas) = store.replicas().await?;
    let unsynced = unsynced(store, &replicas).await?;
    let CountsRead { epochs, counts } = store.run(ReadCounts { channels: named.clone() }).await?;
    let mut channels: BTreeMap<ChannelUid, ChannelState> = BTreeMap::new();
    for counted in counts {
        let state = channel(&mut channels, counted.channel);
        state.counts = counted.messages.into_iter().map(count).collect();
        state.customers = Some(counted.customers.into_iter().map(customers).collect());
    }
    for replica in replicas.iter().filter(|_| !named.is_empty()) {
        let held = store.acknowledged(replica.replica.clone(), Some(named.clone())).await?;
        for Acknowledgement { channel: uid, serving, hash, cut } in held {
            let replica = replica.replica.clone();
            let acknowledged = Acknowledged { replica, serving, hash, cut };
            channel(&mut channels, uid).acknowledged.push(acknowledged);
        }
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
    })
}

/// Channels that not every live replica holds alike. Equal digests are equal routes, so a fleet at
/// rest costs nothing.
async fn unsynced(
    store: &SharedStore,
    replicas: &[ReplicaState],
) -> Result<Vec<ChannelUid>, StoreError> {
    let digests: BTreeSet<&RouteHash> = replicas.iter().map(|replica| &replica.digest).collect();
    if digests.len() <= 1 {
        return Ok(Vec::new());
    }
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

/// Another digest means that some shard lost its counts.
fn digest(epochs: &[Option<Epoch>]) -> EpochDigest {
    let mut hash = Sha256::new();
    for epoch in epochs {
        hash.update(epoch.as_ref().map(Epoch::as_str).unwrap_or_default());
        hash.update("\n");
    }
    EpochDigest::parse(&hex::encode(&hash.finalize()[..16])).expect("digits are an id")
}

fn named(query: &str) -> Vec<ChannelUid> {
    let named: BTreeSet<ChannelUid> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "channels")
        .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|uid| ChannelUid::parse(&uid).ok())
        .collect();
    named.into_iter().collect()
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

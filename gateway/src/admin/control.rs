//! `GET /control/v1/state`: what the operator asks of any one gateway about all of them.
//!
//! Takes the bearer token and, optionally, `channels=UID,UID`; gives a `ControlState` read from the
//! store. Never tells anything without the token, and knows nothing that is not in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use kanarie_crds::control::{
    Acknowledged, ChannelState, ControlState, Count, DeadLetters, MAX_CHANNELS_PER_REQUEST, Replica,
};
use kanarie_queue::types;
use kanarie_words::class::Class;
use kanarie_words::ids::{ChannelUid, InvalidId};
use kanarie_words::track::Track;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::admin::shared::Admin;
use crate::store::{ReplicaState, SharedStore, StoreError};

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
    let Some(token) = admin.routes.control_token() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "there is no control token yet\n")
            .into_response();
    };
    if !is_bearer(&headers, token.expose()) {
        return (StatusCode::UNAUTHORIZED, "the control token is needed\n").into_response();
    }
    let named = named(query.as_deref().unwrap_or_default());
    if named.len() > MAX_CHANNELS_PER_REQUEST {
        let text = format!("at most {MAX_CHANNELS_PER_REQUEST} channels a request\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    match tokio::time::timeout(DEADLINE, read(&admin.store, named)).await {
        Ok(Ok(state)) => Json(state).into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store is too slow\n").into_response(),
    }
}

/// The state of the fleet, and in detail of the named channels.
///
/// # Errors
/// The store's.
pub async fn read(store: &SharedStore, named: Vec<String>) -> Result<ControlState, StoreError> {
    let (now, replicas) = store.replicas().await?;
    let unsynced = unsynced(store, &replicas).await?;
    let (epoch, counts) = store.counts(named.clone()).await?;
    let mut channels: BTreeMap<ChannelUid, ChannelState> = BTreeMap::new();
    for (uid, counts) in counts {
        channel(&mut channels, id(&uid)?).counts = counts.iter().map(count).collect();
    }
    for replica in replicas.iter().filter(|_| !named.is_empty()) {
        let held = store.acknowledged(replica.replica.clone(), Some(named.clone())).await?;
        for (uid, serving, hash) in held {
            let (replica, hash) = (id(&replica.replica)?, id(&hash)?);
            let acknowledged = Acknowledged { replica, serving, hash };
            channel(&mut channels, id(&uid)?).acknowledged.push(acknowledged);
        }
    }
    channels.retain(|_, state| !state.acknowledged.is_empty() || !state.counts.is_empty());
    Ok(ControlState {
        observed_at_ms: now,
        epoch: id(&epoch)?,
        replicas: replicas
            .iter()
            .map(|replica| {
                let age_ms = now.saturating_sub(replica.seen_at);
                Ok(Replica { id: id(&replica.replica)?, age_ms })
            })
            .collect::<Result<_, StoreError>>()?,
        unsynced,
        dead_letters: store
            .dead_letters()
            .await?
            .into_iter()
            .map(dead_letters)
            .collect::<Result<_, StoreError>>()?,
        channels: channels.into_values().collect(),
    })
}

/// Channels that not every live replica holds alike. Equal digests are equal routes, so a fleet at
/// rest costs nothing.
async fn unsynced(
    store: &SharedStore,
    replicas: &[ReplicaState],
) -> Result<Vec<ChannelUid>, StoreError> {
    let digests: BTreeSet<&str> = replicas.iter().map(|replica| replica.digest.as_str()).collect();
    if digests.len() <= 1 {
        return Ok(Vec::new());
    }
    let mut holders: BTreeMap<String, BTreeMap<(u64, String), usize>> = BTreeMap::new();
    for replica in replicas {
        for (uid, serving, hash) in store.acknowledged(replica.replica.clone(), None).await? {
            *holders.entry(uid).or_default().entry((serving, hash)).or_default() += 1;
        }
    }
    let alike = |routes: &BTreeMap<_, usize>| routes.values().any(|held| *held == replicas.len());
    holders.iter().filter(|(_, routes)| !alike(routes)).map(|(uid, _)| id(uid)).collect()
}

/// Compares hashes, so that neither the token nor its length shows in the time it takes.
fn is_bearer(headers: &HeaderMap, token: &str) -> bool {
    let presented = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let same = Sha256::digest(presented).ct_eq(&Sha256::digest(token));
    !token.is_empty() && bool::from(same)
}

fn named(query: &str) -> Vec<String> {
    let named: BTreeSet<String> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "channels")
        .flat_map(|(_, value)| value.split(',').map(str::to_owned).collect::<Vec<_>>())
        .filter(|uid| ChannelUid::parse(uid).is_ok())
        .collect();
    named.into_iter().collect()
}

fn channel<'a>(
    channels: &'a mut BTreeMap<ChannelUid, ChannelState>,
    uid: ChannelUid,
) -> &'a mut ChannelState {
    channels.entry(uid.clone()).or_insert_with(|| ChannelState {
        uid,
        acknowledged: Vec::new(),
        counts: Vec::new(),
        customers: None,
    })
}

fn count(count: &types::Count) -> Count {
    Count {
        serving: count.evidence.serving,
        track: match count.evidence.track {
            types::Track::Stable => Track::Stable,
            types::Track::Canary => Track::Canary,
        },
        class: match count.evidence.class {
            types::Class::Success => Class::Success,
            types::Class::Timeout => Class::Timeout,
            types::Class::Http => Class::Http,
            types::Class::Invalid => Class::Invalid,
            types::Class::NoAnswer => Class::NoAnswer,
            types::Class::Slow => Class::Slow,
        },
        messages: count.messages,
    }
}

fn dead_letters(letters: types::DeadLetters) -> Result<DeadLetters, StoreError> {
    Ok(DeadLetters {
        uid: id(&letters.channel)?,
        count: letters.count,
        oldest_at_ms: letters.oldest_at,
        class: letters.class,
    })
}

/// An id as the store kept it.
fn id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: InvalidId| StoreError::Corrupt(error.to_string()))
}

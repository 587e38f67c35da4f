//! Build: a decision becomes the object that puts it in force.
//!
//! Takes what was observed and the next state; gives route, memory and the Secret that holds both,
//! or why there can be none. Pure: the same inputs give the same bytes, so what has not changed is
//! not written.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::channel::RevisionContent;
use kanarie_crds::route::{
    CHANNEL_UID_LABEL, COMPONENT_LABEL, COMPONENT_ROUTE, MAX_OBJECT_BYTES, ROUTE_KEY, Route,
    STATE_KEY,
};
use kanarie_rollout::state::State;
use kanarie_words::ids::RevisionName;
use kube::api::ObjectMeta;
use thiserror::Error;

use crate::claim::CHANNEL_ANNOTATION;
use crate::credentials::{self, Named, SecretProblem};
use crate::memory::{Memory, MemoryError};
use crate::observe::Survey;
use crate::validate::Channel;

/// What is to be in the cluster.
pub struct Built {
    /// The route's bytes.
    pub route_bytes: Vec<u8>,
    /// The memory's bytes.
    pub state_bytes: Vec<u8>,
    /// The memory.
    pub memory: Memory,
    /// What is wrong with the Secrets, if the last compiled values had to stand in.
    pub problem: Option<SecretProblem>,
}

/// Why there is no object.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A revision that is to serve has no secret to serve with, now or before.
    #[error("the Secrets of the channel are not ready: {}", .0.message)]
    Credentials(SecretProblem),
    /// A revision that is to serve is not known.
    #[error("the state names a revision without content")]
    Memory(#[from] MemoryError),
    /// Route or memory cannot be written as JSON.
    #[error("the route cannot be serialised")]
    Json(#[from] serde_json::Error),
    /// It would not fit.
    #[error(
        "route and memory take {0} bytes of {MAX_OBJECT_BYTES}; shorten the channel's secrets and texts"
    )]
    TooLarge(usize),
}

/// Builds the object of `next`.
pub fn build(
    channel: &Channel,
    seen: &Survey,
    next: &State,
    now_ms: u64,
) -> Result<Built, BuildError> {
    let before = seen.held.as_ref().and_then(|held| held.route.as_ref());
    let (route, problem) = route(channel, seen, next, before)?;
    let remembered = seen.held.as_ref().map(|held| &held.memory);
    let memory = Memory::of(next.clone(), &seen.contents, remembered, now_ms)?;
    let route_bytes = serde_json::to_vec(&route)?;
    let state_bytes = serde_json::to_vec(&memory)?;
    let size = route_bytes.len() + state_bytes.len();
    if size > MAX_OBJECT_BYTES {
        return Err(BuildError::TooLarge(size));
    }
    Ok(Built { route_bytes, state_bytes, memory, problem })
}

/// The Secret that carries it; `metadata` is that of the object in its place, if there is one.
pub fn secret(channel: &Channel, built: &Built, metadata: Option<&ObjectMeta>) -> Secret {
    let key = &channel.identity.key;
    let labels = [
        (COMPONENT_LABEL.to_owned(), COMPONENT_ROUTE.to_owned()),
        (CHANNEL_UID_LABEL.to_owned(), channel.identity.uid.clone()),
    ];
    let place = format!("{}/{}", key.namespace, key.name);
    let data = [
        (ROUTE_KEY.to_owned(), ByteString(built.route_bytes.clone())),
        (STATE_KEY.to_owned(), ByteString(built.state_bytes.clone())),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(channel.route_name.clone()),
            uid: metadata.and_then(|metadata| metadata.uid.clone()),
            resource_version: metadata.and_then(|metadata| metadata.resource_version.clone()),
            labels: Some(labels.into()),
            annotations: Some([(CHANNEL_ANNOTATION.to_owned(), place)].into()),
            ..ObjectMeta::default()
        },
        data: Some(data.into()),
        ..Secret::default()
    }
}

fn route(
    channel: &Channel,
    seen: &Survey,
    next: &State,
    before: Option<&Route>,
) -> Result<(Route, Option<SecretProblem>), BuildError> {
    let split = next.split();
    let stable = named(seen, split.stable)?;
    let canary = split.canary.map(|canary| named(seen, canary)).transpose()?;
    let compiled = credentials::compile(channel, stable, canary, &seen.secrets, before);
    let (mut route, problem) = compiled.map_err(BuildError::Credentials)?;
    route.serving = next.serving;
    route.weight = split.weight;
    if let Some(rolling) = next.rolling() {
        route.retry_on_stable = rolling.policy.retry_on_stable;
        route.max_latency_ms = rolling.policy.max_latency_ms;
    }
    Ok((route, problem))
}

fn named<'a>(seen: &'a Survey, revision: &'a RevisionName) -> Result<Named<'a>, MemoryError> {
    let content: Option<&RevisionContent> = seen.contents.get(revision);
    let content = content.ok_or_else(|| MemoryError::Incomplete(revision.clone()))?;
    Ok((revision, content))
}

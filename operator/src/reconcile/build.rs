//! Build: decisions become what puts them in force.
//!
//! Takes what was observed and what was decided; gives the route's bytes and those of the memory beside
//! it, or why there can be none. A decision that brings a revision into service whose Secrets are not
//! there is withheld: the one without the spec stands, and it is decided anew in the next pass. Pure:
//! the same inputs give the same bytes, so what has not changed is not written.

use kanarie_crds::channel::RevisionContent;
use kanarie_crds::compile::secret_names;
use kanarie_crds::route::{MAX_OBJECT_BYTES, Route};
use kanarie_rollout::decide::Decision;
use kanarie_rollout::state::State;
use kanarie_words::ids::RevisionName;
use kanarie_words::timestamp::Timestamp;
use thiserror::Error;

use crate::cluster::memory::{Memory, MemoryError};
use crate::cluster::revisions::NewRevision;
use crate::cluster::route_note::{RouteNote, SecretStamps};
use crate::reconcile::blocked::{Blocked, SecretProblem};
use crate::reconcile::credentials::{self, Named};
use crate::reconcile::decide::Decisions;
use crate::reconcile::observe::Survey;
use crate::reconcile::validate::Channel;

/// What is to be written.
pub struct Built {
    /// The revision that has to be made first.
    pub revision: Option<NewRevision>,
    /// The route.
    pub wanted: Draft,
    /// The route if that revision is refused; there is one if there is a revision.
    pub otherwise: Option<Draft>,
}

/// What is to be in the route object.
pub struct Draft {
    /// Its name.
    pub name: String,
    /// The route's bytes.
    pub route_bytes: Vec<u8>,
    /// The memory's bytes.
    pub state_bytes: Vec<u8>,
    /// What it was made from; none of a spec that is not carried out, or of Secrets that cannot be told.
    pub note: Option<RouteNote>,
    /// The decision that it carries.
    pub decision: Decision,
    /// What is wrong with the Secrets, if the last compiled values had to stand in.
    pub problem: Option<SecretProblem>,
    /// Why it is not what the spec asks for.
    pub stays: Option<Blocked>,
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
    /// The spec is not carried out, and the route in force cannot be read.
    #[error("the route in force cannot be read; restore it, or mend the spec")]
    NoRoute,
}

/// Builds what the decisions ask for.
pub fn build(
    channel: &Channel,
    survey: &Survey,
    decisions: Decisions,
    now: Timestamp,
) -> Result<Built, BuildError> {
    let Decisions { wanted, otherwise } = decisions;
    let otherwise = || draft(channel, survey, otherwise, now);
    match draft(channel, survey, wanted, now) {
        Ok(wanted) => {
            let revision = survey.revision.clone();
            let otherwise = revision.as_ref().map(|_| otherwise()).transpose()?;
            Ok(Built { revision, wanted, otherwise })
        }
        Err(BuildError::Credentials(problem)) if survey.held.is_some() => match otherwise() {
            Ok(kept) => {
                let stays = Some(Blocked::by_secrets(problem.clone()));
                let wanted = Draft { problem: Some(problem), stays, ..kept };
                Ok(Built { revision: None, wanted, otherwise: None })
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn draft(
    channel: &Channel,
    survey: &Survey,
    decision: Decision,
    now: Timestamp,
) -> Result<Draft, BuildError> {
    let (name, route, problem) = route(channel, survey, &decision.next)?;
    let remembered = survey.held.as_ref().map(|held| &held.memory);
    let memory = Memory::of(decision.next.clone(), &survey.contents, remembered, now.0)?;
    let (route_bytes, state_bytes) = (serde_json::to_vec(&route)?, serde_json::to_vec(&memory)?);
    let size = route_bytes.len() + state_bytes.len();
    if size > MAX_OBJECT_BYTES {
        return Err(BuildError::TooLarge(size));
    }
    let stays = survey.stays.clone();
    let note = note(channel, survey, decision.next.transition, &route_bytes);
    Ok(Draft { name, route_bytes, state_bytes, note, decision, problem, stays })
}

/// What the route is made from, if each of the Secrets that the spec names could be told.
fn note(
    channel: &Channel,
    survey: &Survey,
    transition: u64,
    route_bytes: &[u8],
) -> Option<RouteNote> {
    let spec = channel.spec.as_ref().ok()?;
    let names = secret_names(&spec.spec, &[&spec.content]);
    let version = |name: String| {
        let version = survey.secrets.versions.get(&name)?.clone();
        Some((name, version))
    };
    let versions: SecretStamps = names.into_iter().map(version).collect::<Option<_>>()?;
    Some(RouteNote::of(transition, route_bytes, &versions))
}

/// Name and content of the route. A spec that is not carried out leaves everything in force but the
/// share of the revisions.
fn route(
    channel: &Channel,
    survey: &Survey,
    next: &State,
) -> Result<(String, Route, Option<SecretProblem>), BuildError> {
    let before = survey.held.as_ref().and_then(|held| held.route.as_ref());
    let split = next.split();
    let held = survey.held.as_ref().and_then(|held| held.metadata.name.clone());
    let name = held.or_else(|| channel.route_name.clone()).ok_or(BuildError::NoRoute)?;
    let (mut route, problem) = match &channel.spec {
        Ok(spec) => {
            let stable = known(survey, split.stable)?;
            let canary = split.canary.map(|canary| known(survey, canary)).transpose()?;
            let compiled = credentials::compile(
                &channel.reference,
                spec,
                stable,
                canary,
                &survey.secrets,
                before,
            );
            compiled.map_err(BuildError::Credentials)?
        }
        Err(_) => {
            let kept = before
                .and_then(|before| credentials::as_before(before, split.stable, split.canary));
            (kept.ok_or(BuildError::NoRoute)?, None)
        }
    };
    route.serving = next.serving;
    route.weight = split.weight;
    if let Some(rolling) = next.rolling() {
        route.retry_on_stable = rolling.policy.retry_on_stable;
        route.max_latency_ms = rolling.policy.max_latency_ms;
    }
    Ok((name, route, problem))
}

fn known<'a>(survey: &'a Survey, revision: &'a RevisionName) -> Result<Named<'a>, MemoryError> {
    let content: Option<&RevisionContent> = survey.contents.get(revision);
    let content = content.ok_or_else(|| MemoryError::Incomplete(revision.clone()))?;
    Ok((revision, content))
}

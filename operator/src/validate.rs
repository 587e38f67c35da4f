//! Validate: an object of the watch becomes a `Channel`, with the values that `rollout` takes.
//!
//! Takes what the API server stored, which an older schema may have accepted; gives a `Channel` or
//! every problem. Pure. Nothing after this hop meets an invalid spec.

use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kanarie_crds::channel::rollout::{OnMessageFailure, RolloutMode, RolloutState};
use kanarie_crds::channel::{RevisionContent, WhatsAppChannel, WhatsAppChannelSpec};
use kanarie_crds::route::{ChannelRef, route_name};
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_crds::{COMMAND_ANNOTATION, COMMAND_ID_ANNOTATION};
use kanarie_rollout::observation::{Command, Mode};
use kanarie_rollout::policy::Policy;
use kanarie_rollout::steps::{Step, Steps};
use kanarie_words::ids::InvalidId;
use kanarie_words::weight::Weight;
use kube::Resource as _;
use thiserror::Error;

use crate::triggers::ChannelKey;

/// A channel that can be reconciled.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Who it is, as the status writer needs it.
    pub identity: Identity,
    /// As the route names it.
    pub reference: ChannelRef,
    /// Name of its route's Secret.
    pub route_name: String,
    /// As a ControllerRevision names its owner.
    pub owner: OwnerReference,
    /// When it was created; the oldest of several claims a sender.
    pub created: Option<Time>,
    /// The spec as it stands.
    pub spec: WhatsAppChannelSpec,
    /// Status as it was when the watch delivered the object.
    pub status: WhatsAppChannelStatus,
    /// The revision that the spec asks for.
    pub content: RevisionContent,
    /// How it would be rolled out.
    pub policy: Policy,
    /// Who moves the weight.
    pub mode: Mode,
    /// Whether advancing is paused.
    pub paused: bool,
    /// Seconds after a promotion in which the former revision is put back at a word.
    pub rollback_window_seconds: u32,
    /// The command that stands in the annotations.
    pub command: Option<Command>,
}

/// What a write of status must say about its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Namespace and name.
    pub key: ChannelKey,
    /// Its uid.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Version of the object.
    pub resource_version: Option<String>,
}

/// Everything that is wrong with a channel.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .problems.join("; "))]
pub struct Invalid {
    /// In the words of the rules.
    pub problems: Vec<String>,
}

/// Checks a channel.
pub fn validate(object: &WhatsAppChannel) -> Result<Channel, Invalid> {
    let problems = kanarie_crds::validate::validate(object);
    if !problems.is_empty() {
        let problems = problems.iter().map(ToString::to_string).collect();
        return Err(Invalid { problems });
    }
    let identity = Identity::of(&object.metadata);
    let Some(owner) = object.controller_owner_ref(&()).filter(|owner| !owner.uid.is_empty()) else {
        return Err(Invalid {
            problems: vec!["metadata.uid: must be set by the API server".into()],
        });
    };
    let spec = object.spec.clone();
    Ok(Channel {
        reference: ChannelRef {
            namespace: identity.key.namespace.clone(),
            name: identity.key.name.clone(),
            uid: id("metadata.uid", &identity.uid)?,
        },
        route_name: route_name(
            &id("spec.twilio.accountSid", &spec.twilio.account_sid)?,
            &id("spec.sender.address", &spec.sender.address)?,
        ),
        identity,
        owner,
        created: object.metadata.creation_timestamp.clone(),
        status: object.status.clone().unwrap_or_default(),
        content: spec.revision_content(),
        policy: policy(&spec)?,
        mode: mode(&spec)?,
        paused: spec.rollout.state == RolloutState::Paused,
        rollback_window_seconds: spec.rollout.rollback_window_seconds,
        command: command(object),
        spec,
    })
}

impl Identity {
    /// Of any object, a readable one or not.
    pub fn of(metadata: &kube::api::ObjectMeta) -> Self {
        Self {
            key: ChannelKey {
                namespace: metadata.namespace.clone().unwrap_or_default(),
                name: metadata.name.clone().unwrap_or_default(),
            },
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            resource_version: metadata.resource_version.clone(),
        }
    }
}

fn id<T: FromStr<Err = InvalidId>>(path: &str, text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|error| invalid(path, &error))
}

fn policy(spec: &WhatsAppChannelSpec) -> Result<Policy, Invalid> {
    let rollout = &spec.rollout;
    let steps = rollout.steps.iter().map(|step| {
        let weight =
            Weight::new(step.weight).map_err(|error| invalid("spec.rollout.steps", &error))?;
        Ok(Step { weight, hold_seconds: step.hold_seconds })
    });
    let steps = steps.collect::<Result<Vec<_>, _>>()?;
    Ok(Policy {
        steps: Steps::new(steps).map_err(|error| invalid("spec.rollout.steps", &error))?,
        max_error_basis_points: rollout.analysis.max_error_basis_points,
        certify_basis_points: rollout.analysis.certify_basis_points,
        min_messages: u64::from(rollout.analysis.min_messages),
        max_latency_ms: rollout.analysis.max_latency_milliseconds.map(u64::from),
        timeout_seconds: spec.agent.timeout_seconds,
        interval_seconds: rollout.analysis.interval_seconds,
        on_failure: rollout.on_failure,
        retry_on_stable: rollout.on_message_failure == OnMessageFailure::RetryOnStable,
        progress_deadline_seconds: rollout.progress_deadline_seconds,
    })
}

fn mode(spec: &WhatsAppChannelSpec) -> Result<Mode, Invalid> {
    match (spec.rollout.mode, spec.rollout.weight) {
        (RolloutMode::Automatic, _) => Ok(Mode::Automatic),
        (RolloutMode::Manual, Some(weight)) => {
            let weight =
                Weight::new(weight).map_err(|error| invalid("spec.rollout.weight", &error))?;
            Ok(Mode::Manual(weight))
        }
        (RolloutMode::Manual, None) => {
            Err(invalid("spec.rollout.weight", &"must be set with `mode: Manual`"))
        }
    }
}

/// A command needs its id: without one, a second `retry` could not be told from the first.
fn command(object: &WhatsAppChannel) -> Option<Command> {
    let annotations = object.metadata.annotations.as_ref()?;
    let verb = annotations.get(COMMAND_ANNOTATION).filter(|verb| !verb.is_empty())?;
    let id = annotations.get(COMMAND_ID_ANNOTATION).filter(|id| !id.is_empty())?;
    Some(Command::new(id, verb))
}

fn invalid(path: &str, problem: &dyn std::fmt::Display) -> Invalid {
    Invalid { problems: vec![format!("{path}: {problem}")] }
}

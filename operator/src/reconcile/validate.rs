//! Validate: an object of the watch becomes a `Channel`, with the values that `rollout` takes.
//!
//! Takes what the API server stored, which an older schema may have accepted, or what cannot even be
//! decoded; gives a `Channel`. A spec that breaks a rule is in it as what it breaks: its route is left
//! in force, and a canary of it is judged on. Pure. Nothing after this hop meets an invalid spec.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kanarie_crds::channel::rollout::{OnMessageFailure, RolloutMode, RolloutSpec, RolloutState};
use kanarie_crds::channel::{RevisionContent, WhatsAppChannel, WhatsAppChannelSpec};
use kanarie_crds::route::{ChannelRef, route_name};
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_crds::{ACTOR_ANNOTATION, COMMAND_ANNOTATION, COMMAND_ID_ANNOTATION};
use kanarie_rollout::observation::Mode;
use kanarie_rollout::order::Command;
use kanarie_rollout::policy::Policy;
use kanarie_rollout::steps::{Step, Steps};
use kanarie_words::ids::InvalidId;
use kanarie_words::reason::Reason;
use kanarie_words::weight::Weight;
use kube::Resource as _;
use kube::api::ObjectMeta;
use thiserror::Error;

use crate::cluster::key::ChannelKey;
use crate::reconcile::blocked::Blocked;
use crate::watch::guarded::Guarded;

/// A channel of the watch.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Who it is, as the status writer needs it.
    pub identity: Identity,
    /// As the route names it.
    pub reference: ChannelRef,
    /// As a ControllerRevision names its owner.
    pub owner: OwnerReference,
    /// When it was created; the oldest of several claims a sender.
    pub created: Option<Time>,
    /// Status as it was when the watch delivered the object; none of one that cannot be decoded.
    pub status: Option<WhatsAppChannelStatus>,
    /// The command that stands in the annotations.
    pub command: Option<Command>,
    /// Name of its route's Secret; none of a spec that does not even tell account and sender.
    pub route_name: Option<String>,
    /// What it asks for, or what is wrong with that.
    pub spec: Result<ValidSpec, Blocked>,
}

/// A spec that can be carried out.
#[derive(Clone, Debug)]
pub struct ValidSpec {
    /// As it stands.
    pub spec: WhatsAppChannelSpec,
    /// The revision that it asks for.
    pub content: RevisionContent,
    /// How it would be rolled out.
    pub policy: Policy,
    /// Who moves the weight.
    pub mode: Mode,
    /// Whether advancing is paused.
    pub paused: bool,
    /// Seconds after a promotion in which the former revision is put back at a word.
    pub rollback_window_seconds: u32,
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
    /// Whether it is being deleted: nothing new is made for it.
    pub is_deleted: bool,
}

/// An object without a uid: no API server gives such a one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("metadata.uid: {0}")]
pub struct NoIdentity(#[from] InvalidId);

/// Reads a channel.
pub fn validate(object: &Guarded) -> Result<Channel, NoIdentity> {
    let metadata = object.meta();
    let identity = Identity::of(metadata);
    let reference = ChannelRef {
        namespace: identity.key.namespace.clone(),
        name: identity.key.name.clone(),
        uid: identity.uid.parse()?,
    };
    let readable = object.0.as_ref();
    Ok(Channel {
        reference,
        owner: owner(&identity),
        created: metadata.creation_timestamp.clone(),
        status: readable.ok().map(|object| object.status.clone().unwrap_or_default()),
        command: command(metadata),
        route_name: route_of(object),
        spec: readable
            .map_err(|invalid| invalid.error.clone())
            .and_then(|object| spec(object).map_err(|invalid| invalid.to_string()))
            .map_err(|message| Blocked::by(Reason::InvalidSpec, message)),
        identity,
    })
}

fn spec(object: &WhatsAppChannel) -> Result<ValidSpec, Invalid> {
    let problems = kanarie_crds::validate::validate(object);
    if !problems.is_empty() {
        let problems = problems.iter().map(ToString::to_string).collect();
        return Err(Invalid { problems });
    }
    let spec = object.spec.clone();
    Ok(ValidSpec {
        content: spec.revision_content(),
        policy: policy(&spec.rollout, spec.agent.timeout_seconds)?,
        mode: mode(&spec)?,
        paused: spec.rollout.state == RolloutState::Paused,
        rollback_window_seconds: spec.rollout.rollback_window_seconds,
        spec,
    })
}

/// Name of the route that a channel has, or would have; none if account or sender cannot be read.
pub fn route_of(object: &Guarded) -> Option<String> {
    let spec = &object.0.as_ref().ok()?.spec;
    Some(route_name(&spec.twilio.account_sid.parse().ok()?, &spec.sender.address.parse().ok()?))
}

/// Everything that is wrong with a spec, in the words of the rules.
#[derive(Debug, Error)]
#[error("{}", .problems.join("; "))]
struct Invalid {
    problems: Vec<String>,
}

fn owner(identity: &Identity) -> OwnerReference {
    OwnerReference {
        api_version: WhatsAppChannel::api_version(&()).into_owned(),
        kind: WhatsAppChannel::kind(&()).into_owned(),
        name: identity.key.name.clone(),
        uid: identity.uid.clone(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

impl Identity {
    /// Of any object, a readable one or not.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            key: ChannelKey {
                namespace: metadata.namespace.clone().unwrap_or_default(),
                name: metadata.name.clone().unwrap_or_default(),
            },
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            resource_version: metadata.resource_version.clone(),
            is_deleted: metadata.deletion_timestamp.is_some(),
        }
    }
}

/// The policy of a spec that says nothing about it.
pub fn standard_policy() -> Option<Policy> {
    policy(&RolloutSpec::default(), 0).ok()
}

fn policy(rollout: &RolloutSpec, timeout_seconds: u32) -> Result<Policy, Invalid> {
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
        timeout_seconds,
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

/// The command in the annotations, as it is written there.
pub fn command(metadata: &ObjectMeta) -> Option<Command> {
    let annotations = metadata.annotations.as_ref()?;
    let text = annotations.get(COMMAND_ANNOTATION)?;
    let actor = annotations.get(ACTOR_ANNOTATION).map(String::as_str);
    // Two annotations can be changed one after the other: what was executed would be neither.
    Some(match annotations.get(COMMAND_ID_ANNOTATION).filter(|id| !id.is_empty()) {
        Some(id) => Command::of_former_pair(text, id, actor),
        None => Command::read(text, actor),
    })
}

fn invalid(path: &str, problem: &dyn std::fmt::Display) -> Invalid {
    Invalid { problems: vec![format!("{path}: {problem}")] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> Channel {
        let text = format!(
            "{{apiVersion: kanarie.dev/v1alpha1, kind: WhatsAppChannel, \
              metadata: {{name: care, namespace: shop, uid: u, generation: 3}}, spec: {spec}}}"
        );
        validate(&serde_saphyr::from_str(&text).unwrap()).unwrap()
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_a_channel_whose_spec_is_unknown() {
        let channel = read("{sender: 7}");
        assert!(
            channel.status.is_none(),
            "its status is not known, and must not be taken for empty"
        );
        assert_eq!((channel.identity.uid.as_str(), channel.identity.generation), ("u", 3));
        assert_eq!(channel.spec.unwrap_err().reason, Reason::InvalidSpec);
    }

    #[test]
    fn a_command_is_read_from_one_annotation_and_a_standing_id_makes_it_none() {
        let said = |annotations: &str| {
            let text = format!("{{annotations: {{{annotations}}}}}");
            command(&serde_saphyr::from_str::<ObjectMeta>(&text).unwrap())
        };
        let one = said("kanarie.dev/command: 'abort r2 #1', kanarie.dev/actor: anna").unwrap();
        assert_eq!((one.id.as_str(), one.verb.as_str()), ("abort r2 #1", "abort"));
        assert_eq!(one.actor.as_deref(), Some("anna"));
        assert!(one.order.is_ok());
        let pair = said("kanarie.dev/command: abort, kanarie.dev/command-id: '7'").unwrap();
        assert_eq!(
            (pair.id.as_str(), pair.verb.as_str(), pair.order.is_ok()),
            ("7", "abort", false)
        );
        assert_eq!(said("kanarie.dev/command-id: '7'"), None, "an id alone orders nothing");
    }

    #[test]
    fn a_spec_that_breaks_a_rule_is_told_in_the_words_of_the_rule() {
        let channel = read(
            "{twilio: {accountSid: AC1, authTokenSecretRef: {name: t}}, \
              sender: {address: 'whatsapp:+31201234567'}, \
              webhook: {url: 'https://a.example.com/'}, \
              agent: {http: {url: 'https://b.example.com/'}}}",
        );
        assert!(channel.status.is_some());
        let why = channel.spec.unwrap_err();
        assert_eq!(why.reason, Reason::InvalidSpec);
        assert!(why.message.contains("accountSid"), "{}", why.message);
    }
}

//! Events: what happened to a channel, each thing once as a log line, a count and a Kubernetes Event.
//!
//! Takes a channel and its status before and after; creates Events whose names say what they are
//! about, so that creating one again is answered AlreadyExists. Never tells a secret or a number.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kanarie_crds::conditions::{EventType, Reason};
use kanarie_crds::control::DeadLetters;
use kanarie_crds::status::{HistoryEntry, WhatsAppChannelStatus};
use kanarie_crds::{FIELD_MANAGER, GROUP};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::context::Ctx;
use crate::metrics::Metrics;
use crate::status::seconds_since;
use crate::validate::Identity;

/// Lifetime of Events by the API server's default, less some minutes: an older transition is not
/// told again by a process that does not know whether it was told.
const LIFETIME_SECONDS: u64 = 55 * 60;
/// Longest note that an Event may carry, in bytes.
const MAX_NOTE: usize = 1024;

/// Something worth an Event.
struct Told {
    /// What makes it this one and no other.
    name: String,
    reason: Reason,
    note: String,
}

/// A decision that was just written: one log line and one count.
pub fn decided(metrics: &Metrics, identity: &Identity, transitions: &[HistoryEntry]) {
    for transition in transitions {
        metrics.transitions.with_label_values(&[&transition.reason]).inc();
        tracing::info!(
            namespace = identity.key.namespace,
            channel = identity.key.name,
            revision = transition.revision,
            transition = transition.transition,
            weight = transition.weight,
            reason = transition.reason,
            "{}",
            transition.message
        );
    }
}

/// Creates the Events of everything that is new between two statuses.
pub async fn tell(
    ctx: &Ctx,
    identity: &Identity,
    before: &WhatsAppChannelStatus,
    after: &WhatsAppChannelStatus,
    dead: Option<&DeadLetters>,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let told = ctx.notes.get(&identity.uid).told;
    let mut news = transitions(&identity.uid, after, told, now);
    news.extend(conditions(&identity.uid, before, after));
    news.extend(dead_letters(&identity.uid, before, dead));
    for one in news {
        create(ctx, identity, &one, now).await?;
    }
    ctx.notes.update(&identity.uid, |note| note.told = note.told.max(after.transition));
    Ok(())
}

/// Oldest first, so that they read in order.
fn transitions(uid: &str, after: &WhatsAppChannelStatus, told: u64, now: Timestamp) -> Vec<Told> {
    let new = after.history.iter().rev().filter(|one| one.transition > told);
    let young = new.filter(|one| seconds_since(&one.at, now) < LIFETIME_SECONDS);
    young
        .filter_map(|one| {
            Some(Told {
                name: format!("{uid}.{}", one.transition),
                reason: Reason::parse(&one.reason)?,
                note: format!("{}: {}", one.revision, one.message),
            })
        })
        .collect()
}

/// Conditions whose reason changed to something that is no transition: every warning, and the end
/// of one.
fn conditions(
    uid: &str,
    before: &WhatsAppChannelStatus,
    after: &WhatsAppChannelStatus,
) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::new();
    for condition in &after.conditions {
        let was = before.conditions.iter().find(|was| was.type_ == condition.type_);
        if was.is_some_and(|was| was.reason == condition.reason) {
            continue;
        }
        let Some(reason) = Reason::parse(&condition.reason) else { continue };
        let warned = was.and_then(|was| Reason::parse(&was.reason));
        let recovered = reason == Reason::Found
            && warned.is_some_and(|warned| warned.event() == EventType::Warning);
        let is_transition = after.history.iter().any(|one| one.reason == condition.reason);
        if !recovered && (reason.event() == EventType::Normal || is_transition) {
            continue;
        }
        if told.iter().all(|known| known.reason != reason) {
            let kind = condition.type_.to_lowercase();
            let since = condition.last_transition_time.0.as_second();
            let name = format!("{uid}.{kind}.{}.{since}", condition.reason.to_lowercase());
            told.push(Told { name, reason, note: condition.message.clone() });
        }
    }
    told
}

/// Dead letters where there were none, or more of them after the oldest one went.
fn dead_letters(
    uid: &str,
    before: &WhatsAppChannelStatus,
    dead: Option<&DeadLetters>,
) -> Option<Told> {
    let dead = dead.filter(|dead| dead.count > 0)?;
    let known = before.dead_letters.as_ref().map_or(0, |known| known.count);
    (dead.count > known).then(|| Told {
        name: format!("{uid}.deadletters.{}", dead.oldest_at_ms),
        reason: Reason::DeadLettersWaiting,
        note: format!(
            "{} messages could not be answered; the last one: {}",
            dead.count, dead.class
        ),
    })
}

async fn create(
    ctx: &Ctx,
    identity: &Identity,
    told: &Told,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let api: Api<Event> = Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    match api.create(&PostParams::default(), &event(ctx, identity, told, now)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

fn event(ctx: &Ctx, identity: &Identity, told: &Told, now: Timestamp) -> Event {
    let kind = match told.reason.event() {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let mut note = told.note.clone();
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    Event {
        metadata: ObjectMeta { name: Some(told.name.clone()), ..ObjectMeta::default() },
        event_time: Some(MicroTime(now)),
        action: Some("Reconcile".to_owned()),
        note: Some(note),
        reason: Some(told.reason.as_str().to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{GROUP}/v1alpha1")),
            kind: Some("WhatsAppChannel".to_owned()),
            name: Some(identity.key.name.clone()),
            namespace: Some(identity.key.namespace.clone()),
            uid: Some(identity.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("{GROUP}/{FIELD_MANAGER}")),
        reporting_instance: Some(ctx.instance.clone()),
        type_: Some(kind.to_owned()),
        ..Event::default()
    }
}

/// An error and its sources in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

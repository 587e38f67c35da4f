//! Events: what happened to a channel, each thing once as a log line, a count and a Kubernetes Event.
//!
//! Takes a channel and its status before and after; creates Events whose names say what they are
//! about, so that creating one again is answered AlreadyExists. Never tells a secret or a phone number.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kanarie_crds::control::ChannelDeadLetters;
use kanarie_crds::status::{CommandStatus, HistoryEntry, WhatsAppChannelStatus};
use kanarie_crds::{FIELD_MANAGER, GROUP};
use kanarie_rollout::state::CommandResult;
use kanarie_words::conditions::EventType;
use kanarie_words::reason::Reason;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

use crate::process::clock::seconds_since;
use crate::process::context::Ctx;
use crate::process::metrics::Metrics;
use crate::reconcile::untold::ChannelNews;
use crate::reconcile::validate::Identity;

/// How far back a process that has just started tells transitions that may have been told before:
/// well within the lifetime of an Event, which answers AlreadyExists as long.
const RETOLD_SECONDS: u64 = 10 * 60;
/// Longest note that an Event may carry, in bytes.
const MAX_NOTE: usize = 1024;

/// A decision that was just written: one log line and one count.
pub fn decided(metrics: &Metrics, identity: &Identity, transitions: &[HistoryEntry]) {
    for transition in transitions {
        metrics.transitions.inc([&transition.reason]);
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

/// Creates the Events of everything that is new between two statuses, and of what could not be told
/// before. What cannot be told now is told by a later pass.
pub async fn tell(
    ctx: &Ctx,
    identity: &Identity,
    before: &WhatsAppChannelStatus,
    after: &WhatsAppChannelStatus,
    dead: Option<&ChannelDeadLetters>,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let mut news = conditions(&identity.uid, before, after);
    news.extend(dead_letters(&identity.uid, before, dead));
    news.extend(refused_command(&identity.uid, before, after));
    ctx.notes.update(&identity.uid, |note| {
        note.untold.add(unheard(&identity.uid, after, &mut note.told, now));
        note.untold.add(news);
    });
    tell_untold(ctx, identity, now).await
}

/// Says that another installation serves the channel, once for each two of them.
pub async fn tell_of_another(
    ctx: &Ctx,
    identity: &Identity,
    other: &str,
) -> Result<(), kube::Error> {
    let (own, class) = (&ctx.config.routes_namespace, &ctx.config.channel_class);
    let name = format!("{}.installation.{own}.{other}", identity.uid);
    let note = format!(
        "the installation with the routes namespace {other} serves this channel, and the one with {own} leaves \
         it alone: both have the class `{class}`; give one of them another --channel-class, and its channels \
         that className; if {other} is gone, take its name from status.installation"
    );
    create(
        ctx,
        identity,
        &ChannelNews { name, reason: Reason::OtherInstallation, note },
        (ctx.clock)(),
    )
    .await
}

/// Creates the Events of a status that is as it was: what could not be told before, and, when this process does not
/// know what was told, young transitions and warnings.
pub async fn tell_again(
    ctx: &Ctx,
    identity: &Identity,
    status: &WhatsAppChannelStatus,
    now: Timestamp,
) -> Result<(), kube::Error> {
    ctx.notes.update(&identity.uid, |note| {
        note.untold.add(unheard(&identity.uid, status, &mut note.told, now));
    });
    tell_untold(ctx, identity, now).await
}

/// Whether a process that has told nothing of this status yet has to.
pub fn has_news(identity: &Identity, status: &WhatsAppChannelStatus, now: Timestamp) -> bool {
    !unheard(&identity.uid, status, &mut None, now).is_empty()
}

/// One after the other, until one cannot be created.
async fn tell_untold(ctx: &Ctx, identity: &Identity, now: Timestamp) -> Result<(), kube::Error> {
    while let Some(news) = ctx.notes.get(&identity.uid).untold.first().cloned() {
        // Put off beforehand: whoever waits for the answer may be told to stop.
        ctx.notes.update(&identity.uid, |note| note.untold.put_off(&news.name));
        create(ctx, identity, &news, now).await?;
        ctx.notes.update(&identity.uid, |note| note.untold.told(&news.name));
    }
    Ok(())
}

/// The transitions that this process has not heard of yet; when it has heard of none, young warnings as well.
fn unheard(
    uid: &str,
    status: &WhatsAppChannelStatus,
    told: &mut Option<u64>,
    now: Timestamp,
) -> Vec<ChannelNews> {
    if told.is_some_and(|told| told >= status.transition) {
        return Vec::new();
    }
    let mut news = transitions(uid, status, *told, now);
    if told.is_none() {
        news.extend(young_warnings(uid, status, now));
    }
    *told = Some(status.transition);
    news
}

/// Oldest first, so that they read in order.
fn transitions(
    uid: &str,
    status: &WhatsAppChannelStatus,
    told: Option<u64>,
    now: Timestamp,
) -> Vec<ChannelNews> {
    let is_new = |one: &&HistoryEntry| match told {
        Some(told) => one.transition > told,
        None => seconds_since(&one.at, now) < RETOLD_SECONDS,
    };
    let tell = |one: &HistoryEntry| {
        Some(ChannelNews {
            name: format!("{uid}.{}", one.transition),
            reason: Reason::parse(&one.reason)?,
            note: format!("{}: {}", one.revision, one.message),
        })
    };
    status.history.iter().rev().filter(is_new).filter_map(tell).collect()
}

/// Conditions whose reason changed to something that is no transition: every warning, and the end
/// of one.
fn conditions(
    uid: &str,
    before: &WhatsAppChannelStatus,
    after: &WhatsAppChannelStatus,
) -> Vec<ChannelNews> {
    let mut told: Vec<ChannelNews> = Vec::new();
    for condition in &after.conditions {
        let was = before.conditions.iter().find(|was| was.type_ == condition.type_);
        if was.is_some_and(|was| was.reason == condition.reason) {
            continue;
        }
        let Some(reason) = Reason::parse(&condition.reason) else { continue };
        let warned = was.and_then(|was| Reason::parse(&was.reason));
        let recovered =
            matches!(reason, Reason::Found | Reason::Verified | Reason::RotationOverlap)
                && warned.is_some_and(|warned| warned.event() == EventType::Warning);
        let is_transition = after.history.iter().any(|one| one.reason == condition.reason);
        if !recovered && (reason.event() == EventType::Normal || is_transition) {
            continue;
        }
        if told.iter().all(|known| known.reason != reason) {
            let kind = condition.type_.to_lowercase();
            let since = condition.last_transition_time.0.as_second();
            let name = format!("{uid}.{kind}.{}.{since}", condition.reason.to_lowercase());
            told.push(ChannelNews { name, reason, note: condition.message.clone() });
        }
    }
    told
}

/// A command that was answered now and not executed. What was executed is a transition.
fn refused_command(
    uid: &str,
    before: &WhatsAppChannelStatus,
    after: &WhatsAppChannelStatus,
) -> Option<ChannelNews> {
    let last = after.last_command.as_ref().filter(|_| before.last_command != after.last_command)?;
    let CommandStatus { id, result, message, at, .. } = last;
    let is_refused = *result == CommandResult::Refused.as_str();
    is_refused.then(|| ChannelNews {
        name: format!("{uid}.command.{}", at.0.as_second()),
        reason: Reason::CommandRefused,
        note: format!("`{id}`: {message}"),
    })
}

/// Warnings that may not have been told before this process started.
fn young_warnings(uid: &str, status: &WhatsAppChannelStatus, now: Timestamp) -> Vec<ChannelNews> {
    let mut young = status.clone();
    young.conditions.retain(|one| seconds_since(&one.last_transition_time, now) < RETOLD_SECONDS);
    conditions(uid, &WhatsAppChannelStatus::default(), &young)
}

/// Dead letters where there were none, or more of them after the oldest one went.
fn dead_letters(
    uid: &str,
    before: &WhatsAppChannelStatus,
    dead: Option<&ChannelDeadLetters>,
) -> Option<ChannelNews> {
    let dead = dead.filter(|dead| dead.count > 0)?;
    let known = before.dead_letters.as_ref().map_or(0, |known| known.count);
    (dead.count > known).then(|| ChannelNews {
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
    news: &ChannelNews,
    now: Timestamp,
) -> Result<(), kube::Error> {
    if identity.is_deleted {
        // A namespace that ends takes none, and nobody asks what became of what he has deleted.
        return Ok(());
    }
    let api: Api<Event> = Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    match api.create(&PostParams::default(), &event(ctx, identity, news, now)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error),
    }
}

fn event(ctx: &Ctx, identity: &Identity, news: &ChannelNews, now: Timestamp) -> Event {
    let kind = match news.reason.event() {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let mut note = news.note.clone();
    note.truncate(note.floor_char_boundary(MAX_NOTE));
    Event {
        metadata: ObjectMeta { name: Some(news.name.clone()), ..ObjectMeta::default() },
        event_time: Some(MicroTime(now)),
        action: Some("Reconcile".to_owned()),
        note: Some(note),
        reason: Some(news.reason.as_str().to_owned()),
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

#[cfg(test)]
mod tests {
    use kanarie_crds::status::DeadLettersStatus;
    use serde_json::json;

    use super::*;

    fn status(
        conditions: &[(&str, &str, Reason)],
        transitions: &[(u64, Reason)],
    ) -> WhatsAppChannelStatus {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, value, reason)| {
                json!({
                    "type": kind, "status": value, "reason": reason.as_str(), "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                })
            })
            .collect();
        let history: Vec<_> = transitions
            .iter()
            .rev()
            .map(|(number, reason)| {
                json!({
                    "transition": number, "at": "2026-01-01T00:00:00Z", "reason": reason.as_str(),
                    "revision": "r", "weight": 0, "message": "",
                })
            })
            .collect();
        serde_json::from_value(json!({"conditions": conditions, "history": history})).unwrap()
    }

    fn names(told: &[ChannelNews]) -> Vec<&str> {
        told.iter().map(|told| told.name.as_str()).collect()
    }

    #[test]
    fn a_transition_is_told_under_the_same_name_by_every_process() {
        let after = status(&[], &[(1, Reason::FirstRevision), (2, Reason::RolloutStarted)]);
        let now: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(names(&transitions("u", &after, None, now)), ["u.1", "u.2"]);
        assert_eq!(names(&transitions("u", &after, Some(1), now)), ["u.2"]);
    }

    #[test]
    fn a_process_that_starts_does_not_tell_old_stories() {
        let after = status(&[], &[(1, Reason::FirstRevision)]);
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        assert!(transitions("u", &after, None, now).is_empty());
    }

    #[test]
    fn a_young_warning_is_told_again_under_the_same_name_and_an_old_one_is_not() {
        let missing = status(&[("CredentialsReady", "False", Reason::SecretNotFound)], &[]);
        let first = conditions("u", &WhatsAppChannelStatus::default(), &missing);
        let at = |time: &str| young_warnings("u", &missing, time.parse().unwrap());
        assert_eq!(names(&at("2026-01-01T00:05:00Z")), names(&first));
        assert!(at("2026-01-01T01:00:00Z").is_empty());
    }

    #[test]
    fn one_reason_under_several_conditions_is_told_once() {
        let conflict = Reason::SenderConflict;
        let kinds = ["Ready", "Routed", "Stalled"].map(|kind| (kind, "False", conflict));
        let told = conditions("u", &WhatsAppChannelStatus::default(), &status(&kinds, &[]));
        assert_eq!(names(&told), ["u.ready.senderconflict.1767225600"]);
    }

    #[test]
    fn secrets_that_are_found_are_told_only_after_they_were_missed() {
        let found = status(&[("CredentialsReady", "True", Reason::Found)], &[]);
        let missing = status(&[("CredentialsReady", "False", Reason::SecretNotFound)], &[]);
        assert!(conditions("u", &WhatsAppChannelStatus::default(), &found).is_empty());
        assert_eq!(conditions("u", &missing, &found).len(), 1);
        assert!(conditions("u", &found, &found).is_empty());
    }

    #[test]
    fn a_command_is_told_once_when_it_is_refused_and_only_then() {
        let answered = |result: &str| {
            let answer = json!({
                "id": "dance #1", "command": "dance", "result": result, "message": "no",
                "at": "2026-01-01T00:00:00Z",
            });
            serde_json::from_value(json!({"lastCommand": answer})).unwrap()
        };
        let (refused, executed) = (answered("Refused"), answered("Executed"));
        let none = WhatsAppChannelStatus::default();
        let told = refused_command("u", &none, &refused).unwrap();
        assert_eq!(
            (told.name.as_str(), told.note.as_str()),
            ("u.command.1767225600", "`dance #1`: no")
        );
        assert!(refused_command("u", &refused, &refused).is_none());
        assert!(refused_command("u", &none, &executed).is_none());
    }

    #[test]
    fn fewer_dead_letters_than_before_are_no_news() {
        let dead = |count| ChannelDeadLetters {
            uid: "u".parse().unwrap(),
            count,
            oldest_at_ms: 1,
            class: "http".into(),
        };
        let before = WhatsAppChannelStatus {
            dead_letters: Some(DeadLettersStatus { count: 2, oldest_at: None }),
            ..WhatsAppChannelStatus::default()
        };
        assert!(dead_letters("u", &before, Some(&dead(2))).is_none());
        assert!(dead_letters("u", &before, Some(&dead(3))).is_some());
    }
}

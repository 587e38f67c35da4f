//! Report: status, marks on revisions and Events, derived from what is in the cluster.
//!
//! Takes what was applied; writes what users see, and says what the gateways are asked from now on.
//! Everything here may be lost and is written again by the next pass. Never goes back to a lower
//! transition: a status is written under the version of the object that it was compared with.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_crds::control::ChannelDeadLetters;
use kanarie_crds::route::route_hash;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_crds::{FIELD_MANAGER, GROUP};
use kanarie_rollout::analysis::Finding;
use kanarie_rollout::state::{Phase, Stage, State};
use kanarie_rollout::why::Why;
use kanarie_words::conditions::{ConditionStatus, ConditionType};
use kanarie_words::reason::Reason;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use serde_json::json;
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::cluster::revisions::{RevisionError, content_digest};
use crate::cluster::route_object::RouteObject;
use crate::cluster::secrets::REREAD;
use crate::gateways::board::{Interest, Presence, View};
use crate::process::chain::chain;
use crate::process::clock::share;
use crate::process::context::Ctx;
use crate::reconcile::apply::{Applied, take_away};
use crate::reconcile::blocked::Blocked;
use crate::reconcile::conditions::Facts;
use crate::reconcile::due;
use crate::reconcile::events;
use crate::reconcile::found::KnownStatus;
use crate::reconcile::marks::mark;
use crate::reconcile::notes::ToldStatus;
use crate::reconcile::observe::Survey;
use crate::reconcile::read::{ReadError, live};
use crate::reconcile::status::{blocked, derive, entry, failed};
use crate::reconcile::validate::{Channel, Identity};
use crate::twilio::answers::CredentialState;

/// How long a transition may wait for gateways that take it up, to be told together with that.
const TAKEN_UP: Duration = Duration::from_secs(2);
/// Longest that the Events of one pass may take: the next one is to judge.
const EVENTS_WITHIN: Duration = Duration::from_secs(1);

/// Said of a rollout whose policy is no longer that of the spec.
const OWN_POLICY: &str = "; steps and analysis of the spec have changed since: this rollout keeps those that \
                          it began with";

/// Why not everything could be reported.
#[derive(Debug, Error)]
pub enum ReportError {
    /// Status was changed by somebody else, twice.
    #[error("the status of the channel is being changed by another writer")]
    Conflict,
    /// The API server said no.
    #[error("the status of the channel could not be written")]
    Api(#[from] kube::Error),
    /// The channel cannot be read as it is now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Another installation was the first to write it.
    #[error("another installation serves the channel")]
    Elsewhere,
    /// The revisions could not be marked or pruned.
    #[error("the revisions of the channel could not be brought in line")]
    Revisions(#[from] RevisionError),
}

/// Reports on a channel that has a route; says when to look again if something was put off.
pub async fn report(
    ctx: &Ctx,
    channel: &Channel,
    survey: &Survey,
    applied: &Applied,
) -> Result<Option<Duration>, ReportError> {
    let Applied { held, decision, problem, stays } = applied;
    announce(ctx, channel, survey, &held.memory.rollout);
    let view = ctx.board.look(interest(channel, applied), Instant::now());
    let is_made = stays.as_ref().is_none_or(|blocked| blocked.reason != Reason::RevisionRefused);
    if let (Ok(spec), Some(name), true) = (&channel.spec, &survey.observation.desired, is_made) {
        let digest = content_digest(&channel.owner, &spec.content)?;
        let resolved = Some((digest, name.clone()));
        ctx.notes.update(&channel.identity.uid, |note| note.resolved = resolved);
    }
    if let Some(why) = stays.as_ref().filter(|why| why.reason == Reason::RouteUnreadable) {
        // Status and marks know more than the older route that was put back.
        return report_blocked(ctx, channel, why).await.map(|()| None);
    }
    // What cannot be kept is told by the same status: a second one would undo the first.
    let marked = mark(ctx, channel, survey, held).await;
    let unkept = marked.as_ref().err().map(|error| chain(error));
    let (reason, message) = word(channel, applied);
    let waits_for = match &decision.why {
        Why::DeadlineExceeded { waiting, .. } => Some(waiting.reason()),
        _ => None,
    };
    let same_step = survey.state.serving == held.memory.rollout.serving;
    let verdict = decision.verdict.as_ref().filter(|_| same_step);
    let credentials = credentials(ctx, channel, held);
    let make = |before: &WhatsAppChannelStatus, generation: i64, now: Timestamp| {
        derive(&Facts {
            generation,
            before,
            memory: &held.memory,
            reason,
            message: &message,
            waits_for,
            verdict,
            view: &view,
            is_checked: channel.spec.is_ok(),
            problem: problem.as_ref(),
            credentials,
            unkept: unkept.as_deref(),
            now,
        })
    };
    let telling = Telling::of(ctx, channel, &held.memory.rollout, &view);
    let written = write(ctx, &survey.known_status, &telling, make).await;
    if let Err(ReportError::Elsewhere) = written
        && survey.held.is_none()
    {
        // Both have made one; nobody would rotate the tokens in this one.
        take_away(ctx, &held.metadata).await?;
    }
    let is_told = written?;
    marked?;
    Ok((!is_told).then_some(TAKEN_UP / 2))
}

/// Whether gateways obey what was written, or do not hurry to.
fn is_taken_up(ctx: &Ctx, channel: &Channel, view: &View) -> bool {
    let written = ctx.notes.get(&channel.identity.uid).route_written;
    let is_young = written.is_some_and(|written| written.elapsed() < TAKEN_UP);
    let nobody_will = match &view.presence {
        Presence::NotAsked => false,
        Presence::Silent => true,
        Presence::Alive(replicas) => replicas.is_empty(),
    };
    !is_young || nobody_will || view.in_force()
}

/// What Twilio says of the credentials in force; of a channel that is going nothing is asked.
fn credentials(ctx: &Ctx, channel: &Channel, held: &RouteObject) -> Option<CredentialState> {
    let route = held.route.as_ref().filter(|_| !channel.identity.is_deleted)?;
    let key = &channel.identity.key;
    ctx.checks.look(key, &route.account_sid, &route.credentials, Instant::now())
}

/// How long the present step is held.
fn hold(state: &State) -> Option<Duration> {
    let rolling = state.rolling()?;
    let step = rolling.policy.steps.get(rolling.step_index()?)?;
    Some(Duration::from_secs(u64::from(step.hold_seconds)))
}

/// Reports on a channel for which nothing may be done.
pub async fn report_blocked(
    ctx: &Ctx,
    channel: &Channel,
    why: &Blocked,
) -> Result<(), ReportError> {
    let presence = ctx.board.presence(Instant::now());
    let make = |before: &WhatsAppChannelStatus, generation: i64, now: Timestamp| {
        blocked(generation, before, why, &presence, now)
    };
    let Some(known) = known(ctx, channel).await? else { return Ok(()) };
    write(ctx, &known, &Telling::at_once(channel), make).await.map(drop)
}

/// Tells of a channel at rest what an earlier process may not have told, within a minute, since that may be so of
/// all at once; says when to look again if that is not all.
pub async fn retell(ctx: &Ctx, channel: &Channel) -> Option<Duration> {
    let status = channel.status.as_ref()?;
    let (identity, now) = (&channel.identity, (ctx.clock)());
    let is_first = ctx.notes.update(&identity.uid, |note| {
        let is_first = note.told.is_none() && !note.met;
        note.met = true;
        is_first
    });
    if is_first && events::has_news(identity, status, now) {
        return Some(share(REREAD));
    }
    told(identity, events::tell_again(ctx, identity, status, now)).await;
    ctx.notes.get(&identity.uid).untold.first().map(|_| REREAD)
}

/// Status as the watch told it, or as it is now; none if the channel is gone.
async fn known(ctx: &Ctx, channel: &Channel) -> Result<Option<KnownStatus>, ReadError> {
    let identity = channel.identity.clone();
    match &channel.status {
        Some(status) => Ok(Some(KnownStatus { identity, status: status.clone() })),
        None => live(ctx, &identity).await,
    }
}

/// Reports that a pass has failed, and why.
pub async fn report_failure(ctx: &Ctx, channel: &Channel, why: &str) -> Result<(), ReportError> {
    let Some(known) = known(ctx, channel).await? else { return Ok(()) };
    let make = |before: &WhatsAppChannelStatus, _: i64, now: Timestamp| failed(before, why, now);
    write(ctx, &known, &Telling::at_once(channel), make).await.map(drop)
}

/// What the gateways are asked about this channel from now on.
fn interest(channel: &Channel, applied: &Applied) -> Interest {
    let Applied { held, decision, .. } = applied;
    let (rolling, seconds) = match &held.memory.rollout.phase {
        Phase::Rolling(rolling) => {
            (true, until_asked(rolling.policy.interval_seconds, &decision.why))
        }
        // Something starts as soon as they have all acknowledged that stable serves everybody.
        Phase::Clearing { .. } => (starts_soon(&decision.why), live_interval(channel)),
        Phase::Stable { .. } => (false, live_interval(channel)),
    };
    let interval = Duration::from_secs(u64::from(seconds.clamp(1, 60)));
    Interest {
        key: channel.identity.key.clone(),
        uid: channel.reference.uid.clone(),
        hash: route_hash(&held.route_bytes),
        rolling,
        interval,
        next: interval.min(decision.requeue),
    }
}

/// Seconds until a channel that rolls is asked about again. That a hold has run is only known from an answer
/// that was given after it.
fn until_asked(interval: u32, why: &Why) -> u32 {
    match why {
        Why::Holding { seconds_left, .. } => {
            u32::try_from(*seconds_left).unwrap_or(u32::MAX).min(interval)
        }
        // Only time is missing.
        Why::WaitingForAnswers { .. } => 1,
        _ => interval,
    }
}

fn starts_soon(why: &Why) -> bool {
    matches!(
        why,
        Why::WaitingForGateways { .. }
            | Why::DeadlineExceeded { .. }
            | Why::WaitingForEvidence
            | Why::Superseded { .. }
            | Why::Retried
            | Why::Rebuilt
    )
}

fn live_interval(channel: &Channel) -> u32 {
    channel.spec.as_ref().map_or(60, |spec| spec.policy.interval_seconds)
}

/// Logs and counts the transitions that the write has put in force.
fn announce(ctx: &Ctx, channel: &Channel, survey: &Survey, now: &State) {
    let before = match &survey.held {
        Some(held) => held.memory.rollout.transition.max(survey.known_status.status.transition),
        None => survey.known_status.status.transition,
    };
    let new = now.history.iter().rev().filter(|one| one.number > before);
    let new: Vec<_> = new.map(entry).collect();
    events::decided(&ctx.metrics, &channel.identity, &new);
}

/// The word and the text of RolledOut. What stands in the way comes first; what is completed says how it came to
/// be; what fails in mode Manual says so, since nobody takes it back by itself.
fn word(channel: &Channel, applied: &Applied) -> (Reason, String) {
    let Applied { held, decision, stays, .. } = applied;
    if let Some(blocked) = stays {
        return (blocked.reason, blocked.message.clone());
    }
    let state = &held.memory.rollout;
    let message = decision.why.to_string();
    let reason = decision.why.reason();
    let Some(rolling) = state.rolling() else {
        let fulfilled = (ConditionType::RolledOut, ConditionStatus::True);
        let last = state.history.first().and_then(|last| Reason::parse(&last.reason));
        let how = last.filter(|last| last.conditions().contains(&fulfilled));
        return (how.filter(|_| reason == Reason::Completed).unwrap_or(reason), message);
    };
    let failing = decision.verdict.as_ref().filter(|verdict| verdict.finding == Finding::Fail);
    let stays = matches!(decision.why, Why::AwaitingPromotion { .. } | Why::Paused);
    let (reason, message) = match (failing, &rolling.stage) {
        (Some(verdict), Stage::Manual { weight }) if stays => {
            let numbers = &verdict.numbers;
            let message = format!(
                "the canary fails: {numbers}; rollout.mode is Manual, so it stays at {weight} until \
                 rollout.weight is lower"
            );
            (Reason::CanaryFailing, message)
        }
        _ => (reason, message),
    };
    let has_changed = channel.spec.as_ref().is_ok_and(|spec| spec.policy != rolling.policy);
    let note = if has_changed { OWN_POLICY } else { "" };
    (reason, format!("{message}{note}"))
}

/// How a status is told.
struct Telling<'a> {
    generation: i64,
    dead: Option<&'a ChannelDeadLetters>,
    /// Whether there is no use in waiting for gateways to tell both together.
    is_taken_up: bool,
    hold: Option<Duration>,
}

impl<'a> Telling<'a> {
    fn of(ctx: &Ctx, channel: &Channel, state: &State, view: &'a View) -> Self {
        Self {
            generation: channel.identity.generation,
            dead: view.dead_letters.as_ref(),
            is_taken_up: is_taken_up(ctx, channel, view),
            hold: hold(state),
        }
    }

    fn at_once(channel: &Channel) -> Self {
        let generation = channel.identity.generation;
        Self { generation, dead: None, is_taken_up: true, hold: None }
    }
}

/// Writes status if it changed, and tells what is new in it; says no when it will be told in a moment.
async fn write(
    ctx: &Ctx,
    known_status: &KnownStatus,
    telling: &Telling<'_>,
    make: impl Fn(&WhatsAppChannelStatus, i64, Timestamp) -> WhatsAppChannelStatus,
) -> Result<bool, ReportError> {
    let now = (ctx.clock)();
    let own = &ctx.config.routes_namespace;
    let make = |before: &WhatsAppChannelStatus, generation, now| WhatsAppChannelStatus {
        installation: Some(own.clone()),
        ..make(before, generation, now)
    };
    let &Telling { generation, dead, is_taken_up, hold } = telling;
    let KnownStatus { identity, status: before } = known_status;
    let is_anothers =
        |status: &WhatsAppChannelStatus| status.installation.as_ref().is_some_and(|it| it != own);
    if is_anothers(before) {
        return Err(ReportError::Elsewhere);
    }
    let after = make(before, generation, now);
    ctx.metrics.channels.show(&identity.key, &after);
    if after.transition < before.transition {
        return Ok(true);
    }
    // The first word claims the channel before another installation does.
    let is_claimed = before.installation.is_some();
    if after.transition > before.transition && is_claimed && !is_taken_up {
        return Ok(false);
    }
    if !is_due(ctx, identity, due::after(before, &after, hold)) {
        told(identity, events::tell_again(ctx, identity, &after, now)).await;
        return Ok(true);
    }
    if let Written::Yes = patch(ctx, identity, &after).await? {
        told(identity, events::tell(ctx, identity, before, &after, dead, now)).await;
        return Ok(true);
    }
    // The watch is behind: compare with the object as it is.
    let Some(KnownStatus { identity, status: before }) = live(ctx, identity).await? else {
        return Ok(true);
    };
    let after = make(&before, generation, now);
    if is_anothers(&before) {
        return Err(ReportError::Elsewhere);
    }
    let is_older = after.transition < before.transition
        || after.observed_generation < before.observed_generation;
    if is_older || before == after {
        return Ok(true);
    }
    match patch(ctx, &identity, &after).await? {
        Written::Yes => {
            told(&identity, events::tell(ctx, &identity, &before, &after, dead, now)).await;
            Ok(true)
        }
        Written::Conflict => Err(ReportError::Conflict),
    }
}

/// Events are told as well as can be: one that cannot be created, or is not answered, keeps nothing else from
/// happening, and is tried again by the next pass.
async fn told(identity: &Identity, telling: impl Future<Output = Result<(), kube::Error>>) {
    let error = match timeout(EVENTS_WITHIN, telling).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("no answer within {} s", EVENTS_WITHIN.as_secs()),
    };
    tracing::warn!(
        namespace = identity.key.namespace,
        channel = identity.key.name,
        error,
        "an Event of the channel could not be created; it is tried again"
    );
}

fn is_due(ctx: &Ctx, identity: &Identity, after: Option<Duration>) -> bool {
    let written = ctx.notes.get(&identity.uid).status_written;
    let Some(wait) = after else { return false };
    // A clock that was put back keeps nothing from being written.
    let passed = written.map(|written| (ctx.clock)().duration_since(written));
    passed.and_then(|passed| Duration::try_from(passed).ok()).is_none_or(|passed| passed >= wait)
}

enum Written {
    Yes,
    Conflict,
}

async fn patch(
    ctx: &Ctx,
    identity: &Identity,
    status: &WhatsAppChannelStatus,
) -> Result<Written, kube::Error> {
    // The answer has the spec as well, which may be one that this version cannot decode.
    let api: Api<PartialObjectMeta<WhatsAppChannel>> =
        Api::namespaced(ctx.client.clone(), &identity.key.namespace);
    let body = json!({
        "apiVersion": format!("{GROUP}/v1alpha1"),
        "kind": "WhatsAppChannel",
        "metadata": {
            "name": identity.key.name,
            "uid": identity.uid,
            "resourceVersion": identity.resource_version,
        },
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&identity.key.name, &params, &Patch::Apply(&body)).await {
        Ok(written) => {
            let told = ToldStatus {
                over: identity.resource_version.clone(),
                version: written.metadata.resource_version,
                status: status.clone(),
            };
            ctx.notes.update(&identity.uid, |note| {
                note.status_written = Some((ctx.clock)());
                note.status = Some(Arc::new(told));
            });
            Ok(Written::Yes)
        }
        // Also the answer for an object that is gone: the next look finds nothing.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use kanarie_rollout::numbers::Numbers;

    use super::*;

    #[test]
    fn the_gateways_are_asked_when_a_hold_has_run_and_not_an_interval_later() {
        let holding = |seconds_left| Why::Holding { seconds_left, numbers: Numbers::default() };
        assert_eq!(until_asked(60, &holding(3_600)), 60);
        assert_eq!(until_asked(60, &holding(7)), 7);
        // The second look of a bake, and what an answer told a moment too early.
        assert_eq!(until_asked(60, &holding(1)), 1);
        assert_eq!(until_asked(60, &Why::WaitingForEvidence), 60);
    }

    #[test]
    fn what_was_taken_back_is_asked_about_as_what_rests_until_something_else_is_asked_for() {
        for why in [Why::RolledBack { explanation: String::new() }, Why::Aborted, Why::Undone] {
            assert!(!starts_soon(&why), "{why:?}");
        }
        assert!(starts_soon(&Why::WaitingForEvidence) && starts_soon(&Why::Retried));
    }
}

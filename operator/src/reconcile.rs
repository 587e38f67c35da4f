//! The reconcile line: seven calls, one after the other, and one way out of it.
//!
//! Takes a channel of the watch; gives when to look again, later for one that another installation serves or that is
//! still being edited. One at rest that is as it was is left alone (`rest`). Else it validates (pure), reads (all of
//! it before anything is decided), observes, decides and builds (pure), applies (the one conditional
//! write, which is the decision) and reports. Nothing turns back, and nothing that is asked after
//! the write changes what was decided; what went wrong is told on the channel and tried again.

pub mod apply;
pub mod blocked;
pub mod build;
pub mod conditions;
pub mod credentials;
pub mod decide;
pub mod due;
pub mod elsewhere;
pub mod events;
pub mod found;
pub mod halt;
pub mod marks;
pub mod notes;
pub mod observation;
pub mod observe;
pub mod ownership;
pub mod read;
pub mod remains;
pub mod report;
pub mod rest;
pub mod stand_ins;
pub mod status;
pub mod untold;
pub mod validate;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kanarie_rollout::why::Why;
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;
use tokio::time::{Instant, timeout};

use crate::cluster::route_object::RouteObject;
use crate::cluster::secrets::REREAD;
use crate::process::chain::chain;
use crate::process::clock::millis_of;
use crate::process::context::Ctx;
use crate::reconcile::apply::{Applied, ApplyError, apply};
use crate::reconcile::blocked::Blocked;
use crate::reconcile::build::build;
use crate::reconcile::decide::decide;
use crate::reconcile::elsewhere::elsewhere;
use crate::reconcile::halt::{Halt, ReconcileError};
use crate::reconcile::observe::{Survey, observe};
use crate::reconcile::read::{ReadError, read};
use crate::reconcile::report::{ReportError, report, report_blocked, report_failure, retell};
use crate::reconcile::validate::{Channel, NoIdentity, validate};
use crate::watch::guarded::Guarded;

/// Longest time of one reconcile: the client has no read timeout of its own.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest time in which it is told on the channel that one has ended early.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// When to look again at what no watch tells.
const BLOCKED: Duration = Duration::from_secs(10);
/// When to look again after another writer was first, should the watch not say so.
const CONFLICT: Duration = Duration::from_secs(5);
/// When to look again at a rollout whose evidence comes from the reader.
const POLLED: Duration = Duration::from_secs(15);
/// Longest pause after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// One reconcile, with its time limit.
pub async fn reconcile(object: Arc<Guarded>, ctx: Arc<Ctx>) -> Result<Duration, NoIdentity> {
    let channel = validate(&object)?;
    let started = Instant::now();
    // A bug that one channel meets keeps nobody from judging the others, again and again.
    let caught = AssertUnwindSafe(line(&ctx, &channel)).catch_unwind();
    let ended = timeout(LIMIT, caught).await;
    ctx.metrics.reconcile_duration.observe(started.elapsed());
    let too_long = || Err(Halt::Failed(ReconcileError::Timeout { seconds: LIMIT.as_secs() }));
    let panicked = |_| Err(Halt::Failed(ReconcileError::Panicked));
    Ok(match ended.map_or_else(|_| too_long(), |ended| ended.unwrap_or_else(panicked)) {
        Ok(pause) => pause,
        Err(Halt::Blocked(why)) => {
            match timeout(TOLD_WITHIN, report_blocked(&ctx, &channel, &why)).await {
                Ok(Ok(())) => while_blocked(&ctx, &channel, &why),
                Ok(Err(error)) => failed(&ctx, &channel, &error.into()).await,
                Err(_) => {
                    let seconds = TOLD_WITHIN.as_secs();
                    failed(&ctx, &channel, &ReconcileError::Untold { seconds }).await
                }
            }
        }
        // Whoever was first is seen by the watch of the routes.
        Err(Halt::Failed(
            ReconcileError::Apply(ApplyError::Conflict)
            | ReconcileError::Report(ReportError::Elsewhere),
        )) => CONFLICT,
        Err(Halt::Failed(error)) => failed(&ctx, &channel, &error).await,
    })
}

/// The line.
async fn line(ctx: &Ctx, channel: &Channel) -> Result<Duration, Halt> {
    if let Some(rest) = elsewhere(ctx, channel).await {
        return Ok(rest);
    }
    if rest::rests(ctx, channel) {
        let soon = retell(ctx, channel).await;
        let counts = channel.status.as_ref().is_some_and(|status| status.undelivered.is_some());
        return Ok(soon.unwrap_or_else(|| if counts { REREAD } else { rest::pause() }));
    }
    let now = Timestamp(millis_of((ctx.clock)()));
    let reading = read(ctx, channel).await?;
    if let Some(rest) = reading.settles_in {
        return Ok(rest);
    }
    let survey = observe(channel, reading, now)?;
    let decisions = decide(&survey, now);
    let built = build(channel, &survey, decisions, now)?;
    let applied = apply(ctx, channel, &survey, built).await?;
    let soon = report(ctx, channel, &survey, &applied).await?;
    let view = ctx.board.view(&channel.reference.uid, Instant::now());
    let is_watched = ctx.secrets.tells_of(&channel.identity.key.namespace);
    let pause = pause(&survey, &applied, is_watched && view.is_settled());
    let pause = soon.map_or(pause, |soon| pause.min(soon));
    note_down(ctx, channel, &survey, applied, pause);
    Ok(pause)
}

/// Notes what was done, for the next look.
fn note_down(ctx: &Ctx, channel: &Channel, survey: &Survey, applied: Applied, pause: Duration) {
    let held = applied.held;
    let version = held.metadata.resource_version.clone();
    let rolls = held.memory.rollout.rolling().is_some();
    let is_as_it_was = |held: &RouteObject| held.metadata.resource_version == version;
    // The gateways' word on what was just written is the next look.
    let is_written = !survey.held.as_ref().is_some_and(is_as_it_was);
    ctx.notes.update(&channel.identity.uid, |note| {
        note.failures = 0;
        note.held = (rolls || is_written).then(|| Arc::new(held));
        note.route = version;
        // Until the next look the watch tells what was written.
        note.status = note.status.take().filter(|_| rolls || pause < REREAD);
    });
}

/// When to look again, if nothing happens before.
fn pause(survey: &Survey, applied: &Applied, is_settled: bool) -> Duration {
    let decision = &applied.decision;
    if decision.next != survey.state || survey.held.is_none() {
        return decision.requeue;
    }
    // The reader reconciles a rollout with each answer; this is for its deadline, and for the end of a hold.
    let pause = match (&decision.why, decision.next.rolling()) {
        (Why::Holding { seconds_left, .. }, Some(_)) => {
            POLLED.min(Duration::from_secs((*seconds_left).max(1)))
        }
        (_, Some(_)) => POLLED.max(decision.requeue),
        // The watches tell.
        (_, None) if decision.requeue >= REREAD && is_settled => rest::pause(),
        (_, None) => decision.requeue.min(REREAD),
    };
    applied.stays.as_ref().map_or(pause, |stays| pause.min(until_somebody_acts(stays)))
}

/// When to look again at a channel for which nothing may be done.
fn while_blocked(ctx: &Ctx, channel: &Channel, why: &Blocked) -> Duration {
    match &channel.route_name {
        // It is told when the route goes; just before it began to wait that may have been.
        Some(name) if why.reason == Reason::SenderConflict => {
            let is_new = ctx.claims.wait(name, &channel.identity.key);
            if is_new { BLOCKED } else { rest::pause() }
        }
        Some(_) | None => until_somebody_acts(why),
    }
}

/// What a watch tells is looked at seldom besides, what none tells (quotas, policies, an API server
/// that says nothing) more often.
fn until_somebody_acts(why: &Blocked) -> Duration {
    let unreadable = why.secrets.as_ref().map(|problem| problem.reason);
    match (why.reason, unreadable) {
        (Reason::RevisionRefused, _) | (_, Some(Reason::SecretUnreadable)) => BLOCKED,
        (Reason::InvalidSpec, _)
        | (_, Some(Reason::SecretNotFound | Reason::KeyMissing | Reason::ValueUnusable)) => {
            rest::pause()
        }
        _ => REREAD,
    }
}

/// Counts a failure, tells it in the log and on the channel, and gives the time until the next try.
async fn failed(ctx: &Ctx, channel: &Channel, error: &ReconcileError) -> Duration {
    if matches!(error, ReconcileError::Read(ReadError::Gone)) {
        ctx.forget(&channel.identity.key, &channel.identity.uid);
        return MAX_BACKOFF;
    }
    let failures = ctx.notes.update(&channel.identity.uid, |note| {
        note.failures = note.failures.saturating_add(1);
        note.failures
    });
    ctx.metrics.reconcile_failures.inc([error.class()]);
    let pause = Duration::from_secs(1 << failures.min(6)).min(MAX_BACKOFF);
    let text = chain(error);
    tracing::warn!(
        namespace = channel.identity.key.namespace,
        channel = channel.identity.key.name,
        error = text,
        "the reconcile failed; it is tried again in {} s",
        pause.as_secs()
    );
    // Status is as it should be, or cannot be written: writing another one would undo the next pass.
    if matches!(error, ReconcileError::Report(_) | ReconcileError::Untold { .. }) {
        return pause;
    }
    let told = timeout(TOLD_WITHIN, report_failure(ctx, channel, &text)).await;
    let unanswered = |_| format!("no answer within {} s", TOLD_WITHIN.as_secs());
    if let Err(error) =
        told.map_err(unanswered).and_then(|told| told.map_err(|error| chain(&error)))
    {
        tracing::warn!(error, "the failure could not be told on the channel");
    }
    pause
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::blocked::SecretProblem;

    #[test]
    fn what_a_watch_tells_is_waited_for_and_what_none_tells_is_tried_every_ten_seconds() {
        let by_secret = |reason| {
            let message = String::new();
            Blocked::by_secrets(SecretProblem { reason, message })
        };
        for why in [
            by_secret(Reason::SecretNotFound),
            Blocked::by(Reason::InvalidSpec, ""),
            Blocked::by(Reason::SenderConflict, ""),
            Blocked::by(Reason::RouteLost, ""),
        ] {
            assert!(until_somebody_acts(&why) >= REREAD, "{why:?}");
        }
        for why in [by_secret(Reason::SecretUnreadable), Blocked::by(Reason::RevisionRefused, "")] {
            assert_eq!(until_somebody_acts(&why), BLOCKED, "{why:?}");
        }
    }
}

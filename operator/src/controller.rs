//! Controller: the watches, and the driver of one reconcile.
//!
//! Takes the queues of the watched namespaces; runs a controller for each until `stop`. `line` is
//! the whole reconcile, one hop a line: it reads once, decides once, writes the route once and
//! reports. Nothing turns back; what went wrong is tried again later.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::status::WhatsAppChannelStatus;
use kanarie_rollout::decide::{Decision, decide};
use kanarie_rollout::state::State;
use kanarie_words::conditions::{ConditionStatus, ConditionType};
use kanarie_words::reason::Reason;
use kanarie_words::timestamp::Timestamp;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::apply::{ApplyError, apply};
use crate::blocked::Blocked;
use crate::build::{BuildError, Built, build};
use crate::clock;
use crate::context::Ctx;
use crate::credentials::SecretProblem;
use crate::error::chain;
use crate::events;
use crate::observe::{ObserveError, Survey, look, observe};
use crate::report::{Report, ReportError, report, report_blocked, standing};
use crate::secrets::REREAD;
use crate::status::entry;
use crate::triggers::{Guarded, ReconcileQueue};
use crate::validate::{Channel, Identity, validate};

/// Longest time of one reconcile: the client has no read timeout of its own.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(30);
/// Reconciles at once, over all watched namespaces.
const CONCURRENCY: usize = 32;
/// When to look again at a channel for which nothing may be done.
const BLOCKED: Duration = Duration::from_secs(10);
/// When to look again after another writer was first, should the watch not say so.
const CONFLICT: Duration = Duration::from_secs(5);
/// When to look again at a rollout whose evidence comes from the poller.
const POLLED: Duration = Duration::from_secs(15);
/// Longest pause after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Why a reconcile failed; it is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// Something could not be read.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// The route could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The route could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Not everything could be reported.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// It took too long.
    #[error("the reconcile did not end within {} s", RECONCILE_TIMEOUT.as_secs())]
    Timeout,
}

/// Runs a controller per queue until `stop`, and waits for their reconciles.
pub async fn run(ctx: Arc<Ctx>, queues: Vec<ReconcileQueue>, stop: watch::Receiver<bool>) {
    let concurrency = u16::try_from((CONCURRENCY / queues.len().max(1)).max(1)).unwrap_or(1);
    let mut stores = Vec::new();
    let mut controllers = Vec::new();
    for (scope, queue) in queues {
        let (config, secrets) = (watch_config(&ctx, scope.as_deref()), ctx.clone());
        let mut stopping = stop.clone();
        let controller = Controller::new(api::<Guarded>(&ctx, scope.as_deref()), config.clone())
            .with_config(ControllerConfig::default().concurrency(concurrency))
            .watches(
                api::<PartialObjectMeta<Secret>>(&ctx, scope.as_deref()),
                config,
                move |secret| users(&secrets, &secret),
            )
            .reconcile_on(stream::unfold(queue, |mut queue| async {
                Some((queue.recv().await?, queue))
            }))
            .graceful_shutdown_on(async move {
                // An error means that nobody can stop us any more; that is the time to stop.
                let _ = stopping.wait_for(|stop| *stop).await;
            });
        stores.push(controller.store());
        let results = controller.run(reconcile, on_error, ctx.clone());
        controllers.push(results.for_each(|result| async move {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconcile or a watch failed");
            }
        }));
    }
    ctx.channels.fill(stores);
    join_all(controllers).await;
}

/// One reconcile, with its time limit.
async fn reconcile(object: Arc<Guarded>, ctx: Arc<Ctx>) -> Result<Action, ReconcileError> {
    let started = Instant::now();
    let ended = tokio::time::timeout(RECONCILE_TIMEOUT, line(&object, &ctx)).await;
    ctx.metrics.reconcile_duration.observe(started.elapsed());
    let pause = match ended.unwrap_or(Err(ReconcileError::Timeout)) {
        // Whoever was first is seen by the watch of the routes.
        Err(ReconcileError::Apply(ApplyError::Conflict)) => CONFLICT,
        other => other?,
    };
    ctx.notes.update(&uid(&object), |note| note.failures = 0);
    Ok(Action::requeue(pause))
}

/// The line: validate, observe, decide, build, apply, report.
async fn line(object: &Guarded, ctx: &Ctx) -> Result<Duration, ReconcileError> {
    let channel = match read(object) {
        Ok(channel) => channel,
        Err(unreadable) => {
            let (identity, status, why) = *unreadable;
            return refuse(ctx, identity, status, &why).await;
        }
    };
    let now = Timestamp(clock::millis_of((ctx.clock)()));
    let seen = match observe(ctx, &channel, now).await? {
        Ok(seen) => seen,
        Err(why) => {
            report_blocked(ctx, &channel.identity, &channel.status, &why, None).await?;
            return Ok(BLOCKED);
        }
    };
    let decision = decide(&seen.state, &seen.observation, now);
    let Plan { built, withheld } = match plan(&channel, &seen, &decision, now)? {
        Ok(plan) => plan,
        Err(problem) => return without_route(ctx, &channel, problem).await,
    };
    let held = apply(ctx, &channel, &seen, &built).await?;
    announce(ctx, &channel, &seen, &held.memory.rollout);
    let view = look(ctx, &channel, &held, &seen.observation.desired);
    let problem = withheld.as_ref().or(built.problem.as_ref());
    let (reason, message) = match &withheld {
        Some(problem) => (Reason::CredentialsNotReady, problem.message.clone()),
        None => word(&decision, &held.memory.rollout),
    };
    let same_step = seen.state.serving == held.memory.rollout.serving;
    let verdict = decision.verdict.as_ref().filter(|_| same_step);
    let outcome = Report { held: &held, reason, message, verdict, view: &view, problem };
    report(ctx, &channel, &outcome).await?;
    Ok(pause(&seen, &decision, withheld.is_some()))
}

/// What is to be written, and the credentials without which a decision had to be withheld.
struct Plan {
    built: Built,
    withheld: Option<SecretProblem>,
}

/// Builds the decision. One that brings a revision into service whose Secrets are not there is
/// withheld: the state stays, and is decided anew in the next pass.
fn plan(
    channel: &Channel,
    seen: &Survey,
    decision: &Decision,
    now: Timestamp,
) -> Result<Result<Plan, SecretProblem>, BuildError> {
    match build(channel, seen, &decision.next, now.0) {
        Ok(built) => Ok(Ok(Plan { built, withheld: None })),
        Err(BuildError::Credentials(problem)) if seen.held.is_some() => {
            match build(channel, seen, &seen.state, now.0) {
                Ok(built) => Ok(Ok(Plan { built, withheld: Some(problem) })),
                Err(BuildError::Credentials(problem)) => Ok(Err(problem)),
                Err(error) => Err(error),
            }
        }
        Err(BuildError::Credentials(problem)) => Ok(Err(problem)),
        Err(error) => Err(error),
    }
}

/// There is no route and none can be made.
async fn without_route(
    ctx: &Ctx,
    channel: &Channel,
    problem: SecretProblem,
) -> Result<Duration, ReconcileError> {
    let message = problem.message.clone();
    let why = Blocked { reason: Reason::CredentialsNotReady, message };
    report_blocked(ctx, &channel.identity, &channel.status, &why, Some(&problem)).await?;
    Ok(BLOCKED)
}

/// What can be said of an object that is no channel, and why it is none. An object that cannot be
/// decoded comes without its status.
type Unreadable = (Identity, Option<WhatsAppChannelStatus>, Blocked);

/// The object is no channel: its conditions say so, and the rest of its status stays as it is.
async fn refuse(
    ctx: &Ctx,
    identity: Identity,
    status: Option<WhatsAppChannelStatus>,
    why: &Blocked,
) -> Result<Duration, ReconcileError> {
    let known = match status {
        Some(status) => Some((identity, status)),
        None => standing(ctx, &identity)
            .await
            .map_err(ReportError::from)?
            .filter(|(live, _)| live.uid == identity.uid),
    };
    if let Some((identity, status)) = known {
        report_blocked(ctx, &identity, &status, why, None).await?;
    }
    Ok(REREAD)
}

/// An object of the watch as a channel, or as something to report on.
fn read(object: &Guarded) -> Result<Channel, Box<Unreadable>> {
    let blocked = |message: String| Blocked { reason: Reason::InvalidSpec, message };
    match &object.0 {
        Ok(readable) => validate(readable).map_err(|invalid| {
            let status = readable.status.clone().unwrap_or_default();
            Box::new((Identity::of(&readable.metadata), Some(status), blocked(invalid.to_string())))
        }),
        Err(invalid) => {
            let identity = Identity::of(&invalid.metadata);
            Err(Box::new((identity, None, blocked(invalid.error.clone()))))
        }
    }
}

/// Logs and counts the transitions that the write has put in force.
fn announce(ctx: &Ctx, channel: &Channel, seen: &Survey, now: &State) {
    let before = match &seen.held {
        Some(_) => seen.state.transition,
        None => channel.status.transition,
    };
    let new = now.history.iter().rev().filter(|one| one.number > before);
    let new: Vec<_> = new.map(entry).collect();
    events::decided(&ctx.metrics, &channel.identity, &new);
}

/// The word and the text of RolledOut. What is completed says how it came to be.
fn word(decision: &Decision, state: &State) -> (Reason, String) {
    let message = decision.why.to_string();
    let reason = decision.why.reason();
    let fulfilled = (ConditionType::RolledOut, ConditionStatus::True);
    let last = state.history.first().and_then(|last| Reason::parse(&last.reason));
    let how = last.filter(|last| last.conditions().contains(&fulfilled));
    match how.filter(|_| reason == Reason::Completed) {
        Some(how) => (how, message),
        None => (reason, message),
    }
}

fn pause(seen: &Survey, decision: &Decision, withheld: bool) -> Duration {
    if withheld {
        return BLOCKED;
    }
    if decision.next != seen.state || seen.held.is_none() {
        return decision.requeue;
    }
    // The poller reconciles a rollout with each answer; this is for its deadline.
    let polled = decision.next.rolling().is_some();
    if polled { POLLED.max(decision.requeue) } else { decision.requeue.min(REREAD) }
}

fn on_error(object: Arc<Guarded>, error: &ReconcileError, ctx: Arc<Ctx>) -> Action {
    let failures = ctx.notes.update(&uid(&object), |note| {
        note.failures = note.failures.saturating_add(1);
        note.failures
    });
    let class = match error {
        ReconcileError::Observe(_) => "observe",
        ReconcileError::Build(_) => "build",
        ReconcileError::Apply(_) => "apply",
        ReconcileError::Report(_) => "report",
        ReconcileError::Timeout => "timeout",
    };
    ctx.metrics.reconcile_failures.inc([class]);
    let pause = Duration::from_secs(1 << failures.min(6)).min(MAX_BACKOFF);
    tracing::warn!(
        namespace = object.namespace(),
        channel = object.name_any(),
        error = %chain(error),
        "the reconcile failed; it is tried again in {} s", pause.as_secs()
    );
    Action::requeue(pause)
}

fn uid(object: &Guarded) -> String {
    object.uid().unwrap_or_default()
}

fn users(ctx: &Ctx, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<Guarded>> {
    let namespace = secret.metadata.namespace.clone().unwrap_or_default();
    let name = secret.metadata.name.clone().unwrap_or_default();
    let channels = ctx.secrets.changed(&namespace, &name);
    channels.iter().map(|key| ObjectRef::new(&key.name).within(&key.namespace)).collect()
}

/// All namespaces, or one; never the routes namespace.
fn watch_config(ctx: &Ctx, scope: Option<&str>) -> watcher::Config {
    match scope {
        Some(_) => watcher::Config::default(),
        None => watcher::Config::default()
            .fields(&format!("metadata.namespace!={}", ctx.config.routes_namespace)),
    }
}

fn api<K>(ctx: &Ctx, scope: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    match scope {
        Some(namespace) => Api::namespaced(ctx.client.clone(), namespace),
        None => Api::all(ctx.client.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &str) -> Guarded {
        let text = format!(
            "{{apiVersion: kanarie.dev/v1alpha1, kind: WhatsAppChannel, \
              metadata: {{name: care, namespace: shop, uid: u, generation: 3}}, spec: {spec}}}"
        );
        serde_saphyr::from_str(&text).unwrap()
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_reported_and_stops_nobody() {
        let (identity, status, why) = *read(&object("{sender: 7}")).unwrap_err();
        assert!(status.is_none(), "its status is not known, and must not be taken for empty");
        assert_eq!((identity.uid.as_str(), identity.generation), ("u", 3));
        assert_eq!(why.reason, Reason::InvalidSpec);
    }

    #[test]
    fn a_spec_that_breaks_a_rule_is_reported_in_the_words_of_the_rule() {
        let spec = "{twilio: {accountSid: AC1, authTokenSecretRef: {name: t}}, \
                     sender: {address: 'whatsapp:+31201234567'}, \
                     webhook: {url: 'https://a.example.com/'}, \
                     agent: {http: {url: 'https://b.example.com/'}}}";
        let (_, _, why) = *read(&object(spec)).unwrap_err();
        assert_eq!(why.reason, Reason::InvalidSpec);
        assert!(why.message.contains("accountSid"), "{}", why.message);
    }
}

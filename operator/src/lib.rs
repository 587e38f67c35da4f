//! The operator: `WhatsAppChannel` → route, one file a hop.
//!
//! 1. `watch/` receives what changed, and has the channel reconciled; `reconcile` is the line.
//! 2. `validate` reads the object: what it asks for, or what is wrong with that.
//! 3. `read` asks the cluster for the route, the revisions and the Secrets.
//! 4. `observe` says where the rollout is.
//! 5. `decide` decides, by `rollout`, without I/O.
//! 6. `build` makes the route's bytes.
//! 7. `apply` writes them under the version that was read: this write is the decision.
//! 8. `report` derives status and Events from what the write returned.
//!
//! `cluster/` knows the objects, `gateways/` what the gateways say, `twilio/` what Twilio says of credentials,
//! `process/` is around it all.
//!
//! The operator writes route Secrets, ControllerRevisions, status, Events, its Lease and the
//! control token. It never writes a spec, and never anything else in a watched namespace.

pub mod cluster;
pub mod gateways;
pub mod process;
pub mod reconcile;
pub mod twilio;
pub mod watch;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kanarie_process::listen;
use kanarie_process::tasks::{Ended, Tasks};
use kube::Client;
use thiserror::Error;
use tokio::sync::watch::{Receiver, channel};
use tokio::time::{Instant, timeout};

use crate::cluster::secrets::SecretReader;
use crate::gateways::board::Board;
use crate::gateways::control::Control;
use crate::process::admin::{ProcessStage, Progress};
use crate::process::clock::ReconcileClock;
use crate::process::config::Config;
use crate::process::context::Ctx;
use crate::process::lease::{Candidate, LeadershipLost};
use crate::process::metrics::Metrics;
use crate::process::startup::{StartupError, check_crd};
use crate::reconcile::notes::Notes;
use crate::twilio::api::TwilioApi;
use crate::twilio::checks::CredentialChecks;
use crate::watch::channels::Channels;
use crate::watch::claims::Claims;
use crate::watch::routes::SeenRoutes;

/// Longest time until it is told that a watch tells nothing.
const READINESS: Duration = Duration::from_secs(10);

/// Why the operator ended by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// The admin server cannot listen.
    #[error("--admin-listen cannot be used")]
    Listen(#[source] std::io::Error),
    /// The CRD does not fit.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// The HTTP client cannot be made.
    #[error("the client for --gateway-url or --twilio-api-url cannot be made")]
    Http(#[source] reqwest::Error),
    /// No randomness.
    #[error("the system gives no randomness for the name of this process")]
    Random(getrandom::Error),
    /// Another replica leads now.
    #[error(transparent)]
    LeadershipLost(#[from] LeadershipLost),
    /// One of its tasks is over.
    #[error(transparent)]
    Task(#[from] Ended),
}

/// Runs until `shutdown`, with the rights of `client`; its default namespace holds the Lease.
pub async fn run(
    config: Config,
    client: Client,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    run_by(Arc::new(process::clock::now), config, client, shutdown).await
}

/// The same with another clock for its reconciles.
pub async fn run_by(
    clock: ReconcileClock,
    config: Config,
    client: Client,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let listener = listen::bind(config.admin_listen, |instead| {
        tracing::warn!(%instead, "there is no IPv6 here: listening on IPv4 only");
    })
    .map_err(RunError::Listen)?;
    let metrics = Arc::new(Metrics::default());
    let progress = Arc::new(Progress::default());
    let (stop, mut stopping) = channel(false);
    // Dropping them ends them, whichever way this function is left.
    let mut tasks = Tasks::default();
    tasks.spawn("admin server", process::admin::serve(listener, progress.clone(), metrics.clone()));
    let told = stop.clone();
    tasks.spawn("shutdown", async move {
        shutdown.await;
        told.send_replace(true);
    });
    let mut led = pin!(lead(clock, config, client, metrics, progress, stopping.clone()));
    tokio::select! {
        ended = tasks.until(&mut stopping) => ended?,
        ended = &mut led => return ended,
    }
    led.await
}

/// Works until it is told to stop, as soon as no other replica does.
async fn lead(
    clock: ReconcileClock,
    config: Config,
    client: Client,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
    mut stopping: Receiver<bool>,
) -> Result<(), RunError> {
    let instance = instance()?;
    check_crd(&client).await?;
    if !config.leader_elect {
        return work(clock, config, client, instance, metrics, progress, stopping).await;
    }
    let mut candidate = Candidate::new(&client, client.default_namespace(), instance.clone());
    progress.reach(ProcessStage::Standby);
    tokio::select! {
        () = candidate.acquire() => {}
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
    }
    tracing::info!(instance, "this replica leads");
    metrics.leader.set(1);
    let ended = tokio::select! {
        ended = work(clock, config, client, instance, metrics, progress, stopping) => ended,
        lost = candidate.keep() => return Err(lost.into()),
    };
    candidate.release().await;
    ended
}

/// Reconciles until it is told to stop, and lets running reconciles end.
async fn work(
    clock: ReconcileClock,
    config: Config,
    client: Client,
    instance: String,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
    mut stopping: Receiver<bool>,
) -> Result<(), RunError> {
    progress.reach(ProcessStage::Loading);
    let control = Control::new(&client, &config.routes_namespace, &config.gateway_url)
        .map_err(RunError::Http)?;
    if let Err(error) = control.token().await {
        // The poller tries again; channels are served meanwhile, without evidence.
        tracing::warn!(error = %process::chain::chain(&error), "there is no control token yet");
    }
    let twilio = TwilioApi::new(config.twilio_api_url.clone()).map_err(RunError::Http)?;
    let (channels, writers) = Channels::new(&config.watch_namespaces, &config.routes_namespace);
    let channels = Arc::new(channels);
    let ctx = Arc::new(Ctx {
        secrets: SecretReader::new(client.clone()),
        client,
        config,
        board: Arc::new(Board::default()),
        metrics: metrics.clone(),
        channels: channels.clone(),
        routes: SeenRoutes::default(),
        claims: Claims::default(),
        checks: CredentialChecks::default(),
        notes: Notes::default(),
        instance,
        clock,
    });
    let mut tasks = Tasks::default();
    let board = ctx.board.clone();
    tasks.spawn("reader", gateways::reader::run(board, control, channels.clone(), metrics));
    tasks.spawn("credential checker", twilio::checker::run(ctx.clone(), twilio));
    tasks.spawn("orphans", watch::orphans::run(ctx.clone()));
    tasks.spawn("readiness", tell_readiness(ctx.clone(), progress));
    let mut controllers = Tasks::default();
    let mut told = stopping.clone();
    controllers.spawn("controllers", watch::controller::run(ctx, writers, stopping.clone()));
    tokio::select! {
        ended = controllers.until(&mut told) => ended?,
        ended = tasks.until(&mut stopping) => ended?,
    }
    Ok(controllers.finish().await?)
}

/// Tells for ever which namespaces are seen.
async fn tell_readiness(ctx: Arc<Ctx>, progress: Arc<Progress>) {
    let channels = &ctx.channels;
    let mut listed = channels.listed();
    channels.seen().await;
    loop {
        listed.mark_unchanged();
        let now = Instant::now();
        let unseen = channels.unseen(now);
        if unseen.len() < channels.scopes().len() {
            progress.reach(ProcessStage::Working);
        }
        let unseen: Vec<String> = unseen.into_iter().chain(ctx.routes.health.dark(now)).collect();
        ctx.metrics.namespaces_unseen.set(u64::try_from(unseen.len()).unwrap_or(u64::MAX));
        progress.miss(unseen);
        // The sender lives as long as the channels. A watch may break at any time.
        let _ = timeout(READINESS, listed.changed()).await;
    }
}

/// A name that no other process has: the pod's, and a few random digits.
fn instance() -> Result<String, RunError> {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "kanarie-operator".to_owned());
    let mut bytes = [0u8; 4];
    getrandom::fill(&mut bytes).map_err(RunError::Random)?;
    Ok(format!("{host}-{:08x}", u32::from_be_bytes(bytes)))
}

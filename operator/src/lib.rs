//! The operator: `WhatsAppChannel` → route, one file a hop.
//!
//! 1. `controller` receives a watch event and drives one reconcile, at most 30 seconds long.
//! 2. `validate` makes a `Channel` out of the object, or says what is wrong with it.
//! 3. `observe` reads the route, the Secrets, the revisions and the evidence.
//! 4. `rollout::decide` decides, without I/O.
//! 5. `build` makes the route's object.
//! 6. `apply` writes it under its resourceVersion: this write is the decision.
//! 7. `report` derives status and Events from what the write returned.
//!
//! The operator writes route Secrets, ControllerRevisions, status, Events, its Lease and the
//! control token. It never writes a spec, and never anything else in a watched namespace.

pub mod admin;
pub mod apply;
pub mod blocked;
pub mod build;
pub mod claim;
pub mod clock;
pub mod config;
pub mod context;
pub mod control;
pub mod controller;
pub mod credentials;
pub mod error;
pub mod events;
pub mod evidence;
pub mod lease;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod orphans;
pub mod reader;
pub mod report;
pub mod revisions;
pub mod secrets;
pub mod startup;
pub mod status;
pub mod triggers;
pub mod validate;

use std::sync::Arc;

use kube::Client;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{ProcessStage, Progress};
use crate::clock::ReconcileClock;
use crate::config::Config;
use crate::context::{Channels, Ctx, Notes};
use crate::control::Control;
use crate::evidence::Board;
use crate::lease::{Candidate, LeadershipLost};
use crate::metrics::Metrics;
use crate::secrets::SecretReader;
use crate::startup::{StartupError, check_crd};
use crate::triggers::Triggers;

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
    #[error("the client for --gateway-url cannot be made")]
    Http(#[source] reqwest::Error),
    /// No randomness.
    #[error("the system gives no randomness for the name of this process")]
    Random(getrandom::Error),
    /// Another replica leads now.
    #[error(transparent)]
    LeadershipLost(#[from] LeadershipLost),
}

/// Runs until `shutdown`, with the rights of `client`; its default namespace holds the Lease.
pub async fn run(
    config: Config,
    client: Client,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    run_by(Arc::new(clock::now), config, client, shutdown).await
}

/// The same with another clock for its reconciles.
pub async fn run_by(
    clock: ReconcileClock,
    config: Config,
    client: Client,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let listener = listen::bind(config.admin_listen).await.map_err(RunError::Listen)?;
    let metrics = Arc::new(Metrics::default());
    let progress = Arc::new(Progress::default());
    // Dropping the set ends its tasks, whichever way this function is left.
    let mut tasks = JoinSet::new();
    tasks.spawn(admin::serve(listener, progress.clone(), metrics.clone()));
    let instance = instance()?;
    let shutdown = Box::pin(shutdown);
    check_crd(&client).await?;
    if !config.leader_elect {
        return work(clock, config, client, instance, metrics, progress, shutdown).await;
    }
    let mut candidate = Candidate::new(&client, client.default_namespace(), instance.clone());
    progress.reach(ProcessStage::Standby);
    let mut shutdown = shutdown;
    tokio::select! {
        () = candidate.acquire() => {}
        () = &mut shutdown => return Ok(()),
    }
    tracing::info!(instance, "this replica leads");
    metrics.leader.set(1);
    let ended = tokio::select! {
        ended = work(clock, config, client, instance, metrics, progress, shutdown) => ended,
        lost = candidate.keep() => return Err(lost.into()),
    };
    candidate.release().await;
    ended
}

/// Reconciles until `shutdown`, and lets running reconciles end.
async fn work(
    clock: ReconcileClock,
    config: Config,
    client: Client,
    instance: String,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    progress.reach(ProcessStage::Loading);
    let control = Control::new(&client, &config.routes_namespace, &config.gateway_url)
        .map_err(RunError::Http)?;
    if let Err(error) = control.token().await {
        // The poller tries again; channels are served meanwhile, without evidence.
        tracing::warn!(error = %error::chain(&error), "there is no control token yet");
    }
    let (triggers, queues) = Triggers::new(&config.watch_namespaces);
    let ctx = Arc::new(Ctx {
        secrets: SecretReader::new(client.clone()),
        client,
        config,
        evidence: Arc::new(Board::default()),
        metrics: metrics.clone(),
        channels: Channels::default(),
        notes: Notes::default(),
        instance,
        clock,
    });
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(reader::run(ctx.evidence.clone(), control, triggers.clone(), metrics));
    tasks.spawn(orphans::run(ctx.clone(), triggers));
    let watched = ctx.clone();
    tasks.spawn(async move {
        watched.channels.ready().await;
        progress.reach(ProcessStage::Working);
    });
    tasks.spawn(async move {
        shutdown.await;
        // Nobody listens any more when the controllers have ended by themselves.
        let _ = stop.send(true);
    });
    controller::run(ctx, queues, stopping).await;
    Ok(())
}

/// A name that no other process has: the pod's, and a few random digits.
fn instance() -> Result<String, RunError> {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "kanarie-operator".to_owned());
    let mut bytes = [0u8; 4];
    getrandom::fill(&mut bytes).map_err(RunError::Random)?;
    Ok(format!("{host}-{:08x}", u32::from_be_bytes(bytes)))
}

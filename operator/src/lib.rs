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
//! `cluster/` knows the objects, `gateways/` what the gateways say, `process/` is around it all.
//!
//! The operator writes route Secrets, ControllerRevisions, status, Events, its Lease and the
//! control token. It never writes a spec, and never anything else in a watched namespace.

pub mod cluster;
pub mod gateways;
pub mod process;
pub mod reconcile;
pub mod watch;

use std::sync::Arc;

use kube::Client;
use thiserror::Error;
use tokio::sync::watch::channel;
use tokio::task::JoinSet;

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
use crate::watch::channels::Channels;
use crate::watch::triggers::Triggers;

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
    run_by(Arc::new(process::clock::now), config, client, shutdown).await
}

/// The same with another clock for its reconciles.
pub async fn run_by(
    clock: ReconcileClock,
    config: Config,
    client: Client,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let listener = process::listen::bind(config.admin_listen).await.map_err(RunError::Listen)?;
    let metrics = Arc::new(Metrics::default());
    let progress = Arc::new(Progress::default());
    // Dropping the set ends its tasks, whichever way this function is left.
    let mut tasks = JoinSet::new();
    tasks.spawn(process::admin::serve(listener, progress.clone(), metrics.clone()));
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
        tracing::warn!(error = %process::chain::chain(&error), "there is no control token yet");
    }
    let (triggers, queues) = Triggers::new(&config.watch_namespaces);
    let ctx = Arc::new(Ctx {
        secrets: SecretReader::new(client.clone()),
        client,
        config,
        board: Arc::new(Board::default()),
        metrics: metrics.clone(),
        channels: Channels::default(),
        notes: Notes::default(),
        instance,
        clock,
    });
    let (stop, stopping) = channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(gateways::reader::run(ctx.board.clone(), control, triggers.clone(), metrics));
    tasks.spawn(watch::orphans::run(ctx.clone(), triggers));
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
    watch::controller::run(ctx, queues, stopping).await;
    Ok(())
}

/// A name that no other process has: the pod's, and a few random digits.
fn instance() -> Result<String, RunError> {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "kanarie-operator".to_owned());
    let mut bytes = [0u8; 4];
    getrandom::fill(&mut bytes).map_err(RunError::Random)?;
    Ok(format!("{host}-{:08x}", u32::from_be_bytes(bytes)))
}

//! The commands for the first day, and the one thing they share: the routes of the configuration.
//!
//! Takes flags and environment as the gateway itself does, gives the routes it would obey. Never
//! admits, asks or sends by itself, and never prints a secret.

pub mod check_signature;
pub mod send_test;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kanarie_crds::route::Route;
use tokio::sync::watch;

use crate::config::{Flags, Source, source_only};
use crate::routes::{Entry, RouteTable};

/// Longest wait for the first complete list of routes.
const LOAD: Duration = Duration::from_secs(10);

/// Every route of the configured source.
async fn routes(
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<Arc<Entry>>> {
    let source = source_only(flags, lookup)?;
    let client = match &source {
        Source::Namespace(_) => {
            Some(kube::Client::try_default().await.context("cannot reach Kubernetes")?)
        }
        Source::Directory(_) | Source::Environment(_) => None,
    };
    let table = Arc::new(RouteTable::default());
    let mut changes = table.changes();
    let (_stop, shutdown) = watch::channel(false);
    let following = crate::follow(source, client, Arc::clone(&table), shutdown);
    let loaded = async { while !table.ready() && changes.changed().await.is_ok() {} };
    tokio::select! {
        () = following => {}
        loaded = tokio::time::timeout(LOAD, loaded) => {
            loaded.context("the routes could not be read within ten seconds")?;
        }
    }
    let routes = table.all();
    if routes.is_empty() {
        bail!("there is no channel");
    }
    Ok(routes)
}

/// `namespace/name` of a route's channel.
fn name(route: &Route) -> String {
    format!("{}/{}", route.channel.namespace, route.channel.name)
}

//! The routes that the configured gateway would obey.
//!
//! Takes flags and environment as the gateway itself does, gives every route of the one source.
//! Never waits longer than ten seconds for the first complete list.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kanarie_crds::route::Route;
use tokio::sync::watch;

use crate::config::{Flags, source_only};
use crate::routes::follow;
use crate::routes::table::{Entry, RouteTable};

/// Longest wait for the first complete list of routes.
const LOAD: Duration = Duration::from_secs(10);

/// Every route of the configured source.
pub(super) async fn routes(
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<Arc<Entry>>> {
    let source = source_only(flags, lookup)?;
    let client = source.client().await.context("cannot reach Kubernetes")?;
    let table = Arc::new(RouteTable::default());
    let mut changes = table.changes();
    let (_stop, shutdown) = watch::channel(false);
    let following = follow(source, client, Arc::clone(&table), shutdown);
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
pub(super) fn name(route: &Route) -> String {
    route.channel.to_string()
}

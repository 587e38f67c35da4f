//! Where the routes that this replica obeys come from: one source, which keeps the table right.
//!
//! Takes flags and variables, gives the one source they name or every problem with it; then follows
//! that source into the table until it is told to stop. Never takes two sources, and never reads a
//! route for a request: that is the table's.

pub mod directory;
pub mod environment;
pub mod kubernetes;
pub mod manifest;
pub mod table;

use std::path::Path;
use std::sync::Arc;

use kanarie_crds::route::Route;
use kanarie_process::cluster::connect;
use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::routes::directory::Loaded;
use crate::routes::table::RouteTable;
use crate::stop::stopped;

/// Where routes come from: exactly one.
#[derive(Debug)]
pub enum Source {
    /// The Secrets of a namespace, written by the operator.
    Namespace(String),
    /// The manifests of a directory.
    Directory(Loaded),
    /// The environment, for a single channel.
    Environment(Box<Route>),
}

impl Source {
    /// The one source that is named; the manifests of a directory are read, so that a wrong one is
    /// told before anything starts.
    ///
    /// # Errors
    /// Every problem: no source, two of them, or what is wrong with the one.
    pub fn choose(
        namespace: Option<&str>,
        channels: Option<&Path>,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Vec<String>> {
        let variables: Vec<&str> = environment::VARIABLES
            .into_iter()
            .filter(|name| lookup(name).is_some_and(|value| !value.is_empty()))
            .collect();
        match (namespace, channels, variables.as_slice()) {
            (Some(namespace), None, []) => Ok(Self::Namespace(namespace.to_owned())),
            (None, Some(channels), []) => directory::load(channels)
                .map(Self::Directory)
                .map_err(|error| vec![with_causes(&error)]),
            (None, None, [_, ..]) => {
                environment::route(lookup).map(|route| Self::Environment(Box::new(route)))
            }
            (None, None, []) => Err(vec![
                "there is no source of channels: set --routes-namespace \
                 (KANARIE_ROUTES_NAMESPACE), --channels (KANARIE_CHANNELS) or the variables of one \
                 channel (TWILIO_ACCOUNT_SID, …)"
                    .to_owned(),
            ]),
            _ => Err(vec![two_sources(namespace.is_some(), channels.is_some(), &variables)]),
        }
    }

    /// The client that this source needs, if it needs one.
    ///
    /// # Errors
    /// When no cluster is configured.
    pub async fn client(&self) -> Result<Option<Client>, kube::Error> {
        match self {
            Self::Namespace(_) => connect().await.map(Some),
            Self::Directory(_) | Self::Environment(_) => Ok(None),
        }
    }
}

/// Keeps the table right until told to stop.
pub async fn follow(
    source: Source,
    client: Option<Client>,
    table: Arc<RouteTable>,
    mut shutdown: watch::Receiver<bool>,
) {
    match (source, client) {
        (Source::Namespace(namespace), Some(client)) => {
            kubernetes::follow(client, &namespace, table, shutdown).await;
        }
        (Source::Namespace(_), None) => {}
        (Source::Directory(loaded), _) => directory::follow(loaded, table, shutdown).await,
        (Source::Environment(route), _) => {
            table.replace(vec![directory::seen(&route)], Instant::now());
            stopped(&mut shutdown).await;
        }
    }
}

fn two_sources(namespace: bool, channels: bool, variables: &[&str]) -> String {
    let flags = [
        namespace.then_some("--routes-namespace (KANARIE_ROUTES_NAMESPACE)"),
        channels.then_some("--channels (KANARIE_CHANNELS)"),
    ];
    let set: Vec<&str> = flags.into_iter().flatten().chain(variables.iter().copied()).collect();
    format!("channels come from one source only, and these are set: {}", set.join(", "))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_causes(cause)),
        None => error.to_string(),
    }
}

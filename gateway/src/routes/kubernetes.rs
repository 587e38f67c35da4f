//! Routes from the Secrets of one namespace, as the operator writes them.
//!
//! Takes a client and the namespace, gives the table every route and the control token, and keeps
//! doing so. Needs `list` and `watch` of Secrets in that namespace and nothing else. A Secret that
//! cannot be read leaves the last good route of its name in force. Never writes.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::route::{
    COMPONENT_LABEL, COMPONENT_ROUTE, CONTROL_SECRET, CONTROL_TOKEN_KEY, ROUTE_KEY, Route,
    SecretText, route_hash, route_name,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::routes::{RouteTable, Seen};

/// Changes that are taken into the table at once.
const BATCH: usize = 256;
/// Time between two looks for routes that are gone long enough.
const FORGET_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Follows the Secrets of `namespace` until `shutdown` says true.
pub async fn follow(
    client: Client,
    namespace: &str,
    table: Arc<RouteTable>,
    mut shutdown: watch::Receiver<bool>,
) {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    // The namespace holds routes and the control token only, so one watch sees everything that
    // belongs together and the first list is complete by itself.
    let mut events =
        watcher(secrets, watcher::Config::default()).default_backoff().ready_chunks(BATCH).boxed();
    let mut listing = Listing::default();
    let mut forget = tokio::time::interval(FORGET_EVERY);
    while !*shutdown.borrow() {
        tokio::select! {
            batch = events.next() => match batch {
                Some(batch) => listing.take(batch, &table, Instant::now()),
                None => return,
            },
            _ = forget.tick() => table.forget_gone(Instant::now()),
            _ = shutdown.changed() => {}
        }
    }
}

/// The list that is being received.
#[derive(Default)]
struct Listing {
    routes: Vec<(String, Seen)>,
    token: Option<SecretText>,
}

impl Listing {
    fn take(
        &mut self,
        batch: Vec<watcher::Result<watcher::Event<Secret>>>,
        table: &RouteTable,
        now: Instant,
    ) {
        let mut changes = Vec::new();
        for event in batch {
            match event {
                Ok(watcher::Event::Init) => *self = Self::default(),
                Ok(watcher::Event::InitApply(secret)) if is_control(&secret) => {
                    self.token = control_token(&secret);
                }
                Ok(watcher::Event::InitApply(secret)) => self.routes.push(seen(&secret)),
                Ok(watcher::Event::InitDone) => {
                    // The list is newer than every change before it.
                    changes.clear();
                    let listing = std::mem::take(self);
                    table.set_control_token(listing.token);
                    table.replace(listing.routes, now);
                }
                Ok(watcher::Event::Apply(secret)) if is_control(&secret) => {
                    table.set_control_token(control_token(&secret));
                }
                Ok(watcher::Event::Delete(secret)) if is_control(&secret) => {
                    table.set_control_token(None);
                }
                Ok(watcher::Event::Apply(secret)) => changes.push(seen(&secret)),
                Ok(watcher::Event::Delete(secret)) => {
                    changes.push((secret.name_any(), Seen::Gone));
                }
                Err(error) => tracing::warn!(%error, "the routes cannot be watched at present"),
            }
        }
        table.update(changes, now);
    }
}

fn is_control(secret: &Secret) -> bool {
    secret.name_any() == CONTROL_SECRET
}

fn control_token(secret: &Secret) -> Option<SecretText> {
    let bytes = &secret.data.as_ref()?.get(CONTROL_TOKEN_KEY)?.0;
    let token = std::str::from_utf8(bytes).ok()?.trim();
    (!token.is_empty()).then(|| SecretText::new(token))
}

/// What a Secret says under its name.
fn seen(secret: &Secret) -> (String, Seen) {
    let name = secret.name_any();
    if secret.labels().get(COMPONENT_LABEL).map(String::as_str) != Some(COMPONENT_ROUTE) {
        return (name, Seen::Gone);
    }
    match decode(secret, &name) {
        Ok((route, hash)) => (name, Seen::Route(Box::new(route), hash)),
        Err(error) => {
            tracing::warn!(secret = name, %error, "a route cannot be read, the last good one stays");
            (name, Seen::Unreadable)
        }
    }
}

/// Why a Secret is no route. Shows where, never what: the bytes are secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum DecodeError {
    #[error("the Secret has no key `route`; the operator writes it again at its next reconcile")]
    NoRoute,
    #[error(
        "the key `route` is not a route that this version reads (line {line}, column {column}); \
         update the gateway before the operator"
    )]
    NotARoute { line: usize, column: usize },
    #[error("the Secret is not named after its account and sender; delete it")]
    WrongName,
}

fn decode(secret: &Secret, name: &str) -> Result<(Route, String), DecodeError> {
    let bytes =
        secret.data.as_ref().and_then(|data| data.get(ROUTE_KEY)).ok_or(DecodeError::NoRoute)?;
    let route: Route = serde_json::from_slice(&bytes.0)
        .map_err(|error| DecodeError::NotARoute { line: error.line(), column: error.column() })?;
    if route_name(&route.account_sid, &route.sender) != name {
        return Err(DecodeError::WrongName);
    }
    let hash = route_hash(&bytes.0);
    Ok((route, hash))
}

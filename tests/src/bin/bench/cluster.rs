//! As much of an API server as a gateway needs: it lists the routes of some channels, and nothing
//! ever changes in it.
//!
//! Takes the accounts and their agent; gives a kubeconfig. So a gateway has its routes as in a
//! cluster, with the operator's memory beside them, and reads no directory again each second.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kanarie_crds::route::{
    CHANNEL_UID_LABEL, COMPONENT_LABEL, COMPONENT_ROUTE, ROUTE_KEY, STATE_KEY, route_name,
};
use kanarie_fakes::customer::Account;
use kanarie_fakes::process;
use kanarie_fakes::samples;
use kanarie_fakes::server::{Server, loopback};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The namespace that holds the routes.
pub(crate) const NAMESPACE: &str = "kanarie-routes";

/// About what the operator remembers of a channel after a few rollouts; gateways drop it.
const MEMORY_BYTES: usize = 1_500;

/// The server.
pub(crate) struct Cluster {
    server: Server,
    folder: TempDir,
}

impl Cluster {
    /// One that has a channel for each account.
    pub(crate) async fn start(accounts: &[Account], agent: &str) -> Result<Self> {
        let secrets = accounts.iter().map(|account| secret(account, agent));
        let secrets: Arc<Vec<Value>> = Arc::new(secrets.collect::<Result<_>>()?);
        let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
        let router = Router::new().route(&path, get(list)).with_state(secrets);
        let server = Server::start(loopback(), router).await?;
        let cluster = Self { server, folder: process::folder("cluster")? };
        fs::write(cluster.kubeconfig(), cluster.config().to_string())?;
        Ok(cluster)
    }

    /// The file that leads to it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn config(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {
                "server": format!("http://{}", self.server.address()),
            }}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        })
    }
}

/// A page of the list, or a watch that sees nothing.
async fn list(
    State(secrets): State<Arc<Vec<Value>>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if query.contains_key("watch") {
        let nothing = futures::stream::pending::<std::io::Result<Bytes>>();
        return Body::from_stream(nothing).into_response();
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let from = number("continue").unwrap_or_default().min(secrets.len());
    let to = number("limit").map_or(secrets.len(), |limit| (from + limit).min(secrets.len()));
    let rest = if to < secrets.len() { to.to_string() } else { String::new() };
    Json(json!({
        "apiVersion": "v1", "kind": "SecretList",
        "metadata": {"resourceVersion": "1", "continue": rest},
        "items": secrets[from..to],
    }))
    .into_response()
}

fn secret(account: &Account, agent: &str) -> Result<Value> {
    let uid = uid(account);
    let mut route = samples::route(account);
    route["channel"] = json!({"namespace": "bench", "name": "shop", "uid": uid});
    route["stable"] = samples::revision("shop-5f7d8c9b6d", json!({"http": {"url": agent}}));
    route["stable"]["timeoutMs"] = 120_000.into();
    route["limits"]["inboundMessages"] = 1_000.into();
    route["limits"]["outboundPerSecond"] = 1_000.into();
    let memory = json!({"schema": 1, "filler": "x".repeat(MEMORY_BYTES)});
    let name = route_name(&account.sid.parse()?, &account.sender.parse()?);
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": name, "namespace": NAMESPACE, "uid": uid, "resourceVersion": "1",
            "labels": {COMPONENT_LABEL: COMPONENT_ROUTE, CHANNEL_UID_LABEL: uid},
        },
        "data": {
            ROUTE_KEY: STANDARD.encode(route.to_string()),
            STATE_KEY: STANDARD.encode(memory.to_string()),
        },
    }))
}

/// As long as a real one, and no other account's.
fn uid(account: &Account) -> String {
    format!("00000000-0000-4000-8000-{}", &account.sid[account.sid.len() - 12..])
}

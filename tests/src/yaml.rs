//! Manifests, as people write them, sent to a real API server.
//!
//! Takes text with one or more YAML documents; gives the objects that the server made of them.
//! Never talks to anything but the client that it is given.

use anyhow::{Context as _, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt as _};

/// Applies each document by server-side apply. `namespace` is for those that name none.
///
/// # Errors
/// A document is no Kubernetes object, or the server refuses it.
pub async fn apply(client: &Client, namespace: &str, text: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for object in parse(text)? {
        applied.push(apply_object(client, namespace, object, false).await?);
    }
    Ok(applied)
}

/// The same without effect: what the server would make of it.
///
/// # Errors
/// A document is no Kubernetes object, or the server refuses it.
pub async fn dry_run(client: &Client, namespace: &str, text: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for object in parse(text)? {
        applied.push(apply_object(client, namespace, object, true).await?);
    }
    Ok(applied)
}

/// The documents of a text; empty ones are left out.
///
/// # Errors
/// A document is no Kubernetes object.
pub fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let values: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).context("parse the YAML")?;
    values
        .into_iter()
        .filter(|value| !value.is_null())
        .map(|value| serde_json::from_value(value).context("an object with apiVersion and kind"))
        .collect()
}

async fn apply_object(
    client: &Client,
    namespace: &str,
    object: DynamicObject,
    dry_run: bool,
) -> Result<DynamicObject> {
    let types = object.types.clone().context("the object has no apiVersion and kind")?;
    let gvk = GroupVersionKind::try_from(types)?;
    let name = object.name_any();
    let (resource, capabilities) = discovery::pinned_kind(client, &gvk)
        .await
        .with_context(|| format!("the server knows no {}", gvk.kind))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
            Api::namespaced_with(client.clone(), &namespace, &resource)
        }
    };
    let params = PatchParams { dry_run, ..PatchParams::apply("kanarie-tests").force() };
    api.patch(&name, &params, &Patch::Apply(&object))
        .await
        .with_context(|| format!("apply {} {name}", gvk.kind))
}

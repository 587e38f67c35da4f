//! Start-up: is the CRD in the cluster at least as new as this operator?
//!
//! Takes a client; refuses a cluster whose CRD lacks a field that this operator writes or reads:
//! the API server would drop it without a word. Changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kanarie_crds::schema::definition;
use kube::{Api, Client};
use thiserror::Error;

use crate::process::chain::chain;

/// Name of the CRD.
pub const CRD_NAME: &str = "whatsappchannels.kanarie.dev";

/// Looks at the CRD before giving up, and the time between two.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// Why the operator does not start.
#[derive(Debug, Error)]
pub enum StartupError {
    /// There is no CRD.
    #[error("the CRD {CRD_NAME} is not installed; install the chart kanarie-crds")]
    Missing,
    /// It is older.
    #[error(
        "the CRD {CRD_NAME} is older than this operator and lacks {0}; upgrade the chart kanarie-crds"
    )]
    Older(String),
    /// It cannot be read.
    #[error("the CRD {CRD_NAME} cannot be read; allow the operator to get it")]
    Api(#[source] Box<kube::Error>),
}

/// Compares the CRD in the cluster with the one of this operator. An API server that does not
/// answer, or does not know our rights yet, is asked again for a while.
pub async fn check_crd(client: &Client) -> Result<(), StartupError> {
    for _ in 1..ATTEMPTS {
        match compare(client).await {
            Err(StartupError::Api(error)) => {
                tracing::warn!(error = %chain(&error), "the CRD cannot be read yet");
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
    compare(client).await
}

async fn compare(client: &Client) -> Result<(), StartupError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let live = api.get_opt(CRD_NAME).await.map_err(|error| StartupError::Api(Box::new(error)))?;
    let live = live.ok_or(StartupError::Missing)?;
    let missing: Vec<String> = fields(&definition()).difference(&fields(&live)).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(StartupError::Older(missing.join(", "))) }
}

/// Every field of every served version, by its path.
fn fields(definition: &CustomResourceDefinition) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for version in definition.spec.versions.iter().filter(|version| version.served) {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        if let Some(schema) = schema {
            collect(schema, &version.name, &mut paths);
        }
    }
    paths
}

fn collect(schema: &JSONSchemaProps, path: &str, paths: &mut BTreeSet<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        collect(property, &path, paths);
        paths.insert(path);
    }
    if let Some(k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        collect(item, &format!("{path}[]"), paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crd_of_this_version_has_every_field_of_itself_down_to_the_steps() {
        let fields = fields(&definition());
        assert!(fields.contains("v1alpha1.spec.rollout.steps[].holdSeconds"), "{fields:?}");
        assert!(fields.contains("v1alpha1.status.history[].transition"));
    }

    #[test]
    fn a_crd_without_a_field_is_older() {
        let mut older = definition();
        let schema = older.spec.versions[0].schema.as_mut().unwrap();
        let root = schema.open_api_v3_schema.as_mut().unwrap().properties.as_mut().unwrap();
        root.get_mut("spec").unwrap().properties.as_mut().unwrap().remove("reply");
        let (own, older) = (fields(&definition()), fields(&older));
        assert!(own.difference(&older).any(|path| path == "v1alpha1.spec.reply"));
    }
}

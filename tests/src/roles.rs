//! The service accounts and roles of the chart, for a world of its own.
//!
//! Takes them from the rendered bundle and moves them to the namespaces of the world. Never adds
//! a right that the chart does not give.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use kube::api::DynamicObject;
use serde_json::Value;

use crate::control_plane::ControlPlane;
use crate::yaml;

/// The namespaces of a world.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where operator and gateway would run.
    pub system: String,
    /// Where the routes are.
    pub routes: String,
    /// Where the channels are.
    pub channels: String,
}

impl Places {
    /// Makes the three namespaces of an installation as the bundle has it.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn standard(plane: &ControlPlane) -> Result<Self> {
        let places = Self {
            system: "kanarie-system".to_owned(),
            routes: "kanarie-system-routes".to_owned(),
            channels: "default".to_owned(),
        };
        let namespace =
            |name: &str| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        plane.apply_yaml("default", &namespace(&places.system)).await?;
        plane.apply_yaml("default", &namespace(&places.routes)).await?;
        Ok(places)
    }

    /// Makes the three namespaces, with names of their own.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn make(plane: &ControlPlane) -> Result<Self> {
        Ok(Self {
            system: plane.namespace("kanarie").await?,
            routes: plane.namespace("kanarie-routes").await?,
            channels: plane.namespace("shop").await?,
        })
    }
}

/// Applies the accounts and roles of the chart to these namespaces.
///
/// # Errors
/// The bundle is missing, or the API server refuses an object.
pub async fn apply(plane: &ControlPlane, places: &Places) -> Result<()> {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/install.yaml");
    let text = fs::read_to_string(&bundle)
        .with_context(|| format!("read {}: it is generated", bundle.display()))?;
    let objects = yaml::parse(&text)?.into_iter().filter(is_about_rights);
    let moved: Vec<Value> = objects
        .map(|object| Ok(moved(serde_json::to_value(object)?, places)))
        .collect::<Result<_>>()?;
    let text: Vec<String> = moved.iter().map(Value::to_string).collect();
    plane.apply_yaml(&places.system, &text.join("\n---\n")).await.map(drop)
}

fn is_about_rights(object: &DynamicObject) -> bool {
    let kinds = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    object.types.as_ref().is_some_and(|types| kinds.contains(&types.kind.as_str()))
}

/// The object in the world's namespaces; what is cluster-wide gets a name of its own.
fn moved(mut object: Value, places: &Places) -> Value {
    let to = |namespace: &Value| match namespace.as_str() {
        Some("kanarie-system") => Value::from(places.system.clone()),
        Some("kanarie-system-routes") => Value::from(places.routes.clone()),
        _ => namespace.clone(),
    };
    if object["metadata"].get("namespace").is_some() {
        object["metadata"]["namespace"] = to(&object["metadata"]["namespace"]);
    } else {
        let own = |name: &Value| format!("{}-{}", places.system, name.as_str().unwrap_or_default());
        object["metadata"]["name"] = own(&object["metadata"]["name"]).into();
        if object.get("roleRef").is_some() {
            object["roleRef"]["name"] = own(&object["roleRef"]["name"]).into();
        }
    }
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten() {
        subject["namespace"] = to(&subject["namespace"]);
    }
    object
}

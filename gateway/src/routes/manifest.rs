//! Kubernetes manifests as bytes become the two kinds of objects that a gateway reads: pure.
//!
//! Takes one file, YAML with any number of documents or JSON, gives its WhatsAppChannels and
//! Secrets; other kinds of other groups are skipped. A problem names document, object and field;
//! of a Secret it never shows a value.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kanarie_crds::GROUP;
use kanarie_crds::channel::WhatsAppChannel;
use serde_json::Value;

/// Namespace of a manifest that names none, as kubectl has it.
pub const DEFAULT_NAMESPACE: &str = "default";

/// An object that a gateway reads.
#[derive(Debug)]
pub enum Object {
    /// A channel.
    Channel(Box<WhatsAppChannel>),
    /// A Secret, its values decoded.
    Secret {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Key → value.
        data: BTreeMap<String, Vec<u8>>,
    },
}

/// Every object of one file, or every problem with it.
pub fn objects(content: &[u8]) -> Result<Vec<Object>, Vec<String>> {
    let documents: Vec<Value> = serde_saphyr::from_slice_multiple(content).map_err(|error| {
        // The error's own text may show the line, and with it a secret.
        vec![match error.location() {
            Some(at) => format!("line {}, column {} is not YAML", at.line(), at.column()),
            None => "the file is not YAML".to_owned(),
        }]
    })?;
    let mut objects = Vec::new();
    let mut problems = Vec::new();
    let items = documents.iter().flat_map(|document| match list_items(document) {
        Some(items) => items.iter().collect(),
        None => vec![document],
    });
    for (index, item) in items.enumerate().filter(|(_, item)| !item.is_null()) {
        match object(item) {
            Ok(found) => objects.extend(found),
            Err(problem) => problems.push(format!("object {}: {problem}", index + 1)),
        }
    }
    if problems.is_empty() { Ok(objects) } else { Err(problems) }
}

/// The items of a `v1` List, as `kubectl get -o yaml` prints it.
fn list_items(document: &Value) -> Option<&Vec<Value>> {
    (document["kind"] == "List").then(|| document["items"].as_array()).flatten()
}

fn object(item: &Value) -> Result<Option<Object>, String> {
    let (Some(version), Some(kind)) = (item["apiVersion"].as_str(), item["kind"].as_str()) else {
        return Err("`apiVersion` and `kind` must be set".to_owned());
    };
    match (version, kind) {
        ("kanarie.dev/v1alpha1", "WhatsAppChannel") => channel(item).map(Some),
        ("v1", "Secret") => secret(item).map(Some),
        _ if version.split('/').next() == Some(GROUP) => Err(format!(
            "{version} {kind} is not known; write kanarie.dev/v1alpha1 WhatsAppChannel"
        )),
        _ => Ok(None),
    }
}

fn channel(item: &Value) -> Result<Object, String> {
    let name = name(item)?;
    let channel: WhatsAppChannel = serde_json::from_value(item.clone())
        .map_err(|error| format!("WhatsAppChannel {name}: {error}"))?;
    let understood = serde_json::to_value(&channel.spec)
        .map_err(|error| format!("WhatsAppChannel {name}: {error}"))?;
    let mut unknown = Vec::new();
    collect_unknown("spec", &item["spec"], &understood, &mut unknown);
    if unknown.is_empty() {
        Ok(Object::Channel(Box::new(channel)))
    } else {
        Err(format!("WhatsAppChannel {name}: unknown field {}", unknown.join(", ")))
    }
}

/// Fields that were written and not understood: what decoding gives back lacks them. Fields that
/// are written as nothing are left out by both.
fn collect_unknown(path: &str, written: &Value, understood: &Value, unknown: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (field, value) in written {
                let path = format!("{path}.{field}");
                match understood.get(field) {
                    Some(other) => collect_unknown(&path, value, other, unknown),
                    None if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (value, other)) in written.iter().zip(understood).enumerate() {
                collect_unknown(&format!("{path}[{index}]"), value, other, unknown);
            }
        }
        _ => {}
    }
}

fn secret(item: &Value) -> Result<Object, String> {
    let name = name(item)?;
    let wrong =
        |key: &str, what: &str| format!("Secret {name}: the value of `{key}` must be {what}");
    let mut data = BTreeMap::new();
    for (key, value) in item["data"].as_object().into_iter().flatten() {
        let text: String = value
            .as_str()
            .ok_or_else(|| wrong(key, "text in base64"))?
            .split_ascii_whitespace()
            .collect();
        let bytes = STANDARD.decode(text).map_err(|_| wrong(key, "text in base64"))?;
        data.insert(key.clone(), bytes);
    }
    for (key, value) in item["stringData"].as_object().into_iter().flatten() {
        let text = value.as_str().ok_or_else(|| wrong(key, "text; put it into quotes"))?;
        data.insert(key.clone(), text.as_bytes().to_vec());
    }
    let namespace = item["metadata"]["namespace"].as_str().unwrap_or(DEFAULT_NAMESPACE).to_owned();
    Ok(Object::Secret { namespace, name, data })
}

fn name(item: &Value) -> Result<String, String> {
    let name = item["metadata"]["name"].as_str().filter(|name| !name.is_empty());
    name.map(ToOwned::to_owned).ok_or_else(|| "`metadata.name` must be set".to_owned())
}

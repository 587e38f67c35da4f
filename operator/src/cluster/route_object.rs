//! The route object: a Secret with the route that gateways obey and the memory that they drop.
//!
//! The one place that knows its labels, its annotation and its two values: takes a Secret and gives
//! what is in it, takes what shall be in it and gives the Secret. What others have added to its
//! metadata stays. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kanarie_crds::route::{
    CHANNEL_UID_LABEL, COMPONENT_LABEL, COMPONENT_ROUTE, ChannelRef, ROUTE_KEY, Route, STATE_KEY,
};
use kube::api::ObjectMeta;
use serde::Deserialize;

use crate::cluster::key::ChannelKey;
use crate::cluster::memory::{Memory, MemoryError};
use crate::cluster::route_note::{NOTE_ANNOTATION, RouteNote};

/// Annotation of a route Secret: namespace and name of its channel.
const CHANNEL_ANNOTATION: &str = "kanarie.dev/channel";

/// A channel's own route, as it is in the cluster.
#[derive(Clone)]
pub struct RouteObject {
    /// Its object's metadata.
    pub metadata: ObjectMeta,
    /// The bytes that gateways obey and acknowledge.
    pub route_bytes: Vec<u8>,
    /// The bytes of the memory.
    pub state_bytes: Vec<u8>,
    /// The route, if it can be read; only the last compiled secrets are taken from it.
    pub route: Option<Route>,
    /// The memory.
    pub memory: Memory,
}

/// The channel that a route object names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOwner {
    /// Where it is.
    pub key: ChannelKey,
    /// Its uid.
    pub uid: String,
}

/// As much of a route as says whose it is.
#[derive(Deserialize)]
struct Inside {
    channel: ChannelRef,
}

/// Reads a route object.
pub fn decode(object: Secret) -> Result<RouteObject, MemoryError> {
    let mut data = object.data.unwrap_or_default();
    let mut take = |key: &str| data.remove(key).map(|bytes| bytes.0).unwrap_or_default();
    let (route_bytes, state_bytes) = (take(ROUTE_KEY), take(STATE_KEY));
    let memory = Memory::decode(&state_bytes)?;
    let route = serde_json::from_slice(&route_bytes).ok();
    Ok(RouteObject { metadata: object.metadata, route_bytes, state_bytes, route, memory })
}

/// The Secret with these values; `there` is the metadata of the object in its place, if there is one.
pub fn encode(
    name: &str,
    channel: &ChannelRef,
    (route_bytes, state_bytes): (&[u8], &[u8]),
    note: Option<&RouteNote>,
    there: Option<&ObjectMeta>,
) -> Secret {
    let others = there.cloned().unwrap_or_default();
    let mut labels = others.labels.unwrap_or_default();
    labels.extend(own_labels(channel));
    let mut annotations = others.annotations.unwrap_or_default();
    annotations.extend(own_annotations(channel));
    // One of an earlier write would be about other bytes.
    annotations.remove(NOTE_ANNOTATION);
    annotations.extend(note.map(|note| (NOTE_ANNOTATION.to_owned(), note.text())));
    let value = |key: &str, bytes: &[u8]| (key.to_owned(), ByteString(bytes.to_vec()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: others.uid,
            resource_version: others.resource_version,
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        data: Some([value(ROUTE_KEY, route_bytes), value(STATE_KEY, state_bytes)].into()),
        ..Secret::default()
    }
}

/// Whether an object with this metadata says whose it is, as `encode` would.
pub fn is_labelled(metadata: &ObjectMeta, channel: &ChannelRef, note: Option<&RouteNote>) -> bool {
    let has = |map: &Option<BTreeMap<String, String>>, key: &str, value: &str| {
        map.as_ref().and_then(|map| map.get(key)).is_some_and(|there| there == value)
    };
    // What cannot be told now was told before of the same bytes.
    (note.is_none() || RouteNote::read(metadata).as_ref() == note)
        && own_labels(channel).iter().all(|(key, value)| has(&metadata.labels, key, value))
        && own_annotations(channel)
            .iter()
            .all(|(key, value)| has(&metadata.annotations, key, value))
}

/// The channel that an object with this metadata is the route of.
pub fn owner(metadata: &ObjectMeta) -> Option<RouteOwner> {
    let uid = metadata.labels.as_ref()?.get(CHANNEL_UID_LABEL)?;
    let place = metadata.annotations.as_ref()?.get(CHANNEL_ANNOTATION)?;
    let (namespace, name) = place.split_once('/')?;
    let key = ChannelKey { namespace: namespace.to_owned(), name: name.to_owned() };
    Some(RouteOwner { key, uid: uid.clone() })
}

/// The same of a whole object: one whose labels somebody has taken off names its channel inside.
pub fn owner_of(object: &Secret) -> Option<RouteOwner> {
    owner(&object.metadata).or_else(|| {
        let bytes = object.data.as_ref()?.get(ROUTE_KEY)?;
        let Inside { channel: ChannelRef { namespace, name, uid } } =
            serde_json::from_slice(&bytes.0).ok()?;
        Some(RouteOwner { key: ChannelKey { namespace, name }, uid: uid.to_string() })
    })
}

fn own_labels(channel: &ChannelRef) -> [(String, String); 2] {
    [
        (COMPONENT_LABEL.to_owned(), COMPONENT_ROUTE.to_owned()),
        (CHANNEL_UID_LABEL.to_owned(), channel.uid.to_string()),
    ]
}

fn own_annotations(channel: &ChannelRef) -> [(String, String); 1] {
    let ChannelRef { namespace, name, uid: _ } = channel;
    [(CHANNEL_ANNOTATION.to_owned(), format!("{namespace}/{name}"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelRef {
        let (namespace, name) = ("shop".to_owned(), "care".to_owned());
        ChannelRef { namespace, name, uid: "u".parse().unwrap() }
    }

    #[test]
    fn what_others_have_added_to_the_metadata_stays_and_hinders_nothing() {
        let mut there = encode("r", &channel(), (b"{}", b"{}"), None, None).metadata;
        there.labels.as_mut().unwrap().insert("backup/tool".into(), "yes".into());
        assert!(is_labelled(&there, &channel(), None));
        let again = encode("r", &channel(), (b"{}", b"{}"), None, Some(&there));
        assert_eq!(again.metadata.labels, there.labels);
    }

    #[test]
    fn an_object_without_its_labels_still_names_its_channel() {
        let route = br#"{"channel": {"namespace": "shop", "name": "care", "uid": "u"}}"#;
        let mut object = encode("r", &channel(), (route, b"{}"), None, None);
        object.metadata = ObjectMeta::default();
        assert_eq!(owner_of(&object).unwrap().uid, "u");
        object.data = None;
        assert_eq!(owner_of(&object), None);
    }
}

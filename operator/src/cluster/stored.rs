//! Stored: one ControllerRevision as it stands in the cluster.
//!
//! Takes it as JSON of which only what is needed is read: whoever may write into the namespace may write a megabyte
//! into each, so data are kept as text until it is known that they are short, and everything else is skipped. Gives
//! name, content, number and marks. Never asks for anything.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kanarie_crds::channel::RevisionContent;
use kanarie_rollout::rebuild::Promotion;
use kanarie_words::ids::RevisionName;
use kanarie_words::timestamp::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cluster::contents::{ContentFault, stored_content};
use crate::process::clock::millis_of;

/// When a revision last became stable, for people.
pub const PROMOTED_AT: &str = "kanarie.dev/promoted-at";
/// The transition at which that was known: what marks are compared by, since clocks differ.
pub const PROMOTED_TRANSITION: &str = "kanarie.dev/promoted-transition";
/// When a revision was rejected; absent unless it still is.
pub const REJECTED_AT: &str = "kanarie.dev/rejected-at";
/// No channel gets there; a number from here on is no mark of ours.
const MAX_TRANSITION: u64 = 1 << 53;

/// A revision, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRevision {
    /// Its name.
    pub name: RevisionName,
    /// Its content, or why that serves nobody.
    pub content: Result<RevisionContent, ContentFault>,
    /// Its number, growing with each new one.
    pub number: i64,
    /// When it last became stable.
    pub promoted: Option<Promotion>,
    /// When it was rejected, if it still is.
    pub rejected_at: Option<jiff::Timestamp>,
}

/// A ControllerRevision whose data nobody has looked at yet.
#[derive(Deserialize, Clone, Debug)]
pub struct UnreadRevision {
    metadata: UnreadMetadata,
    #[serde(default)]
    revision: Option<i64>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
struct UnreadMetadata {
    name: String,
    annotations: BTreeMap<String, String>,
    owner_references: Vec<UnreadOwner>,
}

#[derive(Deserialize, Clone, Debug, Default)]
#[serde(default)]
struct UnreadOwner {
    uid: String,
}

impl UnreadRevision {
    /// One that an API call gave.
    pub fn of(object: &ControllerRevision) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&serde_json::to_string(object)?)
    }

    /// Whether it belongs to the channel with this uid.
    pub fn is_owned_by(&self, uid: &str) -> bool {
        self.metadata.owner_references.iter().any(|owner| owner.uid == uid)
    }

    /// Bytes of its data.
    pub fn data_bytes(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.get().len())
    }

    /// What it says; none of one whose name no revision can have.
    pub fn read(&self) -> Option<StoredRevision> {
        let UnreadMetadata { name, annotations, .. } = &self.metadata;
        let time = |key: &str| annotations.get(key)?.parse::<jiff::Timestamp>().ok();
        let number = annotations.get(PROMOTED_TRANSITION).and_then(|number| number.parse().ok());
        let transition = number.filter(|number| *number < MAX_TRANSITION);
        let promoted =
            time(PROMOTED_AT).map(|at| Promotion { at: Timestamp(millis_of(at)), transition });
        Some(StoredRevision {
            name: name.parse().ok()?,
            content: stored_content(self.data.as_ref().map_or("null", |data| data.get())),
            number: self.revision.unwrap_or(0),
            promoted,
            rejected_at: time(REJECTED_AT),
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    fn read(metadata: serde_json::Value) -> Option<StoredRevision> {
        let data = json!({"agent": {"http": {"url": "http://a"}}});
        let object = json!({"metadata": metadata, "data": data, "revision": 1}).to_string();
        serde_json::from_str::<UnreadRevision>(&object).unwrap().read()
    }

    #[test]
    fn a_mark_reads_back_with_its_number_and_one_of_an_earlier_operator_without() {
        let marked = |annotations: serde_json::Value| {
            read(json!({"name": "a", "annotations": annotations})).unwrap().promoted
        };
        let at = Timestamp(1_000);
        let time = "1970-01-01T00:00:01Z";
        assert_eq!(
            marked(json!({PROMOTED_AT: time, PROMOTED_TRANSITION: "8"})),
            Some(Promotion { at, transition: Some(8) })
        );
        assert_eq!(marked(json!({PROMOTED_AT: time})), Some(Promotion { at, transition: None }));
        let absurd = json!({PROMOTED_AT: time, PROMOTED_TRANSITION: u64::MAX.to_string()});
        assert_eq!(marked(absurd), Some(Promotion { at, transition: None }));
        assert_eq!(marked(json!({})), None);
    }

    #[test]
    fn a_name_that_no_revision_can_have_is_none() {
        assert!(read(json!({"name": "n".repeat(65)})).is_some());
        assert_eq!(read(json!({"name": "n".repeat(66)})), None);
    }

    /// Zeros take sixteen times their room when they are parsed, and what is nested deeply cannot be.
    #[test]
    fn data_of_any_form_are_text_until_they_are_known_to_be_short() {
        let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
        let zeros = format!("[0{}]", ",0".repeat(500_000));
        let item = |data: &str| format!(r#"{{"metadata": {{"name": "a"}}, "data": {data}}}"#);
        let list = format!(
            r#"{{"apiVersion": "apps/v1", "kind": "ControllerRevisionList", "metadata": {{}}, "items": [{}, {}, {}]}}"#,
            item(&deep),
            item(&zeros),
            item(r#"{"agent": {"http": {"url": "http://a"}}}"#),
        );
        let list: ObjectList<UnreadRevision> = serde_json::from_str(&list).unwrap();
        assert_eq!(list.items[1].data_bytes(), zeros.len());
        let read: Vec<_> = list.items.iter().map(|item| item.read().unwrap().content).collect();
        assert_eq!(read[0], Err(ContentFault::Unreadable));
        assert_eq!(read[1], Err(ContentFault::TooLong));
        assert!(read[2].is_ok());
    }
}

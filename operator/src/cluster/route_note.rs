//! The note on a route: from what the operator made it, so that a glance at its metadata tells whether
//! anything has changed since.
//!
//! Takes what a pass was based on; gives the text of an annotation, and reads it back. A note that is
//! missing, unreadable or of another form says that nothing is known. Pure; holds digests only.

use std::collections::BTreeMap;

use kanarie_crds::route::route_hash;
use kanarie_words::hex;
use kanarie_words::ids::RouteHash;
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};

/// The annotation. Its first word is the version of its form.
pub const NOTE_ANNOTATION: &str = "kanarie.dev/made-from";
const FORM: &str = "v1";

/// What a route was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteNote {
    /// The transition that put it in force.
    pub transition: u64,
    /// Hash of the bytes that gateways obey.
    pub hash: RouteHash,
    /// Digest of the Secrets' versions.
    pub secrets: String,
}

impl RouteNote {
    /// Of a route with these bytes.
    pub fn of(transition: u64, route_bytes: &[u8], versions: &SecretStamps) -> Self {
        let secrets = digest(versions);
        Self { transition, hash: route_hash(route_bytes), secrets }
    }

    /// The text of the annotation.
    pub fn text(&self) -> String {
        let Self { transition, hash, secrets } = self;
        format!("{FORM} {transition} {hash} {secrets}")
    }

    /// The note on an object.
    pub fn read(metadata: &ObjectMeta) -> Option<Self> {
        let text = metadata.annotations.as_ref()?.get(NOTE_ANNOTATION)?;
        let words: Vec<&str> = text.split(' ').collect();
        let [FORM, transition, hash, secrets] = words[..] else { return None };
        let (transition, hash) = (transition.parse().ok()?, hash.parse().ok()?);
        Some(Self { transition, hash, secrets: secrets.to_owned() })
    }
}

/// Secrets by name, and the version of each; none of one that is not there.
pub type SecretStamps = BTreeMap<String, Option<String>>;

/// Digest of versions.
pub fn digest(versions: &SecretStamps) -> String {
    let mut hash = Sha256::new();
    for (name, version) in versions {
        hash.update(name);
        hash.update("\n");
        hash.update(
            version.as_ref().map_or_else(|| "none".to_owned(), |version| format!("at {version}")),
        );
        hash.update("\n");
    }
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(version: &str) -> SecretStamps {
        [("twilio".to_owned(), Some(version.to_owned()))].into()
    }

    fn read(text: &str) -> Option<RouteNote> {
        let annotations = [(NOTE_ANNOTATION.to_owned(), text.to_owned())].into();
        RouteNote::read(&ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() })
    }

    #[test]
    fn a_note_reads_back_and_another_form_says_nothing() {
        let note = RouteNote::of(7, b"{}", &versions("3"));
        assert_eq!(read(&note.text()), Some(note.clone()));
        for text in ["", "v2 7 h s", "v1 seven h s", "v1 7 h", "v1 7 h s more"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(RouteNote::read(&ObjectMeta::default()), None);
    }

    #[test]
    fn another_version_of_a_secret_is_another_note() {
        let of = |version| RouteNote::of(7, b"{}", &versions(version)).secrets;
        assert_ne!(of("3"), of("4"));
        assert_ne!(digest(&[("twilio".to_owned(), None)].into()), of("-"));
    }
}

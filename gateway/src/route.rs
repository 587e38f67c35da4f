//! Which revision answers a conversation: pure and deterministic.
//!
//! Takes the store's key, a route, a conversation and what failed before; gives the track and its
//! revision. Within a rollout a conversation keeps its bucket, so a growing weight never moves
//! anybody back; another canary draws other buckets. Never counts anything.

use hmac::{Hmac, KeyInit, Mac};
use kanarie_crds::route::{RevisionRoute, Route};
use kanarie_queue::types::{ConversationId, Track};
use sha2::Sha256;

/// Buckets that conversations fall into: a weight of one percent is a hundred of them.
const BUCKETS: u64 = 10_000;

/// Who answers a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The track.
    pub track: Track,
    /// Its revision.
    pub revision: &'a RevisionRoute,
    /// Whether the outcome is evidence: only while a canary is there.
    pub judged: bool,
}

/// Chooses the revision for a message of `conversation`. `failed_on` is the canary revision whose
/// agent failed on this very message: while that is still the canary, stable answers.
pub fn choose<'a>(
    key: &[u8; 32],
    route: &'a Route,
    conversation: &ConversationId,
    failed_on: Option<&str>,
) -> Choice<'a> {
    let judged = route.canary.is_some();
    let canary = route.canary.as_ref().filter(|canary| {
        failed_on != Some(canary.revision.as_str())
            && bucket(key, &route.channel.uid, &canary.revision, conversation)
                < u64::from(route.weight) * (BUCKETS / 100)
    });
    match canary {
        Some(revision) => Choice { track: Track::Canary, revision, judged },
        None => Choice { track: Track::Stable, revision: &route.stable, judged },
    }
}

/// The bucket of a conversation in the rollout of one canary, below 10,000.
pub fn bucket(key: &[u8; 32], channel: &str, canary: &str, conversation: &ConversationId) -> u64 {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    // A separator that occurs in none of the parts, so that no two triples give the same bytes.
    for part in [channel, canary, conversation.as_str()] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    let digest = mac.finalize().into_bytes();
    let head: [u8; 8] = digest[..8].try_into().expect("SHA-256 gives 32 bytes");
    u64::from_be_bytes(head) % BUCKETS
}

//! The ticket from the agent's side of the line to Twilio's: a reply that is durable.
//!
//! Takes what the store answered, gives what may be sent. Nothing else makes one: a reply that the
//! store does not have is never sent.

use kanarie_queue::intent::Intent;

/// A reply that the store has.
#[derive(Clone, Debug)]
pub(crate) struct CommittedReply(Intent);

impl CommittedReply {
    /// The intent that the store answered with: of a claim, or of a commit.
    pub(crate) fn from_store(intent: Intent) -> Self {
        Self(intent)
    }

    /// What the store has.
    pub(crate) fn intent(&self) -> &Intent {
        &self.0
    }
}

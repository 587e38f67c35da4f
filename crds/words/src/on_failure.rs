//! What happens to a revision that fails.
//!
//! Takes nothing, gives the two words of the channel's spec; without one it is `Rollback`. Never
//! decides whether a revision has failed.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to a revision that fails.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub enum OnFailure {
    /// Weight 0 at once; the revision is rejected.
    #[default]
    Rollback,
    /// The weight stays, the bad revision included.
    Pause,
}

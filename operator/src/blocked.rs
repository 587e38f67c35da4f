//! Blocked: the end of a reconcile for which nothing may be written. A plain value.

use kanarie_words::reason::Reason;

/// Why nothing may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// SenderConflict, RouteUnreadable or RouteLost.
    pub reason: Reason,
    /// What stands in the way and what to do.
    pub message: String,
}

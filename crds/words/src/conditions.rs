//! The words of conditions and Events: their types and values.
//!
//! Takes nothing, gives each word and what it means. Never decides which one applies.

use std::fmt;

/// Type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// Customers are served now.
    Ready,
    /// Every Secret that the channel refers to is there and usable, and Twilio takes what is in them, as far as it has
    /// said.
    CredentialsReady,
    /// Every live gateway obeys the route as it is.
    Routed,
    /// The spec's revision serves everybody: the change has landed.
    RolledOut,
    /// The operator is still carrying the spec out (kstatus: in progress).
    Reconciling,
    /// Nothing more happens until somebody acts (kstatus: failed).
    Stalled,
}

/// Value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// It holds, seen in this pass.
    True,
    /// It does not.
    False,
    /// Not known, or on the way.
    Unknown,
}

/// Type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl ConditionType {
    /// Every type, in the order of status.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::CredentialsReady,
        Self::Routed,
        Self::RolledOut,
        Self::Reconciling,
        Self::Stalled,
    ];

    /// The word in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::CredentialsReady => "CredentialsReady",
            Self::Routed => "Routed",
            Self::RolledOut => "RolledOut",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }

    /// What it means when it is True.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ready => "Customers are served now.",
            Self::CredentialsReady => {
                "Every Secret that the channel refers to is there and usable, and Twilio takes what is in them, as far as it has said."
            }
            Self::Routed => "Every live gateway obeys the route as it is.",
            Self::RolledOut => "The spec's revision serves everybody: the change has landed.",
            Self::Reconciling => {
                "The operator is still carrying the spec out (kstatus: in progress)."
            }
            Self::Stalled => "Nothing more happens until somebody acts (kstatus: failed).",
        }
    }
}

impl ConditionStatus {
    /// The word in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

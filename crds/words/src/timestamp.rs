//! A point in time, given from outside: the operator's clock or the store's, never read here.
//!
//! Takes Unix milliseconds, gives distances and later times. Never goes below zero or over the end
//! of the numbers, and never compares two clocks.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// Unix time in milliseconds. Which clock it is of says the name of the field that holds it.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(transparent)]
pub struct Timestamp(pub Millis);

impl Timestamp {
    /// Milliseconds since `earlier`; zero when this is not later, so a clock that was set back
    /// never counts as time that has passed.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time and `seconds` more.
    pub fn plus_seconds(self, seconds: u32) -> Self {
        self.plus_millis(u64::from(seconds) * 1000)
    }

    /// This time and `millis` more.
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

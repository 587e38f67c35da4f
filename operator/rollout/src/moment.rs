//! Two clocks: the store's, which the gateways count by, and the operator's. What must have taken its
//! time has taken it on both.
//!
//! Takes readings of both, gives how much time has certainly passed. Never compares one with the other.

use kanarie_words::Millis;
use kanarie_words::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// A time of the store's clock, Unix milliseconds.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
)]
#[serde(transparent)]
pub struct StoreTime(pub Millis);

/// A moment, as both clocks tell it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moment {
    /// The store's clock.
    pub store: StoreTime,
    /// The operator's.
    pub operator: Timestamp,
}

impl Moment {
    /// Milliseconds since `earlier`: the smaller progress of the two, so that a clock that jumps
    /// shortens nothing. Zero when one of them was set back.
    pub fn millis_since(self, earlier: Self) -> u64 {
        let store = self.store.0.saturating_sub(earlier.store.0);
        store.min(self.operator.millis_since(earlier.operator))
    }
}

//! A weight: a percentage that cannot be wrong once it exists.
//!
//! Takes a number, gives a weight of 0 to 100 or says which number is none. Never rounds and never
//! cuts off.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Percent of the conversations on the canary, 0 to 100.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(try_from = "u8", into = "u8")]
pub struct Weight(u8);

impl Weight {
    /// Nobody.
    pub const ZERO: Self = Self(0);
    /// Everybody.
    pub const FULL: Self = Self(100);

    /// A weight of `percent`, at most 100.
    pub fn new(percent: u8) -> Result<Self, WeightError> {
        if percent > 100 { Err(WeightError { percent }) } else { Ok(Self(percent)) }
    }

    /// The percentage.
    pub fn percent(self) -> u8 {
        self.0
    }

    /// The share of the conversations, 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

impl TryFrom<u8> for Weight {
    type Error = WeightError;

    fn try_from(percent: u8) -> Result<Self, WeightError> {
        Self::new(percent)
    }
}

impl From<Weight> for u8 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// A number that is no weight.
#[derive(Error, Clone, Copy, Debug, PartialEq, Eq)]
#[error("weight {percent} is over 100; give a percentage")]
pub struct WeightError {
    /// The number.
    pub percent: u8,
}

#[cfg(test)]
mod tests {
    use super::Weight;

    #[test]
    fn a_weight_is_a_percentage_in_json_as_well() {
        assert_eq!(serde_json::from_str::<Weight>("100").ok(), Some(Weight::FULL));
        assert!(serde_json::from_str::<Weight>("101").is_err());
        assert_eq!(serde_json::to_value(Weight::ZERO).ok(), Some(0.into()));
    }
}

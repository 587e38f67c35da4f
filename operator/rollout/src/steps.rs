//! The steps of a rollout: values that cannot be wrong once they exist.

use kanarie_words::weight::Weight;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounds::MAX_STEPS;

/// A weight and how long it is held.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Percent of the conversations on the canary.
    pub weight: Weight,
    /// Seconds that this weight is in force on every replica before the next step.
    pub hold_seconds: u32,
}

/// The steps of a rollout: at least one, strictly rising from above 0, the last one at 100. The
/// hold of the last one is the bake.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[serde(try_from = "Vec<Step>", into = "Vec<Step>")]
pub struct Steps(Vec<Step>);

impl Steps {
    /// Checks the steps.
    pub fn new(steps: Vec<Step>) -> Result<Self, StepsError> {
        let Some(last) = steps.last() else {
            return Err(StepsError::Empty);
        };
        if steps.len() > MAX_STEPS {
            return Err(StepsError::TooMany { count: steps.len() });
        }
        if last.weight != Weight::FULL {
            return Err(StepsError::EndsBelowFull { weight: last.weight });
        }
        let mut below = Weight::ZERO;
        for step in &steps {
            if step.weight <= below {
                return Err(StepsError::NotRising { weight: step.weight, below });
            }
            below = step.weight;
        }
        Ok(Self(steps))
    }

    /// The steps, in order.
    pub fn as_slice(&self) -> &[Step] {
        &self.0
    }

    /// How many there are, at least one.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The step at `index`, counted from 0.
    pub fn get(&self, index: usize) -> Option<Step> {
        self.0.get(index).copied()
    }

    /// The index after `index`; none after the bake.
    pub fn after(&self, index: usize) -> Option<usize> {
        let next = index.saturating_add(1);
        (next < self.0.len()).then_some(next)
    }

    /// The index of the highest step that is not over `weight`; the first one when all are over.
    pub fn highest_not_over(&self, weight: Weight) -> usize {
        self.0.iter().rposition(|step| step.weight <= weight).unwrap_or(0)
    }
}

impl TryFrom<Vec<Step>> for Steps {
    type Error = StepsError;

    fn try_from(steps: Vec<Step>) -> Result<Self, StepsError> {
        Self::new(steps)
    }
}

impl From<Steps> for Vec<Step> {
    fn from(steps: Steps) -> Self {
        steps.0
    }
}

/// Steps that are no way from stable to canary.
#[derive(Error, Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepsError {
    /// There is none.
    #[error("rollout.steps is empty; give at least the step with weight 100")]
    Empty,
    /// There are more than `MAX_STEPS`.
    #[error("rollout.steps has {count} steps; give at most twenty")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The last one is not 100.
    #[error("rollout.steps ends at {weight}; the last step must have weight 100")]
    EndsBelowFull {
        /// Weight of the last one.
        weight: Weight,
    },
    /// A step is not over the one before it.
    #[error("rollout.steps has {weight} after {below}; weights must rise strictly from above 0")]
    NotRising {
        /// The weight that does not rise.
        weight: Weight,
        /// The one before it.
        below: Weight,
    },
}

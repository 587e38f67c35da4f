//! Who moves the weight: something that looks at the counts and gives a route.

use serde::{Deserialize, Serialize};

use crate::simulation::store::Store;

/// What the gateways are to obey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) serving: u64,
    /// None without a canary.
    pub(crate) weight: Option<u8>,
}

/// How a rollout ended.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Promoted,
    Rejected,
}

/// One look: the time, the counts, and what every replica obeys.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) at: u64,
    pub(crate) store: &'a Store,
    pub(crate) obeyed: &'a [u64],
}

/// Something that looks at the counts and moves the weight.
pub(crate) trait Pilot {
    /// Looks, and says when it looks again.
    fn look(&mut self, look: Look<'_>) -> u64;

    /// What it wants obeyed.
    fn route(&self) -> Route;

    fn ending(&self) -> Option<Ending>;
}

impl<P: Pilot> Pilot for &mut P {
    fn look(&mut self, look: Look<'_>) -> u64 {
        (**self).look(look)
    }

    fn route(&self) -> Route {
        (**self).route()
    }

    fn ending(&self) -> Option<Ending> {
        (**self).ending()
    }
}

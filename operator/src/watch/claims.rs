//! Who waits for a sender that another channel holds.
//!
//! Takes the names of routes and who waits for them; gives those who waited for one when it goes. May
//! be lost at any time: whoever waits looks again by itself, only later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::cluster::key::ChannelKey;

/// Channels by the name of the route that they would have.
#[derive(Default)]
pub struct Claims {
    waiting: Mutex<BTreeMap<String, BTreeSet<ChannelKey>>>,
}

impl Claims {
    /// A channel waits for a route's name; says whether it did not before.
    pub fn wait(&self, route: &str, key: &ChannelKey) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(route.to_owned()).or_default().insert(key.clone())
    }

    /// The name is free, or may be: those who waited for it.
    pub fn gone(&self, route: &str) -> BTreeSet<ChannelKey> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(route).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_sender_is_told_once_that_it_is_free() {
        let claims = Claims::default();
        let key = ChannelKey { namespace: "shop".into(), name: "copy".into() };
        assert!(claims.wait("route", &key));
        assert!(!claims.wait("route", &key));
        assert_eq!(claims.gone("route").into_iter().collect::<Vec<_>>(), [key]);
        assert!(claims.gone("route").is_empty());
    }
}

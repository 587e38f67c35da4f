//! Channels whose sending waits, because Twilio does not accept their credentials.
//!
//! Takes a refusal, gives how long the next send waits. Other credentials end the wait at once,
//! so a corrected Secret works without a restart. Each replica finds out for itself; nothing is
//! dropped meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kanarie_crds::route::{Credentials, Route};
use kanarie_words::ids::ChannelUid;
use tokio::time::Instant;

/// How long nothing is sent after a refusal; then one message tries again.
const PAUSE: Duration = Duration::from_secs(30);

/// The channels that wait.
#[derive(Debug, Default)]
pub struct Holds(Mutex<HashMap<ChannelUid, Hold>>);

#[derive(Debug)]
struct Hold {
    refused: Credentials,
    until: Instant,
}

impl Holds {
    /// How long a send of this channel waits; none when it may go.
    pub fn wait(&self, route: &Route, now: Instant) -> Option<Duration> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hold = holds.get_mut(&route.channel.uid)?;
        if hold.refused != route.credentials {
            holds.remove(&route.channel.uid);
            return None;
        }
        if now < hold.until {
            return Some(hold.until - now);
        }
        // This one tries; the others wait for what comes of it.
        hold.until = now + PAUSE;
        None
    }

    /// Twilio refused the credentials of this channel; true when that is news.
    pub fn refuse(&self, route: &Route, now: Instant) -> bool {
        let hold = Hold { refused: route.credentials.clone(), until: now + PAUSE };
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.insert(route.channel.uid.clone(), hold).is_none()
    }

    /// Twilio accepted a message of this channel.
    pub fn accept(&self, route: &Route) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&route.channel.uid);
    }
}

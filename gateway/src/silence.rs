//! How long nobody has asked for the counts: whether anybody still watches over a rollout.
//!
//! Takes what each heartbeat's answer says of the last control request; knows whether the silence is
//! long. The store keeps when the last request came and how far it was from the one before, so all
//! replicas agree. Never decides what to do about it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::fleet::Asked;

/// A shorter silence is none.
const SHORTEST: Duration = Duration::from_secs(30);
/// Requests that may be missing in a row.
const MISSING: u32 = 3;

/// What is known of the last control request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Silence(Arc<Mutex<Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Since when nobody has asked, as far as this process knows.
    since: Instant,
    /// From the request before to that one.
    gap: Duration,
}

impl Silence {
    /// Begins at `now`: before that this process heard nothing.
    pub fn begin(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Known { since: now, gap: Duration::ZERO })))
    }

    /// Takes what the store says of the last request, at `now`.
    pub fn learn(&self, asked: Option<Asked>, now: Instant) {
        let Some(asked) = asked else { return };
        let age = Duration::from_millis(asked.age_ms);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.gap = Duration::from_millis(asked.gap_ms);
        // A process that is younger than the silence counts all of it.
        known.since = now.checked_sub(age).unwrap_or(known.since);
    }

    /// Whether nobody has asked for thirty seconds, nor for three times the usual gap.
    pub fn is_long(&self, now: Instant) -> bool {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(known.since) > SHORTEST.max(known.gap * MISSING)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Silence;
    use crate::store::fleet::Asked;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn thirty_seconds_without_any_request_are_a_long_silence() {
        let now = Instant::now();
        let silence = Silence::begin(now);
        assert!(!silence.is_long(now + seconds(30)));
        assert!(silence.is_long(now + seconds(31)));
    }

    #[test]
    fn whoever_asks_rarely_may_be_silent_for_three_times_that() {
        let now = Instant::now() + seconds(1_000);
        let silence = Silence::begin(now);
        silence.learn(Some(Asked { age_ms: 1_000, gap_ms: 60_000 }), now);
        assert!(!silence.is_long(now + seconds(179)));
        assert!(silence.is_long(now + seconds(180)));
    }

    #[test]
    fn the_next_request_ends_the_silence() {
        let now = Instant::now() + seconds(1_000);
        let silence = Silence::begin(now);
        assert!(silence.is_long(now + seconds(40)));
        silence.learn(Some(Asked { age_ms: 10, gap_ms: 5_000 }), now + seconds(41));
        assert!(!silence.is_long(now + seconds(41)));
    }
}

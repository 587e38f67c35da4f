//! How long the connections to Twilio have been idle, and so how long a POST is held back on one.
//!
//! Takes the beginnings and ends of calls, gives a pause. The pool of the client takes the connection
//! that was used last, and so does this mirror of it. A connection of a moment ago is not closed by
//! anybody; on an older one the news that it is closed takes as long as an answer at most.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Nobody closes a connection that was used so short a time ago.
const FRESH: Duration = Duration::from_millis(500);
/// Longest pause, whatever an answer takes.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long a connection is kept idle.
pub(crate) const LONGEST_IDLE: Duration = Duration::from_secs(90);

/// The idle connections, as far as calls tell.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when each one is idle, the latest last.
    idle: Vec<Instant>,
    /// What the quickest answer took: never less than a way there and back.
    quickest: Option<Duration>,
}

impl Kept {
    /// A call begins at `now`; gives how long the end of its body is held back.
    pub(crate) fn begin(&self, now: Instant) -> Duration {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget_old(now);
        match state.idle.pop() {
            // A new connection was not closed by anybody, and one of a moment ago neither.
            None => Duration::ZERO,
            Some(since) if now.saturating_duration_since(since) < FRESH => Duration::ZERO,
            Some(_) => state.quickest.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE),
        }
    }

    /// A call that took so long was answered, so its connection is idle from `now` on.
    pub(crate) fn answered(&self, took: Duration, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.quickest = Some(state.quickest.map_or(took, |quickest| quickest.min(took)));
        state.forget_old(now);
        state.idle.push(now);
    }
}

impl State {
    fn forget_old(&mut self, now: Instant) {
        let old = |since: &Instant| now.saturating_duration_since(*since) >= LONGEST_IDLE;
        let first = self.idle.partition_point(old);
        self.idle.drain(..first);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Kept, LONGEST_IDLE, LONGEST_PAUSE};

    const QUICK: Duration = Duration::from_millis(30);

    #[test]
    fn a_new_connection_and_one_of_a_moment_ago_are_not_waited_for() {
        let (kept, now) = (Kept::default(), Instant::now());
        assert_eq!(kept.begin(now), Duration::ZERO);
        kept.answered(QUICK, now);
        assert_eq!(kept.begin(now + Duration::from_millis(499)), Duration::ZERO);
    }

    #[test]
    fn on_an_idle_connection_the_quickest_answer_is_waited_for() {
        let (kept, now) = (Kept::default(), Instant::now());
        for took in [QUICK * 2, QUICK, QUICK * 3] {
            kept.answered(took, now);
        }
        assert_eq!(kept.begin(now + Duration::from_millis(500)), QUICK);
    }

    #[test]
    fn the_connection_that_was_used_last_is_taken_first() {
        let (kept, now) = (Kept::default(), Instant::now());
        kept.answered(QUICK, now);
        kept.answered(QUICK, now + Duration::from_secs(9));
        assert_eq!(kept.begin(now + Duration::from_secs(9)), Duration::ZERO);
        assert_eq!(kept.begin(now + Duration::from_secs(9)), QUICK);
    }

    #[test]
    fn a_connection_that_is_no_longer_kept_is_a_new_one() {
        let (kept, now) = (Kept::default(), Instant::now());
        kept.answered(QUICK, now);
        assert_eq!(kept.begin(now + LONGEST_IDLE), Duration::ZERO);
    }

    #[test]
    fn a_slow_twilio_holds_nothing_back_for_long() {
        let (kept, now) = (Kept::default(), Instant::now());
        kept.answered(Duration::from_secs(3), now);
        assert_eq!(kept.begin(now + Duration::from_secs(1)), LONGEST_PAUSE);
    }
}

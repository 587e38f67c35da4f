//! A breaker: when an agent that fails is left alone for a while, and when it is tried again.
//!
//! Takes outcomes and the time they came at, gives whether a call may go out. Pure: `now` comes
//! from the caller. Never counts evidence: an open breaker is no attempt.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const IN_A_ROW: u32 = 5;
/// Outcomes that the rate is taken over; it opens when more than half of them are failures.
const WINDOW: usize = 20;
/// How long it stays open at first; doubles with every probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest time it stays open.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A probe without an outcome for so long was lost with its caller: another may go out.
const PROBE_LOST_AFTER: Duration = Duration::from_secs(180);

/// The state of one dependency.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    recent: VecDeque<bool>,
    in_a_row: u32,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    probe_since: Option<Instant>,
}

/// Whether a call may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It may.
    Go,
    /// Not before this time has passed.
    Wait(Duration),
}

impl Breaker {
    /// Whether a call may go out at `now`. Of an open breaker whose pause is over exactly one
    /// caller gets a Go; the others wait for its outcome.
    pub fn permit(&mut self, now: Instant) -> Permission {
        let Some(open) = &mut self.open else { return Permission::Go };
        if now < open.until {
            return Permission::Wait(open.until - now);
        }
        let under_way = |since: Instant| now.duration_since(since) < PROBE_LOST_AFTER;
        if open.probe_since.is_some_and(under_way) {
            return Permission::Wait(FIRST_PAUSE);
        }
        open.probe_since = Some(now);
        Permission::Go
    }

    /// Takes the outcome of a call that was permitted.
    pub fn record(&mut self, succeeded: bool, now: Instant) {
        match (self.open, succeeded) {
            (Some(_), true) => *self = Self::default(),
            (Some(open), false) if open.probe_since.is_some() => {
                let pause = (open.pause * 2).min(LONGEST_PAUSE);
                self.open = Some(Open { until: now + pause, pause, probe_since: None });
            }
            // A call from before it opened; it says nothing new.
            (Some(_), false) => {}
            (None, _) => self.count(succeeded, now),
        }
    }

    /// Whether it remembers no trouble.
    pub fn is_idle(&self) -> bool {
        self.open.is_none() && self.recent.iter().all(|succeeded| *succeeded)
    }

    fn count(&mut self, succeeded: bool, now: Instant) {
        self.in_a_row = if succeeded { 0 } else { self.in_a_row + 1 };
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(succeeded);
        let failures = self.recent.iter().filter(|succeeded| !**succeeded).count();
        let mostly_failing = self.recent.len() == WINDOW && failures * 2 > WINDOW;
        if self.in_a_row >= IN_A_ROW || mostly_failing {
            let until = now + FIRST_PAUSE;
            self.open = Some(Open { until, pause: FIRST_PAUSE, probe_since: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Breaker, Permission};

    fn failing(count: u32, now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        (0..count).for_each(|_| breaker.record(false, now));
        breaker
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn four_failures_in_a_row_leave_it_closed() {
        let now = Instant::now();
        assert_eq!(failing(4, now).permit(now), Permission::Go);
    }

    #[test]
    fn the_fifth_failure_in_a_row_opens_it_for_five_seconds() {
        let now = Instant::now();
        assert_eq!(failing(5, now).permit(now + seconds(2)), Permission::Wait(seconds(3)));
    }

    #[test]
    fn more_than_half_of_the_last_twenty_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        // Two failures, one success: never three in a row, and two thirds fail.
        (0..19).for_each(|index| breaker.record(index % 3 == 0, now));
        assert_eq!(breaker.permit(now), Permission::Go, "nineteen outcomes are no window yet");
        breaker.record(false, now);
        assert!(matches!(breaker.permit(now), Permission::Wait(_)));
    }

    #[test]
    fn exactly_half_of_the_last_twenty_leave_it_closed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        (0..40).for_each(|index| breaker.record(index % 2 == 0, now));
        assert_eq!(breaker.permit(now), Permission::Go);
    }

    #[test]
    fn a_success_does_not_make_it_forget_the_failures_before() {
        let now = Instant::now();
        let mut breaker = failing(1, now);
        breaker.record(true, now);
        assert!(!breaker.is_idle());
        (0..20).for_each(|_| breaker.record(true, now));
        assert!(breaker.is_idle());
    }

    #[test]
    fn after_the_pause_one_caller_probes_and_the_others_wait() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        assert_eq!(breaker.permit(now + seconds(5)), Permission::Go);
        assert!(matches!(breaker.permit(now + seconds(5)), Permission::Wait(_)));
    }

    #[test]
    fn a_probe_that_succeeds_closes_it() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        assert_eq!(breaker.permit(now + seconds(5)), Permission::Go);
        breaker.record(true, now + seconds(6));
        assert!(breaker.is_idle());
        assert_eq!(breaker.permit(now + seconds(6)), Permission::Go);
    }

    #[test]
    fn every_probe_that_fails_doubles_the_pause_up_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = failing(5, now);
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(breaker.permit(now), Permission::Wait(seconds(pause)));
            now += seconds(pause);
            assert_eq!(breaker.permit(now), Permission::Go);
            breaker.record(false, now);
        }
    }

    #[test]
    fn a_probe_lost_with_its_caller_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = failing(5, now);
        assert_eq!(breaker.permit(now + seconds(5)), Permission::Go);
        assert_eq!(breaker.permit(now + seconds(185)), Permission::Go);
    }
}

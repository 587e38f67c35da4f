//! When heads come back that found no place: spread out, and soon.
//!
//! Takes the moments at which heads are put back, gives a pause each. Those of one kind come back one
//! after the other, so however many wait, a store is asked for no more than a hundred a second. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest pause.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest pause: what waits for a place must not miss many that get free.
const LONGEST: Duration = Duration::from_secs(30);
/// Time between two that come back.
const APART: Duration = Duration::from_millis(10);

/// When the next head of one kind may come back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Returns(Option<Instant>);

impl Returns {
    /// Books the return of one head; gives how long it waits.
    pub(crate) fn book(&mut self, now: Instant) -> Duration {
        let soonest = now + SHORTEST;
        let at = self.0.map_or(soonest, |next| next.max(soonest)).min(now + LONGEST);
        self.0 = Some(at + APART);
        at - now
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.0.is_none_or(|next| next <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LONGEST, Returns, SHORTEST};

    #[test]
    fn the_first_comes_back_after_a_second_and_the_others_ten_milliseconds_apart() {
        let (mut returns, now) = (Returns::default(), Instant::now());
        let pauses: Vec<u128> = (0..3).map(|_| returns.book(now).as_millis()).collect();
        assert_eq!(pauses, [1_000, 1_010, 1_020]);
        assert_eq!(returns.book(now + Duration::from_secs(9)), SHORTEST);
    }

    #[test]
    fn nobody_waits_longer_than_half_a_minute() {
        let (mut returns, now) = (Returns::default(), Instant::now());
        let longest = (0..10_000).map(|_| returns.book(now)).max();
        assert_eq!(longest, Some(LONGEST));
    }

    #[test]
    fn it_is_over_once_the_last_one_is_back() {
        let (mut returns, now) = (Returns::default(), Instant::now());
        assert!(returns.is_over(now));
        returns.book(now);
        assert!(!returns.is_over(now + SHORTEST));
        assert!(returns.is_over(now + SHORTEST * 2));
    }
}

//! How many questions stable's agent is asked at once while it has room for few.
//!
//! Takes what its answers say of its room; gives whether it may be asked about one more. Half of what
//! was out when it said that it is busy, then one more whenever so many were answered; after an
//! outage from a few to twice as many with every round. Pure: `now` comes from the caller. Never below
//! one, and forgotten when it was not busy for ten minutes. A canary is not limited: it is to be
//! judged by all of its conversations.
//!
//! Additive increase, multiplicative decrease: Chiu and Jain, "Analysis of the increase and decrease
//! algorithms for congestion avoidance in computer networks", 1989.

use std::time::Duration;

use tokio::time::Instant;

/// Questions at once from which on an agent that is busy may be so because of them.
const SEVERAL: u32 = 8;
/// Questions at once when an agent is back that had been left alone, at most.
const FIRST: u32 = 16;
/// Time without a busy answer after which there is no limit.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What an answer says of an agent's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It answered, well or badly.
    Answered,
    /// It is busy with what it was asked since then, and not away.
    Busy(Instant),
    /// It is back after it was left alone.
    Back,
}

/// The most questions at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    most: u32,
    answered: u32,
    /// Whether it was busy since it is back.
    was_busy: bool,
    since: Instant,
}

impl Limit {
    /// The limit after a sign that came while `at_once` questions were out; none for none.
    pub(crate) fn after(
        limit: Option<Self>,
        sign: Sign,
        at_once: u32,
        now: Instant,
    ) -> Option<Self> {
        let of_busy =
            |most: u32| Self { most: most.max(1), answered: 0, was_busy: true, since: now };
        match (limit, sign) {
            (limit, Sign::Back) => {
                let most = limit.map_or(FIRST, |limit| limit.most.min(FIRST));
                Some(Self { most, answered: 0, was_busy: false, since: now })
            }
            (None, Sign::Answered) => None,
            (None, Sign::Busy(_)) => (at_once >= SEVERAL).then(|| of_busy(at_once / 2)),
            // What was asked before the last change says nothing of it, nor does a busy answer when
            // few were out: then others keep the agent busy.
            (Some(limit), Sign::Busy(asked))
                if asked <= limit.since || at_once * 2 < limit.most =>
            {
                Some(limit)
            }
            (Some(limit), Sign::Busy(_)) => Some(of_busy(limit.most / 2)),
            (Some(limit), Sign::Answered) => Some(limit.answered()),
        }
    }

    /// Whether one more may be asked beside `at_once`.
    pub(crate) fn allows(&self, at_once: u32, now: Instant) -> bool {
        at_once < self.most || self.is_over(now)
    }

    /// Whether it is forgotten.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.since + FORGOTTEN
    }

    fn answered(mut self) -> Self {
        self.answered += 1;
        if !self.was_busy || self.answered >= self.most {
            self.answered = 0;
            self.most = self.most.saturating_add(1);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Limit, Sign};

    fn after(limit: Option<Limit>, signs: &[Sign], at_once: u32, now: Instant) -> Option<Limit> {
        signs.iter().fold(limit, |limit, sign| Limit::after(limit, *sign, at_once, now))
    }

    fn most(limit: Option<Limit>, now: Instant) -> Option<u32> {
        limit.map(|limit| (0..).find(|at_once| !limit.allows(*at_once, now)).unwrap())
    }

    #[test]
    fn an_agent_that_is_not_busy_or_busy_without_us_has_no_limit() {
        let now = Instant::now();
        assert_eq!(after(None, &[Sign::Answered; 9], 500, now), None);
        assert_eq!(after(None, &[Sign::Busy(now); 9], 7, now), None);
    }

    #[test]
    fn a_busy_agent_is_asked_half_as_much_once_for_what_was_out_together() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Busy(now)], 100, now + Duration::from_secs(5));
        let later = now + Duration::from_secs(9);
        assert_eq!(most(after(limit, &[Sign::Busy(now); 90], 50, later), later), Some(50));
        let limit = after(limit, &[Sign::Busy(later); 40], 50, later);
        assert_eq!(most(limit, later), Some(25));
        let last = later + Duration::from_secs(9);
        let limit = after(limit, &[Sign::Busy(last)], 3, last);
        assert_eq!(most(limit, last), Some(25), "it is not busy because of three");
    }

    #[test]
    fn one_more_is_asked_when_so_many_were_answered() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Busy(now)], 20, now);
        assert_eq!(most(after(limit, &[Sign::Answered; 9], 10, now), now), Some(10));
        assert_eq!(most(after(limit, &[Sign::Answered; 10 + 11], 10, now), now), Some(12));
    }

    #[test]
    fn an_agent_that_is_back_is_asked_twice_as_much_with_every_round_until_it_is_busy() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Back], 1, now);
        assert_eq!(most(limit, now), Some(16));
        let limit = after(limit, &[Sign::Answered; 16], 16, now);
        assert_eq!(most(limit, now), Some(32));
        let later = now + Duration::from_secs(1);
        let limit = after(limit, &[Sign::Busy(later)], 32, later);
        assert_eq!(most(limit, later), Some(16));
        let last = later + Duration::from_secs(1);
        let limit = after(limit, &[Sign::Busy(last), Sign::Back], 16, last);
        assert_eq!(most(limit, last), Some(8), "it is remembered");
    }

    #[test]
    fn an_agent_that_was_not_busy_for_long_has_no_limit() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Busy(now)], 20, now).unwrap();
        let later = now + Duration::from_secs(600);
        assert!(!limit.allows(10, now) && limit.allows(10, later) && limit.is_over(later));
    }
}

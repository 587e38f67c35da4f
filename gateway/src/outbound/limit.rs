//! How many turns of a channel go on at once while its agent has room for few.
//!
//! Takes what the agent's answers say of its room; gives the most turns at once. Half of what was out
//! when it said that it is busy, then one more whenever so many were answered; after an outage from a
//! few to twice as many with every round. Pure: `now` comes from the caller. Never below one, and
//! forgotten when it was not needed for ten minutes.
//!
//! Additive increase, multiplicative decrease: Chiu and Jain, "Analysis of the increase and decrease
//! algorithms for congestion avoidance in computer networks", 1989.

use std::time::Duration;

use tokio::time::Instant;

/// Turns at once from which on an agent that is busy may be so because of them.
const SEVERAL: u32 = 8;
/// Turns at once when an agent is back that had been left alone.
const FIRST: u32 = 16;
/// Time in which several busy answers are one: what was out together comes back together.
const ROUND: Duration = Duration::from_secs(1);
/// Time without a busy answer after which there is no limit.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// What an answer of a channel's agent says of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It answered.
    Answered,
    /// It is busy, and not away.
    Busy,
    /// It is left alone from now on: that is no question of room.
    Away,
    /// It is back.
    Back,
}

/// The most turns at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    most: u32,
    answered: u32,
    /// Whether it has been busy since it is back.
    met: bool,
    since: Instant,
}

impl Limit {
    /// The limit after a sign that came while `at_once` turns went on; none for none.
    pub(crate) fn after(
        limit: Option<Self>,
        sign: Sign,
        at_once: u32,
        now: Instant,
    ) -> Option<Self> {
        match (limit, sign) {
            (_, Sign::Away) => None,
            (_, Sign::Back) => Some(Self { most: FIRST, answered: 0, met: false, since: now }),
            (None, Sign::Answered) => None,
            (None, Sign::Busy) => (at_once >= SEVERAL).then(|| Self::busy(at_once / 2, now)),
            (Some(limit), Sign::Busy) if limit.met && now < limit.since + ROUND => Some(limit),
            (Some(limit), Sign::Busy) => Some(Self::busy(limit.most.min(at_once) / 2, now)),
            (Some(limit), Sign::Answered) => limit.answered(now),
        }
    }

    /// Whether another turn may go on beside `at_once`.
    pub(crate) fn allows(&self, at_once: u32) -> bool {
        at_once < self.most
    }

    fn busy(most: u32, now: Instant) -> Self {
        Self { most: most.max(1), answered: 0, met: true, since: now }
    }

    fn answered(mut self, now: Instant) -> Option<Self> {
        self.answered += 1;
        if !self.met || self.answered >= self.most {
            self.answered = 0;
            self.most = self.most.saturating_add(1);
        }
        (now < self.since + FORGOTTEN).then_some(self)
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

    fn most(limit: Option<Limit>) -> Option<u32> {
        limit.map(|limit| (0..).find(|at_once| !limit.allows(*at_once)).unwrap())
    }

    #[test]
    fn an_agent_that_is_not_busy_or_busy_without_us_has_no_limit() {
        assert_eq!(after(None, &[Sign::Answered; 9], 500, Instant::now()), None);
        assert_eq!(after(None, &[Sign::Busy; 9], 7, Instant::now()), None);
    }

    #[test]
    fn a_busy_agent_is_asked_half_as_much_and_once_a_round() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Busy; 90], 100, now);
        assert_eq!(most(limit), Some(50));
        let limit = after(limit, &[Sign::Busy; 40], 50, now + Duration::from_secs(1));
        assert_eq!(most(limit), Some(25));
        let late = now + Duration::from_secs(60);
        assert_eq!(most(after(limit, &[Sign::Busy], 1, late)), Some(1), "never none");
    }

    #[test]
    fn one_more_is_asked_when_so_many_were_answered() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Busy], 20, now);
        assert_eq!(most(after(limit, &[Sign::Answered; 9], 10, now)), Some(10));
        assert_eq!(most(after(limit, &[Sign::Answered; 10 + 11], 10, now)), Some(12));
    }

    #[test]
    fn an_agent_that_is_back_is_asked_twice_as_much_with_every_round() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Busy, Sign::Away], 20, now);
        assert_eq!(limit, None);
        let limit = after(limit, &[Sign::Back], 1, now);
        assert_eq!(most(limit), Some(16));
        let limit = after(limit, &[Sign::Answered; 16], 16, now);
        assert_eq!(most(limit), Some(32));
        assert_eq!(most(after(limit, &[Sign::Busy], 32, now)), Some(16), "and then it is known");
    }

    #[test]
    fn a_limit_that_was_not_needed_for_long_is_forgotten() {
        let now = Instant::now();
        let limit = after(None, &[Sign::Busy], 20, now);
        let later = now + Duration::from_secs(600);
        assert_eq!(after(limit, &[Sign::Answered], 1, later), None);
    }
}

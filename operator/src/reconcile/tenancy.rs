//! Tenancy: which of two installations that see a channel of their class serves it?
//!
//! Status names the one that serves, by its routes namespace. One that finds another's name asks once, by
//! writing its own there: an installation that lives answers by writing its own again, one that is gone
//! does not. Takes the name and the time, gives what to do. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How long an installation has to answer. Its watch tells it at once; a leader that died is followed in less.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);
/// Time within which its name is written over so often that another one serves, too.
const QUARREL: Duration = Duration::from_secs(60);
/// That often.
const DISPUTES: usize = 3;

/// What this process knows of whose a channel is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// Nothing.
    #[default]
    Unknown,
    /// Another one is named, and was asked.
    Asked {
        /// When.
        since: Instant,
    },
    /// This one serves.
    Holds {
        /// When another name was found in place of its own, lately.
        disputes: Vec<Instant>,
        /// Whether its own name was there when it last looked.
        is_named: bool,
    },
    /// Another one lives, and serves.
    Yields,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Serve it.
    Serve,
    /// Serve it, and write the own name where another one asks by its own.
    Answer,
    /// Ask whether the other one lives.
    Ask,
    /// Wait for its answer.
    Wait(Duration),
    /// Leave it alone.
    Leave {
        /// Whether it was not known before.
        is_news: bool,
    },
}

impl Tenancy {
    /// Takes what status names; gives what follows.
    pub fn turn(&mut self, named: Option<&str>, own: &str, now: Instant) -> Turn {
        match (named, &mut *self) {
            (None, _) => Turn::Serve,
            (Some(named), Self::Asked { since })
                if named == own && now < *since + ANSWERS_WITHIN =>
            {
                Turn::Wait(*since + ANSWERS_WITHIN - now)
            }
            (Some(named), Self::Holds { is_named, .. }) if named == own => {
                *is_named = true;
                Turn::Serve
            }
            (Some(named), _) if named == own => {
                *self = Self::Holds { disputes: Vec::new(), is_named: true };
                Turn::Serve
            }
            (Some(_), Self::Unknown) => {
                *self = Self::Asked { since: now };
                Turn::Ask
            }
            (Some(_), Self::Holds { disputes, is_named }) => {
                disputes.retain(|at| now.duration_since(*at) < QUARREL);
                if std::mem::take(is_named) {
                    disputes.push(now);
                }
                if disputes.len() <= DISPUTES {
                    return Turn::Answer;
                }
                *self = Self::Yields;
                Turn::Leave { is_news: true }
            }
            (Some(_), Self::Asked { .. }) => {
                *self = Self::Yields;
                Turn::Leave { is_news: true }
            }
            (Some(_), Self::Yields) => Turn::Leave { is_news: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVE: Turn = Turn::Leave { is_news: true };

    #[tokio::test]
    async fn the_first_one_serves_and_goes_on_when_another_one_asks() {
        let now = Instant::now();
        let (mut first, mut second) = (Tenancy::default(), Tenancy::default());
        assert_eq!(first.turn(None, "a", now), Turn::Serve, "nobody is named yet");
        assert_eq!(first.turn(Some("a"), "a", now), Turn::Serve);
        assert_eq!(second.turn(Some("a"), "b", now), Turn::Ask);
        assert_eq!(second.turn(Some("b"), "b", now), Turn::Wait(ANSWERS_WITHIN));
        assert_eq!(first.turn(Some("b"), "a", now), Turn::Answer);
        assert_eq!(second.turn(Some("a"), "b", now), LEAVE);
        assert_eq!(second.turn(Some("a"), "b", now), Turn::Leave { is_news: false });
        assert_eq!(first.turn(Some("a"), "a", now), Turn::Serve);
    }

    #[tokio::test]
    async fn one_that_does_not_answer_is_replaced() {
        let now = Instant::now();
        let mut second = Tenancy::default();
        assert_eq!(second.turn(Some("a"), "b", now), Turn::Ask);
        assert_eq!(second.turn(Some("b"), "b", now + ANSWERS_WITHIN), Turn::Serve);
        assert!(matches!(second, Tenancy::Holds { .. }));
    }

    /// One was away so long that the other one took over, and neither has heard of that.
    #[tokio::test]
    async fn of_two_that_both_think_that_they_serve_one_gives_way() {
        let now = Instant::now();
        let (mut first, mut second) = (Tenancy::default(), Tenancy::default());
        first.turn(Some("a"), "a", now);
        second.turn(Some("b"), "b", now);
        let (mut named, mut writes) = ("b", 0);
        loop {
            match (first.turn(Some(named), "a", now), second.turn(Some("a"), "b", now)) {
                (Turn::Answer, Turn::Answer) => named = "b",
                (LEAVE, _) | (_, LEAVE) => break,
                turns => panic!("{turns:?}"),
            }
            // Each finds its own name now and then: that is no end of the quarrel.
            first.turn(Some("a"), "a", now);
            second.turn(Some("b"), "b", now);
            writes += 1;
        }
        assert!(writes <= DISPUTES + 1, "{writes}");
    }
}

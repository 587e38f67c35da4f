//! One line when a channel's replies begin not to be delivered and one when that is over, for each code.
//!
//! Takes what is not delivered, gives what is worth a line: the first one of a channel and code, and
//! after a minute without another how many there were. Codes that this version does not know are one,
//! so a channel has no more of them than this version knows, and whoever invents codes mutes nobody. Never
//! gives a line for each of them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::outbound::twilio::classify::classify_code;

/// Time without another one after which it is over.
const QUIET: Duration = Duration::from_secs(60);

/// What is open. Names are `namespace/name`.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<(String, Reason), Trouble>);

/// What Twilio said of a reply that is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Nothing,
    Known(u32),
    Other,
}

/// A trouble that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) channel: String,
    pub(super) code: Option<u32>,
    /// How many replies there were.
    pub(super) replies: u64,
    /// From the first to the last.
    pub(super) lasted: Duration,
}

#[derive(Debug)]
struct Trouble {
    /// The code that it began with.
    code: Option<u32>,
    began: Instant,
    last: Instant,
    replies: u64,
}

impl Reason {
    fn of(code: Option<u32>) -> Self {
        match code {
            None => Self::Nothing,
            Some(code) if classify_code(code).is_some() => Self::Known(code),
            Some(_) => Self::Other,
        }
    }
}

impl Told {
    /// Whether this one is worth a line.
    pub(super) fn is_first(&mut self, channel: &str, code: Option<u32>, now: Instant) -> bool {
        let key = (channel.to_owned(), Reason::of(code));
        if let Some(trouble) = self.0.get_mut(&key) {
            trouble.last = now;
            trouble.replies += 1;
            return false;
        }
        self.0.insert(key, Trouble { code, began: now, last: now, replies: 1 });
        true
    }

    /// What is over by now.
    pub(super) fn over(&mut self, now: Instant) -> Vec<Over> {
        let over = self.0.extract_if(.., |_, trouble| now.duration_since(trouble.last) >= QUIET);
        over.map(|((channel, _), Trouble { code, began, last, replies })| Over {
            channel,
            code,
            replies,
            lasted: last.duration_since(began),
        })
        .collect()
    }

    /// When to look again; none while nothing is open.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|trouble| trouble.last + QUIET).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Over, Told};

    #[test]
    fn ten_thousand_of_a_kind_are_two_lines() {
        let (mut told, began) = (Told::default(), Instant::now());
        let at = |ms| began + Duration::from_millis(ms);
        let first = (0..10_000).filter(|ms| told.is_first("shop/care", Some(63_016), at(*ms)));
        assert_eq!(first.count(), 1);
        assert_eq!(told.over(at(69_998)), []);
        assert_eq!(told.next(), Some(at(69_999)));
        let over = Over {
            channel: "shop/care".to_owned(),
            code: Some(63_016),
            replies: 10_000,
            lasted: Duration::from_millis(9_999),
        };
        assert_eq!(told.over(at(69_999)), [over]);
        assert_eq!((told.over(at(80_000)), told.next()), (Vec::new(), None));
        assert!(told.is_first("shop/care", Some(63_016), at(80_000)), "it begins anew");
    }

    #[test]
    fn channels_and_codes_are_told_of_by_themselves() {
        let (mut told, now) = (Told::default(), Instant::now());
        for (channel, code) in [("a/b", Some(63_016)), ("a/b", None), ("a/c", Some(63_016))] {
            assert!(told.is_first(channel, code, now));
        }
    }

    #[test]
    fn invented_codes_are_one_line_and_mute_no_other() {
        let (mut told, now) = (Told::default(), Instant::now());
        let many = (1..2_000).map(|code| 900_000 + code);
        assert_eq!(many.filter(|code| told.is_first("a/b", Some(*code), now)).count(), 1);
        assert!(told.is_first("a/b", Some(63_016), now), "a known code of the same channel");
        assert!(told.is_first("a/c", Some(900_001), now), "another channel");
    }
}

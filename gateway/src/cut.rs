//! The local cut: a canary that fails everybody while nobody watches is left alone.
//!
//! Takes how attempts at a canary ended and whether the rescue helped; knows whether stable serves
//! its bucket by itself for now. Only when no control request has come for long and five attempts in
//! a row failed while each rescue succeeded; the next request ends it. What stable answers meanwhile
//! is no evidence. Each replica finds out for itself.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kanarie_words::ids::{ChannelUid, RevisionName};
use tokio::time::Instant;

use crate::silence::Silence;

/// Failures in a row, each of them rescued.
const IN_A_ROW: u32 = 5;

/// The canaries that fail, and whether somebody watches.
#[derive(Debug)]
pub struct Cuts {
    silence: Silence,
    failing: Mutex<HashMap<ChannelUid, (RevisionName, u32)>>,
}

impl Cuts {
    /// Knows of no failure yet.
    pub fn new(silence: Silence) -> Self {
        Self { silence, failing: Mutex::default() }
    }

    /// Whether somebody watches.
    pub fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Whether stable serves the bucket of this canary by itself.
    pub fn is_cut(&self, channel: &ChannelUid, canary: &RevisionName, now: Instant) -> bool {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let fails = failing.get(channel).is_some_and(|(of, row)| of == canary && *row >= IN_A_ROW);
        fails && self.silence.is_long(now)
    }

    /// Takes the end of an attempt at a canary: whether it failed and stable's answer helped.
    pub fn learn(&self, channel: &ChannelUid, canary: &RevisionName, rescued: bool) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if !rescued {
            failing.remove(channel);
            return;
        }
        let (of, row) = failing.entry(channel.clone()).or_insert_with(|| (canary.clone(), 0));
        if of != canary {
            (*of, *row) = (canary.clone(), 0);
        }
        *row = row.saturating_add(1);
    }

    /// The channels whose canary is cut now.
    pub fn all(&self, now: Instant) -> Vec<ChannelUid> {
        if !self.silence.is_long(now) {
            return Vec::new();
        }
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = failing.iter().filter(|(_, (_, row))| *row >= IN_A_ROW);
        cut.map(|(channel, _)| channel.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use kanarie_words::ids::ChannelUid;

    use super::Cuts;
    use crate::silence::Silence;
    use crate::store::fleet::Asked;

    fn failing(times: u32, now: Instant) -> (Cuts, Silence) {
        let silence = Silence::begin(now);
        let cuts = Cuts::new(silence.clone());
        (0..times).for_each(|_| cuts.learn(&id("u"), &id("r2"), true));
        (cuts, silence)
    }

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    #[test]
    fn five_rescued_failures_in_a_long_silence_cut_the_canary_off() {
        let now = Instant::now() + Duration::from_secs(100);
        let silent = now + Duration::from_secs(31);
        let (cuts, _) = failing(4, now);
        assert!(!cuts.is_cut(&id("u"), &id("r2"), silent), "four are not enough");
        cuts.learn(&id("u"), &id("r2"), true);
        assert!(!cuts.is_cut(&id("u"), &id("r2"), now), "somebody may still watch");
        assert!(cuts.is_cut(&id("u"), &id("r2"), silent));
        assert!(!cuts.is_cut(&id("u"), &id("r3"), silent), "another canary has not failed");
        assert_eq!(cuts.all(silent), [id::<ChannelUid>("u")]);
    }

    #[test]
    fn a_success_or_a_rescue_that_failed_too_begins_anew() {
        let now = Instant::now() + Duration::from_secs(100);
        let (cuts, _) = failing(5, now);
        cuts.learn(&id("u"), &id("r2"), false);
        assert!(!cuts.is_cut(&id("u"), &id("r2"), now + Duration::from_secs(31)));
    }

    #[test]
    fn the_next_control_request_ends_the_cut() {
        let now = Instant::now() + Duration::from_secs(100);
        let (cuts, silence) = failing(5, now);
        let silent = now + Duration::from_secs(31);
        silence.learn(Some(Asked { age_ms: 0, gap_ms: 10_000 }), silent);
        assert!(!cuts.is_cut(&id("u"), &id("r2"), silent));
    }
}

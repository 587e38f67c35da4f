//! How long those have waited that were put back: the oldest message of each channel, as far as this
//! replica knows.
//!
//! Takes the age of a head that is put back and for how long it is known to wait, gives ages. What was not
//! heard of for a while after that is forgotten: another replica may have answered it. Holds one message a
//! channel, and never which one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kanarie_words::ids::ChannelUid;
use tokio::time::Instant;

/// Time after its pause until a head that nobody claimed here is forgotten.
const SLACK: Duration = Duration::from_secs(15);

/// The oldest ones.
#[derive(Debug, Default)]
pub(crate) struct PutBack(Mutex<HashMap<ChannelUid, Oldest>>);

#[derive(Clone, Copy, Debug)]
struct Oldest {
    age: Duration,
    at: Instant,
    until: Instant,
}

impl PutBack {
    /// A head of this age is put back at `now` for so long.
    pub(crate) fn note(&self, channel: &ChannelUid, age: Duration, pause: Duration, now: Instant) {
        let noted = Oldest { age, at: now, until: now + pause + SLACK };
        let mut oldest = self.lock();
        let known = oldest.entry(channel.clone()).or_insert(noted);
        // Its ages are of whole milliseconds: the same one comes back a little younger or older.
        if known.until <= now || known.age_at(now) <= age + SLACK {
            *known = noted;
        }
    }

    /// What waits for an agent of this channel is made ready.
    pub(crate) fn forget(&self, channel: &ChannelUid) {
        self.lock().remove(channel);
    }

    /// The ages of those that are known to wait.
    pub(crate) fn ages(&self, now: Instant) -> Vec<(ChannelUid, Duration)> {
        let mut oldest = self.lock();
        oldest.retain(|_, known| now < known.until);
        oldest.iter().map(|(channel, known)| (channel.clone(), known.age_at(now))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelUid, Oldest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Oldest {
    fn age_at(&self, now: Instant) -> Duration {
        self.age + now.duration_since(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kanarie_words::ids::ChannelUid;
    use tokio::time::Instant;

    use super::PutBack;

    fn seconds(of: u64) -> Duration {
        Duration::from_secs(of)
    }

    #[test]
    fn the_oldest_of_a_channel_counts_and_grows_older() {
        let (put_back, now) = (PutBack::default(), Instant::now());
        let channel: ChannelUid = "one".parse().unwrap();
        put_back.note(&channel, seconds(100), seconds(60), now);
        put_back.note(&channel, seconds(5), seconds(60), now);
        let later = now + seconds(10);
        assert_eq!(put_back.ages(later), [(channel.clone(), seconds(110))]);
        put_back.note(&channel, seconds(300), seconds(60), later);
        assert_eq!(put_back.ages(later), [(channel, seconds(300))]);
    }

    #[test]
    fn what_was_not_heard_of_is_forgotten_and_makes_room_for_a_younger_one() {
        let (put_back, now) = (PutBack::default(), Instant::now());
        let channel: ChannelUid = "one".parse().unwrap();
        put_back.note(&channel, seconds(100), seconds(1), now);
        let later = now + seconds(16);
        assert_eq!(put_back.ages(later), []);
        put_back.note(&channel, seconds(100), seconds(1), now);
        put_back.note(&channel, seconds(5), seconds(1), later);
        assert_eq!(put_back.ages(later), [(channel.clone(), seconds(5))]);
        put_back.forget(&channel);
        assert_eq!(put_back.ages(later), []);
    }
}

//! The time of a shard, and what a clock that was put back leaves behind.
//!
//! Takes the clock of a verb; gives the shard's time. A clock a little behind is waited for, so that
//! time stands still for a minute at most; one further behind is believed, and what was stamped ahead
//! of it is stamped anew: a lease ends no later than its length from now, and delays and probes are
//! moved by as much as the clock was. Of no mark is the age known then. Never shortens what a message is
//! owed.

use kanarie_words::Millis;
use kanarie_words::ids::ConversationId;

use crate::intent::AGELESS_MS;
use crate::lease::Park;
use crate::shard::{Key, Place, Shard};

/// How long a shard's time stands still at most while its clock is behind. Whoever measures an age on
/// that time is wrong by no more.
pub const STANDS_MS: u64 = 60_000;

/// The time by a clock, after a change that was made at `last`: never before that, unless the clock was put
/// back by more than is waited for.
pub(crate) fn believed(last: Millis, clock: Millis) -> Millis {
    if last.saturating_sub(clock) > STANDS_MS { clock } else { clock.max(last) }
}

/// Dead letters that one call brings back at most.
const BROUGHT_BACK: usize = 100;

impl Shard {
    /// The shard's time: never before what a change has seen, unless the clock was put back by more
    /// than a shard waits for.
    pub(crate) fn time(&mut self, clock: Millis) -> Millis {
        let now = believed(self.now, clock);
        if now < self.now {
            self.put_back(now, self.now - now);
        }
        now
    }

    /// Notes the time of a change.
    pub(crate) fn touch(&mut self, now: Millis) {
        if now > self.now {
            self.now = now;
            self.dirty.insert(Key::Meta);
        }
    }

    /// Makes the oldest letters that are ahead of the time, and so of a clock that was put back, end now, a
    /// hundred a call: ids still grow with time.
    pub(crate) fn bring_back_letters(&mut self, now: Millis) {
        let ahead = self.dead.iter().rev().take_while(|(_, letter)| letter.at > now);
        let ahead: Vec<u64> = ahead.map(|(id, _)| *id).collect();
        for id in ahead.into_iter().rev().take(BROUGHT_BACK) {
            let Some(letter) = self.dead.get_mut(&id) else { continue };
            letter.at = now;
            self.dirty.insert(Key::Dead(id));
        }
    }

    /// Believes a clock that is so far behind.
    fn put_back(&mut self, now: Millis, ahead_ms: u64) {
        self.now = now;
        self.dirty.insert(Key::Meta);
        self.shorten_leases(now);
        let due = |until: Millis| until.saturating_sub(ahead_ms).max(now);
        let delayed: Vec<ConversationId> = self
            .delayed
            .iter()
            .filter(|(until, _)| *until > now)
            .map(|(_, id)| id.clone())
            .collect();
        for id in delayed {
            let place = self.conversations.get(&id).map(|conversation| conversation.place.clone());
            if let Some(Place::Delayed { until, park }) = place {
                self.put(&id, Place::Delayed { until: due(until), park });
            }
        }
        let ahead = self.probes.iter().filter(|(_, at)| **at > now);
        let ahead: Vec<(Park, Millis)> = ahead.map(|(park, at)| (park.clone(), due(*at))).collect();
        for (park, at) in ahead {
            self.dirty.insert(Key::Probe(park.clone()));
            self.probes.insert(park, at);
        }
        self.age_marks(now);
    }

    fn shorten_leases(&mut self, now: Millis) {
        let leased: Vec<ConversationId> = self.leased.iter().map(|(_, id)| id.clone()).collect();
        for id in leased {
            let place = self.conversations.get(&id).map(|conversation| conversation.place.clone());
            let Some(Place::Leased { nonce, until, lease_ms }) = place else { continue };
            let latest = now.saturating_add(lease_ms);
            if until > latest {
                self.put(&id, Place::Leased { nonce, until: latest, lease_ms });
            }
        }
    }

    /// Nobody knows how much time went by since the last change, nor how long the clock was wrong: a
    /// mark that looks young may be old. None of them limits how far back its message is looked for.
    fn age_marks(&mut self, now: Millis) {
        let long_ago = now.saturating_sub(AGELESS_MS);
        for (id, conversation) in &mut self.conversations {
            let intent = conversation.progress.intent.as_mut();
            let Some(sending) = intent.and_then(|intent| intent.sending.as_mut()) else { continue };
            if sending.at > long_ago || sending.missed_at.is_some() {
                sending.at = sending.at.min(long_ago);
                sending.missed_at = None;
                self.dirty.insert(Key::Intent(id.clone()));
            }
        }
    }
}

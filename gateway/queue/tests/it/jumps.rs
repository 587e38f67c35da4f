//! A clock that is set a day ahead and put back again, and what the account makes of it.

use crate::account::{DEDUP_MS, World};
use crate::schedule::WINDOW_MS;
use crate::words::{DAY, LEASE_MS};

impl World {
    /// The clock is set a day ahead, or put back: what was remembered until then is forgotten, what is
    /// stamped ahead of it then is as old as it was, but for the marks.
    pub(crate) fn jump(&mut self) {
        self.is_ahead = !self.is_ahead;
        if self.is_ahead {
            self.now += DAY;
            self.sweep();
            let now = self.now;
            for (id, stamps) in &mut self.stamps {
                let old = stamps.extract_if(.., |stamp| *stamp + WINDOW_MS <= now);
                self.unsure_stamps.entry(id.clone()).or_default().extend(old);
            }
            return;
        }
        // Forgotten by the clock that was ahead, or not yet: either is right.
        let over = self.admitted.iter().filter(|(_, at)| **at + DEDUP_MS <= self.now);
        self.unsure.extend(over.map(|(sid, _)| *sid));
        self.now -= DAY;
        self.sweep();
        let now = self.now;
        self.leases.values_mut().for_each(|(_, until)| {
            // One that had run out may be over already, unseen here.
            let is_over = *until <= now + DAY;
            *until = if is_over { now } else { (*until).min(now + LEASE_MS) };
        });
        let marks = self.workers.iter_mut().flatten().filter_map(|held| held.marked.as_mut());
        let marked = marks.map(|(_, at)| at);
        // Nothing of the right clock is so far ahead.
        let ahead = marked.chain(self.posts.values_mut()).filter(|at| **at > now + DAY / 2);
        ahead.for_each(|at| *at -= DAY);
    }
}

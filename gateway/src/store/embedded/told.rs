//! What is said about the room of the store: at its end once, and once when there is room again.
//!
//! Takes the machine after each batch, gives events. Never says the same thing twice in a row.

use kanarie_queue::queue::Queue;
use kanarie_words::Millis;

use crate::events::emit;
use crate::events::store::StoreEvent;

/// SIDs that go early again after so long are news.
const QUIET_MS: u64 = 3_600_000;

/// What was said last.
#[derive(Default)]
pub(super) struct Told {
    is_full: bool,
    is_short: bool,
    /// When SIDs last went before their time.
    forgot_at: Option<Millis>,
}

impl Told {
    /// Says what is news.
    pub(super) fn tell(&mut self, queue: &mut Queue, is_short: bool, now: Millis) {
        if is_short != std::mem::replace(&mut self.is_short, is_short) {
            emit(if is_short { StoreEvent::DiskShort } else { StoreEvent::DiskHasRoom });
        }
        let is_full = queue.is_full();
        if is_full != std::mem::replace(&mut self.is_full, is_full) {
            let (bytes, sids) = queue.taken();
            let news = StoreEvent::MemoryFull { bytes, sids };
            emit(if is_full { news } else { StoreEvent::MemoryHasRoom { bytes, sids } });
        }
        let count = queue.take_forgotten();
        if count > 0 {
            let last = self.forgot_at.replace(now);
            let begins = last.is_none_or(|last| now.abs_diff(last) > QUIET_MS);
            emit(StoreEvent::SidsForgotten { count, begins });
        }
    }
}

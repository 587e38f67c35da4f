//! Which channels hold as much of the queue as they may: one tenant's trouble is its own.
//!
//! Takes what each channel has waiting, as the store sums it up every two seconds while anything happens
//! here, and the bounds; knows which channels are over one. Says when a channel comes to a bound and when it is under it
//! again, not once a message. Lags by one look, so a channel may overrun by what comes in that time;
//! never decides about the queue as a whole, whose own bounds are the store's.
//!
//! A channel's conversations lie in all shards, so an exact bound needs a row that each of its
//! admissions writes: in Redis another slot, another trip and no atomicity. What comes between two
//! looks is harmless, for the bounds are far below what a store holds. A thirty-second of the bound
//! for each shard would be exact, and a channel with one busy shard full at three percent. Below
//! nine tenths of a bound there is room again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use kanarie_metrics::label::Label as _;
use kanarie_queue::dead::{Load, SumLoads};
use kanarie_words::ids::ChannelUid;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::events::{Event, emit};
use crate::labels::Bound;
use crate::routes::table::RouteTable;
use crate::store::SharedStore;

/// What one channel may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages that wait.
    pub messages: u64,
    /// Bytes of those messages.
    pub bytes: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// Asks the store until `shutdown` says true: every two seconds while something was admitted, buried
/// or erased here since the last look or a channel is at a bound, every half a minute while anything waits, else every
/// five minutes. Without an answer what was known stays: the heartbeat says that the store is away.
pub async fn watch(
    store: SharedStore,
    bounds: Bounds,
    full: FullChannels,
    routes: Arc<RouteTable>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut unlooked = 0;
    while !*shutdown.borrow() {
        unlooked += 1;
        let longest = if full.has_waiting() { WAITING } else { AT_REST };
        if full.is_stirred() || unlooked >= longest {
            unlooked = 0;
            if let Ok(loads) = store.run(SumLoads).await {
                full.take(&loads, bounds, &routes);
            }
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Every how many of them one is taken while things only wait: what waits may end anywhere.
const WAITING: u32 = 15;
/// The same while nothing happens here: others may fill a channel too.
const AT_REST: u32 = 150;

/// The channels that are at a bound. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FullChannels {
    at: Arc<ArcSwap<BTreeSet<(Bound, ChannelUid)>>>,
    loads: Arc<ArcSwap<Vec<Load>>>,
    stirred: Arc<AtomicBool>,
}

impl Default for FullChannels {
    /// Nothing is known yet, so the first look is due.
    fn default() -> Self {
        Self { at: Arc::default(), loads: Arc::default(), stirred: Arc::new(AtomicBool::new(true)) }
    }
}

impl FullChannels {
    /// Something was admitted, buried, replayed or erased here, or may have been.
    pub fn stir(&self) {
        self.stirred.store(true, Ordering::Relaxed);
    }

    /// Whether a channel may have come to a bound, or from one, since this was last asked.
    fn is_stirred(&self) -> bool {
        self.stirred.swap(false, Ordering::Relaxed) || !self.at.load().is_empty()
    }

    /// What every channel held at the last look.
    pub fn loads(&self) -> Arc<Vec<Load>> {
        self.loads.load_full()
    }

    /// Whether anything waited at the last look.
    fn has_waiting(&self) -> bool {
        self.loads.load().iter().any(|load| load.messages > 0)
    }

    /// Whether the channel has no room for another message.
    pub fn is_full(&self, channel: &ChannelUid) -> bool {
        self.is_at(Bound::Messages, channel) || self.is_at(Bound::Bytes, channel)
    }

    /// Whether the channel has no room for another dead letter.
    pub fn is_full_of_dead_letters(&self, channel: &ChannelUid) -> bool {
        self.is_at(Bound::DeadLetters, channel)
    }

    /// Takes what every channel holds now, and says what is news. A channel that holds nothing may
    /// be missing.
    pub fn take(&self, loads: &[Load], bounds: Bounds, routes: &RouteTable) {
        let before = self.at.load();
        let mut now = BTreeSet::new();
        for load in loads {
            for bound in Bound::ALL {
                let at = (*bound, load.channel.clone());
                if is_reached(*bound, load, bounds, before.contains(&at)) {
                    now.insert(at);
                }
            }
        }
        for (bound, channel) in now.difference(&before) {
            emit(Event::ChannelFull { channel: name(channel, routes), bound: *bound });
        }
        for (bound, channel) in before.difference(&now) {
            emit(Event::ChannelHasRoom { channel: name(channel, routes), bound: *bound });
        }
        self.at.store(Arc::new(now));
        self.loads.store(Arc::new(loads.to_vec()));
    }

    fn is_at(&self, bound: Bound, channel: &ChannelUid) -> bool {
        let full = self.at.load();
        // Nearly always there is none, and nothing to make a key for.
        !full.is_empty() && full.contains(&(bound, channel.clone()))
    }
}

/// Reached at the bound and left at nine tenths of it: at the edge a channel would come and go with
/// every look.
fn is_reached(bound: Bound, load: &Load, bounds: Bounds, was_reached: bool) -> bool {
    let (held, most) = match bound {
        Bound::Messages => (load.messages, bounds.messages),
        Bound::Bytes => (load.bytes, bounds.bytes),
        Bound::DeadLetters => (load.dead_letters, bounds.dead_letters),
    };
    held >= if was_reached { most - most / 10 } else { most }
}

/// For people: a channel without a route has its UID only.
fn name(channel: &ChannelUid, routes: &RouteTable) -> String {
    routes.name_of(channel).unwrap_or_else(|| channel.to_string())
}

#[cfg(test)]
mod tests {
    use kanarie_queue::dead::Load;
    use kanarie_words::ids::ChannelUid;

    use super::{Bounds, FullChannels};
    use crate::routes::table::RouteTable;

    const BOUNDS: Bounds = Bounds { messages: 100, bytes: 1_000, dead_letters: 10 };

    /// What becomes of a channel that holds so much, look by look.
    fn looks(held: &[[u64; 3]]) -> Vec<(bool, bool)> {
        let (full, routes) = (FullChannels::default(), RouteTable::default());
        let channel = ChannelUid::parse("uid").unwrap();
        held.iter()
            .map(|[messages, bytes, dead_letters]| {
                let (messages, bytes, dead_letters) = (*messages, *bytes, *dead_letters);
                let load = Load { channel: channel.clone(), messages, bytes, dead_letters };
                full.take(&[load], BOUNDS, &routes);
                (full.is_full(&channel), full.is_full_of_dead_letters(&channel))
            })
            .collect()
    }

    #[test]
    fn a_channel_is_full_at_either_bound_of_what_waits() {
        assert_eq!(looks(&[[99, 999, 0]]), [(false, false)]);
        assert_eq!(looks(&[[100, 0, 0]]), [(true, false)]);
        assert_eq!(looks(&[[0, 1_000, 0]]), [(true, false)]);
    }

    #[test]
    fn dead_letters_refuse_no_message() {
        assert_eq!(looks(&[[0, 0, 9], [0, 0, 10]]), [(false, false), (false, true)]);
    }

    #[test]
    fn a_full_channel_has_room_again_under_nine_tenths() {
        let full: Vec<bool> =
            looks(&[[100, 0, 0], [90, 0, 0], [89, 0, 0], [99, 0, 0]]).iter().map(|l| l.0).collect();
        assert_eq!(full, [true, true, false, false]);
    }

    #[test]
    fn a_channel_that_holds_nothing_any_more_has_room() {
        let (full, routes) = (FullChannels::default(), RouteTable::default());
        let (one, other) = (ChannelUid::parse("one").unwrap(), ChannelUid::parse("two").unwrap());
        let load = Load { channel: one.clone(), messages: 100, bytes: 0, dead_letters: 0 };
        full.take(&[load], BOUNDS, &routes);
        assert!(full.is_full(&one) && !full.is_full(&other));
        full.take(&[], BOUNDS, &routes);
        assert!(!full.is_full(&one));
    }
}

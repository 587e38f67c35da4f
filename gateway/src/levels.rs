//! How things stand, for whoever looks at `/metrics`: turns, what waits, breakers, lanes of the store.
//!
//! Takes the second line, once it runs, and what the store summed up last; gives numbers by the name of a
//! channel. Channels without a route are one. Reads what is there anyway, and only when somebody looks.
//! Never keeps the second line alive.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use kanarie_queue::dead::Load;
use kanarie_words::ids::ChannelUid;

use crate::routes::table::RouteTable;

/// What all channels without a route are called.
pub const GONE: &str = "gone";

/// How the second line stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundLevels {
    /// Turns that have a place.
    pub turns: u64,
    /// Ages of messages that it works on, or has put back.
    pub ages: Vec<(ChannelUid, Duration)>,
    /// Channels whose stable agent is left alone.
    pub left_alone: Vec<ChannelUid>,
}

/// How the store stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreLevels {
    /// Connections that can be used.
    pub lanes: u64,
    /// Whether nothing is known that it lacks to keep what it accepted.
    pub is_durable: bool,
}

/// What can be asked how it stands.
pub trait Levelled: Send + Sync {
    /// As it is now.
    fn levels(&self) -> OutboundLevels;
}

/// The way to the second line. Cheap to clone.
#[derive(Clone, Default)]
pub struct Levels(Arc<OnceLock<Weak<dyn Levelled>>>);

/// Everything, by the names of channels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Turns that have a place here.
    pub turns: u64,
    /// Connections to the store that can be used.
    pub lanes: u64,
    /// 0 when the store has said that it may lose what it accepted, else 1.
    pub durable: u64,
    /// Age of the oldest message that this replica works on or has put back, in seconds.
    pub oldest: BTreeMap<String, f64>,
    /// Channels whose stable agent is left alone here: 1 each.
    pub left_alone: BTreeMap<String, f64>,
    /// Messages that wait in the whole fleet.
    pub waiting: BTreeMap<String, f64>,
    /// Dead letters of the whole fleet.
    pub dead_letters: BTreeMap<String, f64>,
}

impl Levels {
    /// From now on there is a second line, as long as somebody holds it.
    pub fn open(&self, line: &Arc<impl Levelled + 'static>) {
        let line: Weak<dyn Levelled> = Arc::downgrade(line) as Weak<dyn Levelled>;
        // A second line that is started twice keeps its first levels.
        let _ = self.0.set(line);
    }

    /// As it is now; nothing without a second line.
    pub fn read(&self) -> OutboundLevels {
        let line = self.0.get().and_then(Weak::upgrade);
        line.map(|line| line.levels()).unwrap_or_default()
    }
}

impl Standing {
    /// All of it by the names that the routes give the channels.
    pub fn of(
        line: OutboundLevels,
        loads: &[Load],
        store: StoreLevels,
        routes: &RouteTable,
    ) -> Self {
        let StoreLevels { lanes, is_durable } = store;
        let durable = is_durable.into();
        let mut all = Self { turns: line.turns, lanes, durable, ..Self::default() };
        let name =
            |channel: &ChannelUid| routes.name_of(channel).unwrap_or_else(|| GONE.to_owned());
        for (channel, age) in &line.ages {
            let oldest = all.oldest.entry(name(channel)).or_default();
            *oldest = oldest.max(age.as_secs_f64());
        }
        for channel in &line.left_alone {
            *all.left_alone.entry(name(channel)).or_default() += 1.0;
        }
        for load in loads {
            for (of, number) in
                [(&mut all.waiting, load.messages), (&mut all.dead_letters, load.dead_letters)]
            {
                if number > 0 {
                    *of.entry(name(&load.channel)).or_default() += number as f64;
                }
            }
        }
        all
    }
}

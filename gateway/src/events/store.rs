//! What happens to the store of one machine, as events.
//!
//! Takes counts, bytes and times, gives lines and numbers. Never holds a SID.

use std::time::Duration;

use kanarie_metrics::page::MetricsPage;
use kanarie_metrics::series::Counter;

/// One thing that happened to the store.
#[derive(Clone, Debug)]
pub enum StoreEvent {
    /// It is open.
    Opened {
        /// How many rows were read.
        rows: u64,
        /// How long that took.
        took: Duration,
    },
    /// It holds as much memory as it may: nothing is admitted.
    MemoryFull {
        /// Bytes that it holds.
        bytes: u64,
        /// SIDs among it.
        sids: u64,
    },
    /// It has room again.
    MemoryHasRoom {
        /// Bytes that it holds.
        bytes: u64,
        /// SIDs among it.
        sids: u64,
    },
    /// Its disk has no more than the reserve free: nothing is admitted.
    DiskShort,
    /// There is room on the disk again.
    DiskHasRoom,
    /// Its file was mostly free and is shorter now.
    Compacted {
        /// Bytes that it had.
        from: u64,
        /// Bytes that it has.
        to: u64,
        /// How long that took.
        took: Duration,
    },
    /// Its file is mostly free and stays so for now.
    NotCompacted {
        /// Why.
        error: String,
    },
    /// SIDs were forgotten before their time.
    SidsForgotten {
        /// How many.
        count: u64,
        /// Whether that is news.
        begins: bool,
    },
}

/// What is counted of it.
pub(super) struct StoreMetrics {
    sids_forgotten: Counter,
}

impl StoreMetrics {
    pub(super) fn new(page: &MetricsPage) -> Self {
        Self {
            sids_forgotten: page.counter(
                "kanarie_sids_forgotten_early_total",
                "SIDs that the embedded store forgot before their time, for want of memory.",
            ),
        }
    }

    pub(super) fn count(&self, event: &StoreEvent) {
        if let StoreEvent::SidsForgotten { count, .. } = event {
            self.sids_forgotten.inc_by(*count);
        }
    }
}

impl StoreEvent {
    pub(super) fn log(&self) {
        match self {
            Self::Opened { rows, took } => {
                let took_ms = took.as_millis();
                tell!(INFO, rows, took_ms, "the store is open");
            }
            Self::MemoryFull { bytes, sids } => tell!(
                ERROR,
                bytes,
                sids,
                "the store holds as much memory as --store-memory allows: messages are refused until some are \
                 answered"
            ),
            Self::MemoryHasRoom { bytes, sids } => {
                tell!(WARN, bytes, sids, "the store has room for messages again");
            }
            Self::DiskShort => tell!(
                ERROR,
                "the disk of the store is nearly full: messages are refused, and what was accepted is finished \
                 from a reserve"
            ),
            Self::DiskHasRoom => {
                tell!(WARN, "the disk of the store has room for messages again");
            }
            Self::Compacted { from, to, took } => {
                let took_ms = took.as_millis();
                tell!(
                    INFO,
                    from,
                    to,
                    took_ms,
                    "the store's file was mostly free and is shorter now"
                );
            }
            Self::NotCompacted { error } => tell!(
                WARN,
                error,
                "the store's file is mostly free and cannot be made shorter now: nothing is lost, and it is tried \
                 again in an hour"
            ),
            Self::SidsForgotten { count, begins: true } => tell!(
                WARN,
                count,
                "the oldest SIDs are forgotten before their time, since all of them take more than half of \
                 --store-memory: a repetition of a message that is so old would be answered again. This is said \
                 once, and kanarie_sids_forgotten_early_total counts on"
            ),
            Self::SidsForgotten { .. } => {}
        }
    }
}

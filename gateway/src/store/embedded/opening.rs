//! How far the opening of the store is, for whoever is asked meanwhile.
//!
//! Takes what the thread that opens it has done, gives that in words; takes the word to stop, gives it to
//! that thread. Never waits.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An opening that goes on, or is over.
#[derive(Debug, Default)]
pub struct Opening {
    rows: AtomicU64,
    read: AtomicU64,
    /// Of a thousand; what is left of it counts for nothing once rows are read.
    checked: AtomicU64,
    compacts: AtomicBool,
    stopped: AtomicBool,
}

impl Opening {
    /// Nobody waits for it any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The database looks through its file, as it does after a process that did not close it.
    pub(super) fn checking(&self, done: f64) {
        let done = u64::try_from((done * 1_000.0) as i64).unwrap_or_default();
        self.checked.store(done, Ordering::Relaxed);
    }

    /// So many rows are to be read.
    pub(super) fn begin(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    /// So many are read.
    pub(super) fn reached(&self, read: u64) {
        self.read.store(read, Ordering::Relaxed);
    }

    /// All are read, and the file is made shorter.
    pub(super) fn compacting(&self) {
        self.compacts.store(true, Ordering::Relaxed);
    }

    /// How many rows were read.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, checked) =
            (self.rows.load(Ordering::Relaxed), self.checked.load(Ordering::Relaxed));
        if self.compacts.load(Ordering::Relaxed) {
            return f.write_str("the store's file is being compacted");
        }
        match (rows, checked) {
            (0, 0) => f.write_str("the store is being opened"),
            (0, done) => {
                write!(f, "the store's file is being checked, {} % done", done / 10)
            }
            _ => write!(f, "the store is loading, {} of {rows} rows read", self.read()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Opening;

    #[test]
    fn it_says_how_far_it_is() {
        let opening = Opening::default();
        assert_eq!(opening.to_string(), "the store is being opened");
        opening.checking(0.3);
        assert_eq!(opening.to_string(), "the store's file is being checked, 30 % done");
        opening.begin(3_000);
        opening.reached(1_024);
        assert_eq!(opening.to_string(), "the store is loading, 1024 of 3000 rows read");
        opening.compacting();
        assert_eq!(opening.to_string(), "the store's file is being compacted");
    }
}

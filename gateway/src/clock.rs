//! The wall clock of this process.
//!
//! Takes nothing; gives Unix milliseconds. Used for stamps and by the embedded store; a store with a
//! clock of its own is never asked with this one. Never monotonic: spans are measured otherwise.

use std::sync::Arc;
use std::time::Duration;

use kanarie_words::Millis;

/// Gives the time in Unix milliseconds. The machine never lets it go back.
pub type WallClock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The clock of the machine.
pub fn system_clock() -> WallClock {
    Arc::new(|| {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that gives the store its time"
        )]
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        millis(since)
    })
}

/// A span as a number that a log writes as one: in JSON, 128 bits are a text.
pub fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}

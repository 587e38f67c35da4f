//! Health: whether a watch tells what happens.
//!
//! Takes each error of a watch and each sign that it is well; says once in the log what is wrong, and whether it
//! has been wrong for so long that nobody can rely on what it told. A watch that goes on after an error says
//! nothing until something happens, so it is taken for well when no error has come for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a watch fails until it is said to tell nothing.
const DARK: Duration = Duration::from_secs(60);
/// How long after its last error a watch is taken for well: it is tried again every few seconds, and each try
/// is given up after half a minute.
const OVER: Duration = Duration::from_secs(90);

/// How a watch is.
pub struct WatchHealth {
    /// What it watches, and where.
    what: String,
    trouble: Mutex<Option<Trouble>>,
}

/// Errors, one soon after the other.
struct Trouble {
    error: String,
    since: Instant,
    last: Instant,
}

impl WatchHealth {
    /// Of a watch that has not begun; `what` is as it is said to people.
    pub fn of(what: String) -> Self {
        Self { what, trouble: Mutex::default() }
    }

    /// It has told something.
    pub fn well(&self) {
        *self.lock() = None;
    }

    /// It has broken, and is tried again.
    pub fn broke(&self, error: String, now: Instant) {
        let mut trouble = self.lock();
        let before = trouble.take().filter(|before| !before.is_over(now));
        if before.as_ref().is_none_or(|before| before.error != error) {
            tracing::warn!(error, "{} cannot be watched", self.what);
        }
        let since = before.map_or(now, |before| before.since);
        *trouble = Some(Trouble { error, since, last: now });
    }

    /// What is wrong with it, if it has told nothing for a minute.
    pub fn dark(&self, now: Instant) -> Option<String> {
        let trouble = self.lock();
        let trouble = trouble.as_ref().filter(|trouble| !trouble.is_over(now));
        let dark = trouble.filter(|trouble| now.duration_since(trouble.since) >= DARK)?;
        Some(format!("{}: {}", self.what, dark.error))
    }

    /// The same of one that was never complete, however long that is.
    pub fn incomplete(&self) -> String {
        let trouble = self.lock();
        let why = trouble.as_ref().map(|trouble| trouble.error.as_str());
        format!("{}: {}", self.what, why.unwrap_or("the first list is not complete"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= OVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_dark_when_it_fails_for_a_minute_and_no_more_when_it_fails_no_more() {
        let (health, began) = (WatchHealth::of("the Secrets of shop".to_owned()), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let broke = |seconds| health.broke("forbidden".to_owned(), at(seconds));
        broke(0);
        assert_eq!(health.dark(at(59)), None, "it may be back at once");
        (1..=24).for_each(|number| broke(number * 5));
        assert_eq!(health.dark(at(121)).as_deref(), Some("the Secrets of shop: forbidden"));
        assert_eq!(health.dark(at(211)), None, "it goes on and has nothing to tell");
        broke(300);
        assert_eq!(health.dark(at(359)), None, "that is another time");
        broke(360);
        assert!(health.dark(at(361)).is_some());
        health.well();
        assert_eq!(health.dark(at(362)), None);
    }
}

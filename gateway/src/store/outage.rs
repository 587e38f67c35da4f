//! One line when the store begins to fail and one when it is well again, however many ask it.
//!
//! Takes what became of each question, gives the begin and the end of an outage as events. An outage
//! ends with the first answer after a quiet time: a store that fails now and then is one outage, not
//! hundreds. Never says anything about a question that was answered while all is well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::error::StoreError;

/// What is known about the store's failures.
#[derive(Debug, Default)]
pub struct Outages {
    /// Whether one is open, so that an answer costs no lock while all is well.
    open: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

/// The begin or the end of an outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutageChange {
    /// The first failure, as the store says it.
    Began(String),
    /// The store answers, and has for a while.
    Ended {
        /// Questions that were not answered.
        failures: u64,
        /// From the first failure to the last.
        lasted: Duration,
    },
}

#[derive(Debug)]
struct Outage {
    began: Instant,
    last: Instant,
    failures: u64,
}

/// Time without a failure after which an answer ends an outage.
const QUIET: Duration = Duration::from_secs(5);

impl Outages {
    /// What an answer, or a question without one, changes.
    pub fn note<T>(&self, answer: &Result<T, StoreError>, now: Instant) -> Option<OutageChange> {
        match answer {
            // A row that makes no sense is one conversation's trouble: the store is there.
            Ok(_) | Err(StoreError::Corrupt(_)) => self.answered(now),
            Err(error) => self.failed(error, now),
        }
    }

    fn failed(&self, error: &StoreError, now: Instant) -> Option<OutageChange> {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outage) = outage.as_mut() {
            (outage.failures, outage.last) = (outage.failures + 1, now);
            return None;
        }
        *outage = Some(Outage { began: now, last: now, failures: 1 });
        self.open.store(true, Ordering::Relaxed);
        Some(OutageChange::Began(error.to_string()))
    }

    fn answered(&self, now: Instant) -> Option<OutageChange> {
        if !self.open.load(Ordering::Relaxed) {
            return None;
        }
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = outage.take_if(|outage| now >= outage.last + QUIET)?;
        self.open.store(false, Ordering::Relaxed);
        let lasted = ended.last - ended.began;
        Some(OutageChange::Ended { failures: ended.failures, lasted })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{OutageChange, Outages, QUIET};
    use crate::store::error::StoreError;

    #[tokio::test(start_paused = true)]
    async fn an_outage_has_two_lines_and_the_second_one_counts() {
        let (outages, began) = (Outages::default(), Instant::now());
        let down = Err::<(), _>(StoreError::Unavailable("gone".to_owned()));
        assert_eq!(outages.note(&Ok(()), began), None);
        let said = "the store does not answer: gone".to_owned();
        assert_eq!(outages.note(&down, began), Some(OutageChange::Began(said)));
        for _ in 0..10_000 {
            assert_eq!(outages.note(&down, Instant::now()), None);
            assert_eq!(outages.note(&Ok(()), Instant::now()), None, "it flickers");
            advance(Duration::from_millis(1)).await;
        }
        advance(QUIET).await;
        let lasted = Duration::from_millis(9_999);
        let ended = OutageChange::Ended { failures: 10_001, lasted };
        assert_eq!(outages.note(&Ok(()), Instant::now()), Some(ended));
        assert_eq!(outages.note(&Ok(()), Instant::now()), None);
        assert!(outages.note(&down, Instant::now()).is_some(), "another one");
    }
}

//! The gate before the store: nobody at Twilio's end waits for a store that is down.
//!
//! Takes a question to the store, gives its answer or the reason there is none within a second.
//! After three failures in a row the store is asked four times a second only, and every other
//! question is refused at once. Never says yes to an answer that is lost: the repetition of a
//! message that was admitted all the same is a duplicate.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::error::StoreError;

/// What the inbound line knows about the store's health.
#[derive(Default)]
pub struct Gate(Mutex<Health>);

/// Longest that one question may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// Failures in a row from which on most questions are refused unasked.
const TROUBLED: u32 = 3;
/// Time between two questions to a troubled store.
const PROBE_EVERY: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Health {
    failures_in_a_row: u32,
    next_probe: Option<Instant>,
}

impl Gate {
    /// Awaits the answer to `question`, or says within the deadline that there is none; it may have
    /// taken effect all the same.
    ///
    /// # Errors
    /// The store's own, or that it did not answer in time.
    pub async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if !self.may_ask(Instant::now()) {
            return Err(StoreError::Unavailable("it failed three times in a row".to_owned()));
        }
        let answer = tokio::time::timeout(DEADLINE, question).await;
        let answer = answer
            .unwrap_or_else(|_| Err(StoreError::Unavailable("nothing within a second".to_owned())));
        // A row that makes no sense is one conversation's trouble: the store is there.
        self.learn(matches!(answer, Ok(_) | Err(StoreError::Corrupt(_))));
        answer
    }

    fn may_ask(&self, now: Instant) -> bool {
        let mut health = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if health.failures_in_a_row < TROUBLED {
            return true;
        }
        if health.next_probe.is_some_and(|at| now < at) {
            return false;
        }
        health.next_probe = Some(now + PROBE_EVERY);
        true
    }

    fn learn(&self, answered: bool) {
        let mut health = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            *health = Health::default();
        } else {
            health.failures_in_a_row = health.failures_in_a_row.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use tokio::time::{Instant, advance};

    use super::{DEADLINE, Gate, PROBE_EVERY};
    use crate::store::error::StoreError;

    /// Asks a store that fails, and counts how often it was really asked.
    async fn ask_failing(gate: &Gate, asked: &Cell<u32>) {
        let failure = StoreError::OutOfSpace("full".to_owned());
        let question = async {
            asked.set(asked.get() + 1);
            Err::<(), _>(failure)
        };
        assert!(gate.ask(question).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_waited_for_one_second() {
        let began = Instant::now();
        let answer = Gate::default().ask(pending::<Result<(), _>>()).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        assert_eq!(began.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn after_three_failures_most_questions_are_refused_unasked() {
        let (gate, asked) = (Gate::default(), Cell::new(0));
        for _ in 0..20 {
            ask_failing(&gate, &asked).await;
        }
        assert_eq!(asked.get(), 4, "three to notice and one probe");
        advance(PROBE_EVERY).await;
        ask_failing(&gate, &asked).await;
        ask_failing(&gate, &asked).await;
        assert_eq!(asked.get(), 5, "one more probe");
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_row_is_no_trouble_of_the_store() {
        let gate = Gate::default();
        for _ in 0..10 {
            let damaged = StoreError::Corrupt("a damaged row".to_owned());
            let answer = gate.ask(async { Err::<(), _>(damaged.clone()) }).await;
            assert_eq!(answer, Err(damaged));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_ends_the_trouble() {
        let (gate, asked) = (Gate::default(), Cell::new(0));
        for _ in 0..4 {
            ask_failing(&gate, &asked).await;
        }
        advance(PROBE_EVERY).await;
        for _ in 0..5 {
            assert_eq!(gate.ask(async { Ok(1) }).await, Ok(1));
        }
    }
}

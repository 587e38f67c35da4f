//! What the store said to a verb in the end: asked until there is an answer.
//!
//! Takes a verb, which may be repeated; gives its answer, and whether an earlier one was lost. Sets no
//! end by itself: whoever calls does. An answer that makes no sense is not asked for again.

use std::time::Duration;

use kanarie_queue::lease::Owned;
use tokio::time::sleep;

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::outbound::end::End;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::redis::call::Scripted;

/// Time until a verb that was not answered is tried again.
const STORE_PAUSE: Duration = Duration::from_millis(250);
/// How long the record of a sent segment is worth trying for: then a listing finds it.
pub(crate) const RECORD: Duration = Duration::from_secs(30);

/// What a verb gave in the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told<T> {
    pub(crate) answer: T,
    /// Whether an earlier answer was lost: that call may have taken effect.
    pub(crate) again: bool,
}

/// Asks the store until there is an answer.
pub(crate) async fn insist<V: Scripted>(store: &Store, verb: V) -> Result<Told<V::Answer>, End> {
    repeat(|| store.run(verb.clone())).await
}

/// Asks until there is an answer: a verb may be repeated. Whoever calls sets the end.
async fn repeat<T, F>(ask: impl Fn() -> F) -> Result<Told<T>, End>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut again = false;
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(Told { answer, again }),
            Err(error) => error,
        };
        emit(OutboundEvent::StoreFailed { error: error.to_string() });
        match error {
            StoreError::Corrupt(_) => return Err(End::Damaged),
            StoreError::Unavailable(_) => again = true,
            StoreError::OutOfSpace(_) => {}
        }
        sleep(STORE_PAUSE).await;
    }
}

/// Whether a verb of an owner took effect.
pub(crate) fn owned(answer: Owned) -> Result<(), End> {
    match answer {
        Owned::Done => Ok(()),
        Owned::Stale => Err(End::Lost),
    }
}

/// Whether a verb that gives the lease up took effect: stale after an answer that was lost, it was
/// that call which gave it up.
pub(crate) fn left(told: Told<Owned>) -> Result<(), End> {
    if told.again { Ok(()) } else { owned(told.answer) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use kanarie_queue::lease::Owned;

    use super::{Told, left, repeat};
    use crate::outbound::end::End;
    use crate::store::error::StoreError;

    /// A store that gives these answers, one after the other.
    async fn asked(
        mut answers: Vec<Result<Owned, StoreError>>,
    ) -> (Result<Told<Owned>, End>, usize) {
        answers.reverse();
        let (count, answers) = (answers.len(), RefCell::new(answers));
        let told = repeat(|| ready(answers.borrow_mut().pop().expect("an answer is left"))).await;
        (told, count - answers.into_inner().len())
    }

    fn unavailable() -> Result<Owned, StoreError> {
        Err(StoreError::Unavailable("lost".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_completion_whose_answer_was_lost_is_done_when_it_is_stale() {
        let (told, _) = asked(vec![unavailable(), Ok(Owned::Stale)]).await;
        assert_eq!(told.and_then(left), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_completion_that_is_stale_at_once_is_somebody_else_s() {
        let (told, _) = asked(vec![Ok(Owned::Stale)]).await;
        assert_eq!(told.and_then(left), Err(End::Lost));
        // A store that had no room did nothing.
        let full = Err(StoreError::OutOfSpace("full".to_owned()));
        let (told, _) = asked(vec![full, Ok(Owned::Stale)]).await;
        assert_eq!(told.and_then(left), Err(End::Lost));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_makes_no_sense_is_not_asked_for_again() {
        let corrupt = Err(StoreError::Corrupt("a damaged row".to_owned()));
        let (told, asked) = asked(vec![unavailable(), corrupt, Ok(Owned::Done)]).await;
        assert_eq!((told, asked), (Err(End::Damaged), 2));
    }
}

//! The one place for heads on which workers died: each of them alone, so that the guilty one shows.
//!
//! Takes the turn of a suspect, gives it the place or a pause: one turn has it at a time. A lease
//! expires for many reasons, and whatever kills a process takes the leases of every other turn with
//! it; only the suspect whose lease expires while it is here did it. Never says who is a suspect.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::outbound::returns::Returns;

/// Where the suspects of this process are worked on.
pub(crate) struct Quarantine {
    place: Arc<Semaphore>,
    returns: Mutex<Returns>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { place: Arc::new(Semaphore::new(1)), returns: Mutex::default() }
    }
}

impl Quarantine {
    /// The one place, or how long a suspect waits for it.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, Duration> {
        Arc::clone(&self.place).try_acquire_owned().map_err(|_| {
            let mut returns = self.returns.lock().unwrap_or_else(PoisonError::into_inner);
            returns.book(Instant::now())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Quarantine;

    #[test]
    fn there_is_one_place_and_it_is_given_back() {
        let quarantine = Quarantine::default();
        let place = quarantine.take();
        assert!(place.is_ok() && quarantine.take().is_err());
        drop(place);
        assert!(quarantine.take().is_ok());
    }
}

//! Why the store gave no answer.
//!
//! Takes what a store met, gives one of three words to act on: ask again, make room, set the head
//! aside. Never says that a verb had no effect, and never repeats an argument of one.

/// Why there is no answer. The verb may have taken effect all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or did not answer in time.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The store has no room.
    #[error("the store is out of memory or disk: {0}")]
    OutOfSpace(String),
    /// The store answered with something that this version does not know.
    #[error("the store's answer makes no sense: {0}")]
    Corrupt(String),
}

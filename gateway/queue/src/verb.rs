//! A verb as a value: what a caller wants of the machine, with everything that it needs.
//!
//! Takes the machine and the store's time, gives the verb's answer. Every verb may be repeated with
//! the same fields: a lost answer is not a lost verb (I20). Never reads a clock and draws nothing.

use kanarie_words::Millis;

use crate::queue::Queue;

/// One verb of the machine.
pub trait Verb: Clone + Send + 'static {
    /// What it gives.
    type Answer: Send + 'static;

    /// Applies it at the store's time.
    fn apply(self, queue: &mut Queue, now: Millis) -> Self::Answer;
}

impl Queue {
    /// Runs a verb at the store's time.
    pub fn run<V: Verb>(&mut self, now: Millis, verb: V) -> V::Answer {
        verb.apply(self, now)
    }
}

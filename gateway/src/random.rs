//! Where the gateway takes its random values from: the operating system, and nothing else.
//!
//! Takes nothing, gives bytes, tokens and spread-out pauses. Asks the system for some thousand bytes at
//! a time, in each thread for itself, and forgets what it gave. Never used to decide what happens to a
//! message.

use std::cell::RefCell;
use std::time::Duration;

use kanarie_words::hex;

/// 16 random bytes as 32 hexadecimal digits: a nonce, an intent, an attempt.
pub fn token() -> String {
    hex::encode(&bytes::<16>())
}

/// So many random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    STOCK.with_borrow_mut(|stock| stock.take(&mut bytes));
    bytes
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; STOCKED], given: STOCKED }) };
}

/// Bytes of one call of the system: a call for each id was a fifth of the system time of a message.
const STOCKED: usize = 4_096;

/// Random bytes that nobody has seen yet, behind those that were given away.
struct Stock {
    bytes: [u8; STOCKED],
    given: usize,
}

impl Stock {
    fn take(&mut self, wanted: &mut [u8]) {
        if wanted.len() > STOCKED {
            return fill(wanted);
        }
        if wanted.len() > STOCKED - self.given {
            fill(&mut self.bytes);
            self.given = 0;
        }
        let fresh = &mut self.bytes[self.given..self.given + wanted.len()];
        wanted.copy_from_slice(fresh);
        // One of them may be a key: there is no second copy.
        fresh.fill(0);
        self.given += wanted.len();
    }
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("a system without random bytes has no TLS and got no further");
}

/// A pause of between 80 % and 120 % of `pause`, so that what failed together does not come back
/// together.
pub fn jittered(pause: Duration) -> Duration {
    spread(pause, u32::from_le_bytes(bytes()))
}

fn spread(pause: Duration, random: u32) -> Duration {
    let part = f64::from(random) / f64::from(u32::MAX);
    pause.mul_f64(0.8 + 0.4 * part)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::{STOCKED, bytes, spread, token};

    #[test]
    fn a_pause_is_spread_by_a_fifth_to_both_sides() {
        let pause = Duration::from_secs(10);
        assert_eq!(spread(pause, 0), Duration::from_secs(8));
        assert_eq!(spread(pause, u32::MAX), Duration::from_secs(12));
    }

    #[test]
    fn two_tokens_are_not_the_same() {
        assert_ne!(token(), token());
    }

    #[test]
    fn no_token_comes_twice_from_a_thread_or_from_two() {
        let draw = || (0..1_000).map(|_| token()).collect::<Vec<String>>();
        let threads = [draw, draw].map(std::thread::spawn);
        let drawn = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        let drawn: HashSet<String> = drawn.chain(draw()).collect();
        assert_eq!(drawn.len(), 3_000);
    }

    #[test]
    fn nothing_is_given_that_was_not_drawn() {
        // Sizes that do not divide what is in stock, and one above it.
        for _ in 0..100 {
            let parts: [[u8; 48]; 3] = [bytes(), bytes(), bytes()];
            assert!(parts.iter().all(|part| part != &[0; 48]));
        }
        let many = bytes::<{ STOCKED + 1 }>();
        assert_ne!(many[..32], many[STOCKED - 31..]);
    }
}

//! Where the gateway takes its random values from: the operating system, and nothing else.
//!
//! Takes nothing, gives bytes, tokens and spread-out pauses. Never used to decide what happens to a
//! message.

use std::time::Duration;

use kanarie_words::hex;

/// 16 random bytes as 32 hexadecimal digits: a nonce, an intent, an attempt.
pub fn token() -> String {
    hex::encode(&bytes::<16>())
}

/// So many random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .expect("a system without random bytes has no TLS and got no further");
    bytes
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
    use std::time::Duration;

    use super::{spread, token};

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
}

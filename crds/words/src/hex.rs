//! Lower-case hexadecimal digits.
//!
//! Takes bytes, gives two digits a byte, and the way back. Never takes upper-case digits.

/// Two digits a byte.
pub fn encode(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The bytes of exactly `2 * N` digits; anything else is none.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn bytes_come_back_from_their_digits() {
        assert_eq!(encode(&[0, 0x9a, 0xff]), "009aff");
        assert_eq!(decode("009aff"), Some([0, 0x9a, 0xff]));
    }

    #[test]
    fn anything_but_so_many_lower_case_digits_is_none() {
        for text in ["", "009a", "009aff00", "009AFF", "0x9aff", "00 aff", "é9aff"] {
            assert_eq!(decode::<3>(text), None, "{text}");
        }
    }
}

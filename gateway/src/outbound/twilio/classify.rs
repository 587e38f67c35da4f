//! What an error of Twilio means for the message: try again, wait, ask what happened, or give up.
//!
//! Takes an HTTP status and Twilio's error code, gives one of seven classes. Pure. Never decides
//! how long to wait.

use crate::labels::SendClass;

/// The class of an answer that is not 2xx. A server error stays unknown whatever its code says:
/// Twilio warns (20500) that repeating such a create may deliver twice.
pub fn classify(status: u16, code: Option<u32>) -> SendClass {
    match status {
        408 | 500..=599 => SendClass::Unknown,
        429 => SendClass::RetryAfter,
        _ => code.and_then(classify_code).unwrap_or_else(|| classify_status(status)),
    }
}

/// The class of an error code, as it comes in an answer or in a status callback; none for a code
/// that this version does not know.
pub fn classify_code(code: u32) -> Option<SendClass> {
    Some(match code {
        30_008 | 63_010 | 63_012 | 63_023 => SendClass::Retry,
        20_429 | 21_611 | 30_001 | 63_018 | 63_038 => SendClass::RetryAfter,
        20_003 | 20_005 | 20_008 | 21_606 | 30_002 | 63_001 | 63_007 | 63_008 | 63_020 | 63_022
        | 63_051 => SendClass::Credentials,
        21_610 | 30_004 => SendClass::OptOut,
        63_016 => SendClass::NeedsTemplate,
        12_300 | 20_404 | 21_211 | 21_408 | 21_614 | 21_617 | 21_620 | 21_654 | 21_656 | 30_003
        | 30_005 | 30_006 | 30_007 | 63_003 | 63_005 | 63_006 | 63_013 | 63_019 | 63_021
        | 63_024 | 63_027 | 63_028 | 63_030 | 63_032 | 63_036 | 63_049 => SendClass::Permanent,
        _ => return None,
    })
}

/// Whether a code names a limit of minutes or more, which a repeat within seconds only meets again.
pub fn is_lasting(code: u32) -> bool {
    matches!(code, 21_611 | 30_001 | 63_018 | 63_038)
}

/// A redirect comes from a wrong base URL, so it is configuration like a refused credential.
fn classify_status(status: u16) -> SendClass {
    match status {
        401 | 403 => SendClass::Credentials,
        300..=399 => SendClass::Credentials,
        _ => SendClass::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::{classify, classify_code};
    use crate::labels::SendClass;

    #[test]
    fn a_server_error_is_unknown_even_with_a_known_code() {
        for status in [500, 502, 503, 504] {
            assert_eq!(classify(status, Some(21_610)), SendClass::Unknown);
        }
    }

    #[test]
    fn too_many_requests_were_never_processed() {
        assert_eq!(classify(429, None), SendClass::RetryAfter);
        assert_eq!(classify(400, Some(20_429)), SendClass::RetryAfter);
    }

    #[test]
    fn a_refusal_is_classified_by_its_code_first() {
        for (status, code, class) in [
            (400, 21_211, SendClass::Permanent),
            (400, 21_610, SendClass::OptOut),
            (400, 21_611, SendClass::RetryAfter),
            (400, 63_007, SendClass::Credentials),
            (400, 63_016, SendClass::NeedsTemplate),
            (400, 63_012, SendClass::Retry),
            (401, 20_003, SendClass::Credentials),
            (404, 20_404, SendClass::Permanent),
        ] {
            assert_eq!(classify(status, Some(code)), class, "{status} {code}");
        }
    }

    #[test]
    fn a_refusal_without_a_known_code_is_classified_by_its_status() {
        for (status, class) in [
            (302, SendClass::Credentials),
            (400, SendClass::Permanent),
            (401, SendClass::Credentials),
            (403, SendClass::Credentials),
            (404, SendClass::Permanent),
        ] {
            assert_eq!(classify(status, Some(1)), class, "{status}");
        }
    }

    #[test]
    fn no_code_means_that_the_outcome_is_unknown() {
        assert!((0..70_000).all(|code| classify_code(code) != Some(SendClass::Unknown)));
    }
}

//! Signs webhooks the way Twilio documents it, written a second time so that the gateway's own
//! reading of the rules is not what checks it.
//!
//! Takes the URL and the decoded form, gives the header's value. Pure. Shares no code with the
//! gateway.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;

/// Names and values of a form, decoded, in the order in which they are sent.
pub type Form = Vec<(String, String)>;

/// `X-Twilio-Signature` by HMAC-SHA1 with the auth token (Twilio: webhooks security).
///
/// # Panics
/// Never: HMAC takes keys of any length.
pub fn sign(token: &str, url: &str, form: &Form) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).expect("any key length is fine");
    mac.update(signed_text(url, form).as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The same by HMAC-SHA256 with a shared key, announced by
/// `X-Twilio-Webhooks-Signature-Settings`.
///
/// # Panics
/// Never: HMAC takes keys of any length.
pub fn sign_sha256(key: &str, url: &str, form: &Form) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any key length is fine");
    mac.update(signed_text(url, form).as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The form as it stands in a request body.
pub fn encode(form: &Form) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// URL without fragment, then each name in byte order with its distinct values, sorted.
fn signed_text(url: &str, form: &Form) -> String {
    let mut sorted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in form {
        sorted.entry(name).or_default().insert(value);
    }
    let mut text = url.split('#').next().unwrap_or_default().to_owned();
    for (name, values) in sorted {
        for value in values {
            text.push_str(name);
            text.push_str(value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Form {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn call() -> Form {
        form(&[
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ])
    }

    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

    #[test]
    fn the_published_example_is_signed_as_published() {
        assert_eq!(sign("12345", URL, &call()), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    }

    #[test]
    fn names_are_sorted_before_they_are_joined_with_their_values() {
        let mut form = call();
        form.push(("ReasonConferenceEnded".to_owned(), "test".to_owned()));
        form.push(("Reason".to_owned(), "Participant".to_owned()));
        assert_eq!(sign("12345", URL, &form), "vOEb5UThFn24KEfnOFLQY2AE5FY=");
    }

    #[test]
    fn a_repeated_name_counts_once_for_each_of_its_values() {
        let form = form(&[
            ("Sid", "CA123"),
            ("SidAccount", "AC123"),
            ("Digits", "5678"),
            ("Digits", "1234"),
            ("Digits", "1234"),
        ]);
        assert_eq!(sign("12345", URL, &form), "IK+Dwps556ElfBT0I3Rgjkr1wJU=");
    }

    #[test]
    fn a_shared_key_signs_by_sha256() {
        let signature = sign_sha256("12345", URL, &call());
        assert_eq!(signature, "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=");
    }
}

//! Signs webhooks the way Twilio documents it, written a second time so that the gateway's own
//! reading of the rules is not what checks it.
//!
//! Takes the URL and the form, decoded or as it stands in a body; gives the header's value. Every signature
//! of a test is made here. Pure. Shares no code with the gateway.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;

/// Names and values of a form, decoded, in the order in which they are sent.
pub type Form = Vec<(String, String)>;

const ANY_LENGTH: &str = "any key length is fine";

/// `X-Twilio-Signature` by HMAC-SHA1 with the auth token (Twilio: webhooks security).
pub fn sign(token: &str, url: &str, form: &Form) -> String {
    mac(token.as_bytes(), &signed_text(url, bytes(form)))
}

/// The same of a form as it stands in a request body, of whatever bytes that is.
pub fn sign_body(token: &str, url: &str, body: &[u8]) -> String {
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=').map(decode);
        (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
    });
    mac(token.as_bytes(), &signed_text(url, decoded))
}

/// The same by HMAC-SHA256 with a shared key, announced by
/// `X-Twilio-Webhooks-Signature-Settings`.
pub fn sign_sha256(key: &str, url: &str, form: &Form) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect(ANY_LENGTH);
    mac.update(&signed_text(url, bytes(form)));
    STANDARD.encode(mac.finalize().into_bytes())
}

/// What an auth token makes of a text that Twilio would not sign, or not so.
///
/// # Panics
/// Never: HMAC takes keys of any length.
pub fn mac(token: &[u8], text: &[u8]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(token).expect(ANY_LENGTH);
    mac.update(text);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The form as it stands in a request body.
pub fn encode(form: &Form) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

fn bytes(form: &Form) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    form.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes()))
}

/// URL without fragment, then each name in byte order with its distinct values, sorted.
fn signed_text(url: &str, form: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let mut sorted: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (name, value) in form {
        sorted.entry(name).or_default().insert(value);
    }
    let mut text = url.split('#').next().unwrap_or_default().as_bytes().to_vec();
    for (name, values) in sorted {
        for value in values {
            text.extend(&name);
            text.extend(value);
        }
    }
    text
}

/// Percent signs and pluses, as forms have them; what is none of them stays.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        let hex = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match (byte, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    out
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
    fn a_form_is_signed_as_it_was_before_it_was_encoded() {
        let form = form(&[("Body", "Hé, 1+1=2 & zo?"), ("From", "whatsapp:+31612345678")]);
        assert_eq!(sign_body("12345", URL, encode(&form).as_bytes()), sign("12345", URL, &form));
    }

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

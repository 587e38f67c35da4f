//! Signatures of random requests against the same rules written a second time, as plainly as they
//! can be said; and bytes of any kind, which must neither pass nor panic.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kanarie_crds::route::{Credentials, SecretText, SharedKey};
use kanarie_gateway::inbound::signature::{Presented, UnverifiedBody};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

const TOKEN: &str = "12345";
const URL: &str = "https://h.example/p";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_body_that_the_naive_signer_signed_is_accepted(
        body in prop::collection::vec(
            prop::sample::select(b"ab%+&=20fFzZ\xc3\xa9\x00".as_slice()), 0..64),
        query in prop::option::of("[!-\"$-~]{0,12}"),
    ) {
        let url = query.as_ref().map_or(URL.to_owned(), |query| format!("{URL}?{query}"));
        let signature = naive_signature(&url, &body);
        let presented =
            Presented { query: query.as_deref(), signature: Some(&signature), settings: None };
        let form = UnverifiedBody::form(&body);
        assert!(form.verify(&presented, &[URL.to_owned()], &credentials()).is_ok());
    }

    #[test]
    fn a_body_with_one_other_byte_is_refused(
        body in prop::collection::vec(prop::sample::select(b"abcdef&=".as_slice()), 1..64),
        at in any::<prop::sample::Index>(),
    ) {
        let signature = naive_signature(URL, &body);
        let mut other = body.clone();
        other[at.index(body.len())] = b'X';
        let presented = Presented { query: None, signature: Some(&signature), settings: None };
        let form = UnverifiedBody::form(&other);
        // Only an equal signature may pass: names and values have no border between them.
        let same = naive_signature(URL, &other) == signature;
        let verdict = form.verify(&presented, &[URL.to_owned()], &credentials());
        assert_eq!(verdict.is_ok(), same);
    }

    #[test]
    fn no_bytes_make_it_panic_or_pass(
        body in prop::collection::vec(any::<u8>(), 0..128),
        query in prop::option::of(any::<String>()),
        signature in prop::option::of(any::<String>()),
        settings in prop::option::of(any::<String>()),
        url in any::<String>(),
    ) {
        let presented = Presented {
            query: query.as_deref(),
            signature: signature.as_deref(),
            settings: settings.as_deref(),
        };
        let form = UnverifiedBody::form(&body);
        let _ = form.addressed();
        assert!(form.clone().verify(&presented, &[url], &credentials()).is_err());
        let _ = form.refuse(&presented);
        let _ = UnverifiedBody::opaque(query.as_deref(), &body);
    }
}

#[test]
fn a_name_with_two_different_values_shows_none() {
    let body = UnverifiedBody::form(b"To=a&To=b&From=c&From=c&AccountSid=%ff");
    let shown = body.addressed();
    assert_eq!((shown.to, shown.from, shown.account), (None, Some("c"), None));
}

#[test]
fn bytes_that_are_no_utf8_are_signed_as_they_are() {
    let signature = naive_signature(URL, b"Body=%ff%FE");
    assert_ne!(signature, naive_signature(URL, "Body=\u{fffd}\u{fffd}".as_bytes()));
    let presented = Presented { query: None, signature: Some(&signature), settings: None };
    let form = UnverifiedBody::form(b"Body=%ff%FE");
    assert!(form.verify(&presented, &[URL.to_owned()], &credentials()).is_ok());
}

fn naive_signature(url: &str, body: &[u8]) -> String {
    let mut form: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for pair in body.split(|byte| *byte == b'&') {
        if pair.is_empty() {
            continue;
        }
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = decode(halves.next().unwrap());
        form.entry(name).or_default().insert(decode(halves.next().unwrap_or_default()));
    }
    let mut text = url.as_bytes().to_vec();
    for (name, values) in form {
        for value in values {
            text.extend(&name);
            text.extend(value);
        }
    }
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(TOKEN.as_bytes()).unwrap();
    mac.update(&text);
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        match (text[at], digits) {
            (b'%', Some(digits)) => {
                let digits = std::str::from_utf8(digits).unwrap();
                out.push(u8::from_str_radix(digits, 16).unwrap());
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    out
}

fn credentials() -> Credentials {
    let shared = SharedKey { key_id: "key-1".to_owned(), secret: SecretText::new(TOKEN) };
    Credentials {
        auth_token: SecretText::new(TOKEN),
        auth_token_secondary: None,
        api_key: None,
        signing_keys: vec![shared],
    }
}

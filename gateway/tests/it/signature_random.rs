//! Signatures of random requests against the same rules written a second time, as plainly as they
//! can be said; and bytes of any kind, which must neither pass nor panic.

use kanarie_fakes::signer::sign_body;
use kanarie_gateway::inbound::signature::{Presented, UnverifiedBody};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use crate::signature_vectors::check::credentials;
use crate::signature_vectors::vectors::TOKEN;

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
        let signature = sign_body(TOKEN, &url, &body);
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
        let signature = sign_body(TOKEN, URL, &body);
        let mut other = body.clone();
        other[at.index(body.len())] = b'X';
        let presented = Presented { query: None, signature: Some(&signature), settings: None };
        let form = UnverifiedBody::form(&other);
        // Only an equal signature may pass: names and values have no border between them.
        let same = sign_body(TOKEN, URL, &other) == signature;
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
    let signature = sign_body(TOKEN, URL, b"Body=%ff%FE");
    assert_ne!(signature, sign_body(TOKEN, URL, "Body=\u{fffd}\u{fffd}".as_bytes()));
    let presented = Presented { query: None, signature: Some(&signature), settings: None };
    let form = UnverifiedBody::form(b"Body=%ff%FE");
    assert!(form.verify(&presented, &[URL.to_owned()], &credentials()).is_ok());
}

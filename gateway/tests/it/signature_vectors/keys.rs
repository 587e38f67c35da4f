//! Which secret a signature is checked with, and what the settings beside it may ask for.

use kanarie_crds::route::SecretText;
use kanarie_fakes::signer;
use kanarie_gateway::inbound::signature::{NotVerified, Presented, UnverifiedBody};

use crate::signature_vectors::check::{call, credentials, page, presented, verify_shared};
use crate::signature_vectors::vectors::{CALL, PAGE, SHARED, TOKEN, V1, V1_SHA256};

#[test]
fn settings_that_are_not_known_are_refused() {
    for settings in [
        "algorithm=HMAC_MD5",
        "algorithm=hmac_sha256,key=key-1",
        "algorithm=",
        "algorithm=HMAC_SHA256",
        "algorithm=HMAC_SHA1,algorithm=HMAC_SHA256,key=key-1",
        "version=2",
        "",
        "key=key-1,algorithm=HMAC_SHA256,",
    ] {
        let verdict = verify_shared(PAGE, CALL, V1, settings).err();
        assert_eq!(verdict, Some(NotVerified::UnknownSettings), "{settings}");
    }
}

#[test]
fn a_shared_key_that_the_channel_does_not_have_is_refused() {
    let settings = "key=key-2,algorithm=HMAC_SHA256";
    let verdict = verify_shared(PAGE, CALL, V1_SHA256, settings).err();
    assert_eq!(verdict, Some(NotVerified::UnknownKey));
}

#[test]
fn a_shared_key_never_signs_with_sha1() {
    // The settings are not signed: they must not pull a shared key down to the weaker algorithm.
    let mut channel = credentials();
    channel.auth_token = SecretText::new("another");
    for settings in [None, Some("key=key-1"), Some("key=key-1,algorithm=HMAC_SHA1")] {
        let presented = Presented { settings, ..presented(V1) };
        let verdict = call().verify(&presented, &page(), &channel).err();
        assert_eq!(verdict, Some(NotVerified::Mismatch), "{settings:?}");
    }
}

#[test]
fn an_auth_token_never_signs_with_sha256() {
    let mut channel = credentials();
    channel.signing_keys[0].secret = SecretText::new("another");
    let presented = Presented { settings: Some(SHARED), ..presented(V1_SHA256) };
    let verdict = call().verify(&presented, &page(), &channel).err();
    assert_eq!(verdict, Some(NotVerified::Mismatch));
}

#[test]
fn both_tokens_of_a_rotation_are_accepted() {
    let mut rotating = credentials();
    rotating.auth_token = SecretText::new("old");
    assert!(call().verify(&presented(V1), &page(), &rotating).is_err());
    rotating.auth_token_secondary = Some(SecretText::new(TOKEN));
    assert!(call().verify(&presented(V1), &page(), &rotating).is_ok());
}

#[test]
fn a_former_url_is_accepted_while_it_is_listed() {
    let both = ["https://new.example/p".to_owned(), page()[0].clone()];
    assert!(call().verify(&presented(V1), &both, &credentials()).is_ok());
    assert!(call().verify(&presented(V1), &both[..1], &credentials()).is_err());
}

#[test]
fn a_blank_token_signs_nothing() {
    let mut blank = credentials();
    blank.auth_token = SecretText::new("");
    let signature = signer::mac(b"", b"https://mycompany.com/myapp.php");
    let presented = Presented { query: None, signature: Some(&signature), settings: None };
    let verdict = UnverifiedBody::form(b"").verify(&presented, &page(), &blank).err();
    assert_eq!(verdict, Some(NotVerified::UnknownKey));
}

#[test]
fn a_body_for_nobody_is_refused_whatever_it_is_signed_with() {
    let url = "https://gateway.invalid/webhooks/twilio/whatsapp";
    let signature = signer::mac("0".repeat(32).as_bytes(), format!("{url}A1").as_bytes());
    let presented = Presented { query: None, signature: Some(&signature), settings: None };
    assert_eq!(UnverifiedBody::form(b"A=1").refuse(&presented), NotVerified::Mismatch);
}

#[test]
fn the_comparisons_can_be_shown_without_the_secrets() {
    let compared = call().comparisons(&presented(V1), &page(), &credentials()).unwrap();
    let shown: Vec<_> = compared.iter().map(|tried| (tried.url.as_str(), tried.matches)).collect();
    let with_port = "https://mycompany.com:443/myapp.php?foo=1&bar=2";
    assert_eq!(shown, [(PAGE, true), (with_port, false)]);
    assert!(!format!("{compared:?}").contains(TOKEN));
}

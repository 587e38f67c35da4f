//! What must be refused: other bytes than those that were signed, and what libraries accept besides.

use kanarie_gateway::inbound::signature::{NotVerified, Presented};

use crate::signature_vectors::check::{
    call, credentials, page, refusal, sign, sign_text, verify, verify_json,
};
use crate::signature_vectors::vectors::{BODY1, CALL, HASH1, PAGE, V1, V1_SHA256, conference};

#[test]
fn n1_a_signature_for_another_spelling_of_the_host_is_refused() {
    // One of Twilio's libraries lower-cases the host and accepts the first of these.
    for base in ["https://MyCompany.com", "https://MyCompany.com:1234", "http://MyCompany.com"] {
        let url = format!("{base}/myapp.php?foo=1&bar=2");
        assert_eq!(refusal(&url, CALL, V1), Some(NotVerified::Mismatch), "{url}");
    }
}

#[test]
fn n2_a_signature_over_pairs_joined_before_sorting_is_refused() {
    let joined = "95+Bu0JVPi0r/SsESZCVf0dWAjw=";
    assert_eq!(refusal(PAGE, &conference(), joined), Some(NotVerified::Mismatch));
}

#[test]
fn n3_what_is_no_signature_is_refused() {
    let prefixed = format!("NOT{V1}");
    let unpadded = V1.trim_end_matches('=');
    for text in [prefixed.as_str(), "WRONG SIGNATURE", unpadded, "AAAA", " ", "\u{e9}", V1_SHA256] {
        assert_eq!(refusal(PAGE, CALL, text), Some(NotVerified::Unreadable), "{text}");
    }
    assert_eq!(refusal(PAGE, CALL, ""), Some(NotVerified::Absent));
    let absent = Presented { query: Some("foo=1&bar=2"), signature: None, settings: None };
    assert_eq!(call().verify(&absent, &page(), &credentials()).err(), Some(NotVerified::Absent));
}

#[test]
fn n4_a_json_body_without_its_hash_in_the_query_is_refused() {
    assert_eq!(verify_json(PAGE, BODY1, V1).err(), Some(NotVerified::BodyHash));
    let bare = "https://mycompany.com/myapp.php";
    assert_eq!(verify_json(bare, BODY1, V1).err(), Some(NotVerified::BodyHash));
}

#[test]
fn n5_a_json_body_whose_hash_differs_by_one_character_is_refused() {
    let signature = "a9nBmqA0ju/hNViExpshrM61xv4=";
    let url = format!("{PAGE}&bodySHA256={HASH1}");
    let other = BODY1.replace("true", "truf");
    assert_eq!(verify_json(&url, &other, signature).err(), Some(NotVerified::BodyHash));
    let last = format!("{}1", &url[..url.len() - 1]);
    assert_eq!(verify_json(&last, BODY1, signature).err(), Some(NotVerified::BodyHash));
}

#[test]
fn n6_an_extra_parameter_in_query_or_body_is_refused() {
    assert_eq!(refusal(&format!("{PAGE}&extra=1"), CALL, V1), Some(NotVerified::Mismatch));
    let extra = [CALL, &[("Extra", "1")]].concat();
    assert_eq!(refusal(PAGE, &extra, V1), Some(NotVerified::Mismatch));
}

#[test]
fn an_apostrophe_that_was_escaped_before_signing_is_refused() {
    // A library escapes a raw apostrophe and tries again; Twilio signs what it sends by POST.
    let escaped = "TfZzewPq8wqrGlMfyAud8+/IvJ0=";
    let url = format!("{PAGE}&Body=It's+amazing");
    assert_eq!(refusal(&url, CALL, escaped), Some(NotVerified::Mismatch));
}

#[test]
fn a_query_that_was_encoded_anew_before_signing_is_refused() {
    // Libraries fall back to the query parsed and encoded again in an older manner, or sorted.
    let received = "https://h.example/p?a=b+c&d=x@y:z/&e";
    assert!(verify(received, CALL, &sign(received, CALL)).is_ok());
    for anew in [
        "a=b%20c&d=x@y:z/&e",
        "a=b+c&d=x%40y%3Az%2F&e",
        "a=b+c&d=x@y:z/&e=",
        "d=x@y:z/&a=b+c&e",
        "a=b c&d=x@y:z/&e",
    ] {
        let signature = sign(&format!("https://h.example/p?{anew}"), CALL);
        assert_eq!(refusal(received, CALL, &signature), Some(NotVerified::Mismatch), "{anew}");
    }
}

#[test]
fn a_query_that_was_decoded_when_the_port_was_added_is_refused() {
    let received = "https://h.example/p?a=test%2Bvalue%3A";
    let decoded = sign("https://h.example:443/p?a=test+value:", CALL);
    assert_eq!(refusal(received, CALL, &decoded), Some(NotVerified::Mismatch));
}

#[test]
fn an_empty_query_keeps_its_question_mark() {
    // A library loses it.
    let received = "https://h.example/p?";
    assert!(verify(received, CALL, &sign(received, CALL)).is_ok());
    let without = sign("https://h.example/p", CALL);
    assert_eq!(refusal(received, CALL, &without), Some(NotVerified::Mismatch));
}

#[test]
fn a_password_is_no_port() {
    // A library takes what follows the colon of the user info for a port and drops the host.
    let configured = "https://u:p@h.example:8443/p";
    assert!(verify(configured, CALL, &sign("https://u:p@h.example/p", CALL)).is_ok());
    assert!(verify(configured, CALL, &sign(configured, CALL)).is_ok());
    let broken = sign("https://u/p", CALL);
    assert_eq!(refusal(configured, CALL, &broken), Some(NotVerified::Mismatch));
}

#[test]
fn a_group_of_an_ipv6_address_is_no_port() {
    // Two libraries cut the address at its first colon.
    let configured = "https://[2001:db8::1]:8443/p";
    assert!(verify(configured, CALL, &sign("https://[2001:db8::1]/p", CALL)).is_ok());
    assert!(verify(configured, CALL, &sign(configured, CALL)).is_ok());
    let implied = sign("https://[2001:db8::1]:443/p", CALL);
    assert!(verify("https://[2001:db8::1]/p", CALL, &implied).is_ok());
    let broken = sign("https://[2001/p", CALL);
    assert_eq!(refusal(configured, CALL, &broken), Some(NotVerified::Mismatch));
}

#[test]
fn a_fragment_is_never_signed() {
    // Every library keeps it; Twilio strips it before it signs.
    let configured = "https://h.example/p#rc=2&rp=all";
    assert!(verify(configured, CALL, &sign("https://h.example/p", CALL)).is_ok());
    let kept = sign(configured, CALL);
    assert_eq!(refusal(configured, CALL, &kept), Some(NotVerified::Mismatch));
}

#[test]
fn a_url_without_a_path_is_signed_as_it_is_written() {
    // A library adds the slash.
    assert!(verify("https://h.example", CALL, &sign("https://h.example", CALL)).is_ok());
    let slash = sign("https://h.example/", CALL);
    assert_eq!(refusal("https://h.example", CALL, &slash), Some(NotVerified::Mismatch));
}

#[test]
fn a_path_is_not_made_tidy() {
    let tidy = sign("https://h.example/b/", CALL);
    for path in ["/a/../b/", "//b/", "/B/", "/b", "/%62/"] {
        let url = format!("https://h.example{path}");
        assert_eq!(refusal(&url, CALL, &tidy), Some(NotVerified::Mismatch), "{path}");
    }
}

#[test]
fn a_repeated_name_is_signed_with_each_of_its_values() {
    let twice = [("Digits", "5678"), ("Digits", "1234")];
    assert!(verify(PAGE, &twice, &sign_text(&format!("{PAGE}Digits1234Digits5678"))).is_ok());
    // One library signs the first value only, another joins the values after one name, a third
    // keeps the order in which they came.
    for quirk in ["Digits5678", "Digits12345678", "Digits5678Digits1234"] {
        let signature = sign_text(&format!("{PAGE}{quirk}"));
        assert_eq!(refusal(PAGE, &twice, &signature), Some(NotVerified::Mismatch), "{quirk}");
    }
}

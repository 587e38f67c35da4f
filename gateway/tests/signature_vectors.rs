//! Twilio's published signatures, our own WhatsApp-shaped ones, and every shape that must be
//! refused, the quirks of Twilio's own libraries among them. Pure: no server, no clock.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use kanarie_crds::route::{Credentials, SecretText, SharedKey};
use kanarie_gateway::inbound::signature::{NotVerified, Presented, UnverifiedBody, VerifiedBody};

type Form<'a> = &'a [(&'a str, &'a str)];

/// The secret of every published vector.
const TOKEN: &str = "12345";
const SHARED: &str = "key=key-1,algorithm=HMAC_SHA256";
const PAGE: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
const V1: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
const V1_SHA256: &str = "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=";
const BODY1: &str = r#"{"property": "value", "boolean": true}"#;
const HASH1: &str = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
const HASH2: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const CALL: Form<'static> = &[
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
];

/// Published signatures over [`CALL`]: id, URL as it is configured and requested, signature.
const CALLS: &[(&str, &str, &str)] = &[
    ("V1", PAGE, V1),
    ("V2", "https://mycompany.com:443/myapp.php?foo=1&bar=2", "kvajT1Ptam85bY51eRf/AJRuM3w="),
    ("V2 without port", PAGE, "kvajT1Ptam85bY51eRf/AJRuM3w="),
    ("V3", "http://mycompany.com:80/myapp.php?foo=1&bar=2", "0ZXoZLH/DfblKGATFgpif+LLRf4="),
    (
        "V3 without port",
        "http://mycompany.com/myapp.php?foo=1&bar=2",
        "0ZXoZLH/DfblKGATFgpif+LLRf4=",
    ),
    ("V4", "http://mycompany.com:1234/myapp.php?foo=1&bar=2", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
    ("V5", "https://mycompany.com:1234/myapp.php?foo=1&bar=2", "CYn1h0gLBdNxDGkKJg6hYohgeD8="),
    ("V6", "https://mycompany.com:1234/myapp.php?foo=1&bar=2", V1),
    ("J2", "https://mycompany.com/myapp.php", "1xaxFBvyzXYvWplzNOSs28HWO94="),
    (
        "J3",
        "https://mycompany.com/myapp.php?foo=1&bar=2&type=thiswontbeusedinthesignaturegeneratorandsoshouldbeignored",
        "hYkNsTBttoNGkyCS0p+wWmQoRTg=",
    ),
    (
        "J4",
        "https://mycompany.com/myapp.php?foo=hello%20world&bar=test%2Bvalue",
        "er2tvAP1Wx+iuTTE2BPgvEaN1cs=",
    ),
    ("J9", "https://mycompany.com/webhook/España?año=2023", "G/Hx6mqqnjUNlPAoi2Sp9bGst0g="),
    ("J11", "https://mycompany.com:443//myapp.php?foo=1&bar=2", "A9lH3u16NjyiiM/+wylw5rirFUs="),
    ("C1", "https://user:pass@mycompany.com/myapp.php?foo=1&bar=2", "CukzLTc1tT5dXEDIHm/tKBanW10="),
    ("C2", "https://user@mycompany.com/myapp.php?foo=1&bar=2", "2YRLlVAflCqxaNicjMpJcSTgzSs="),
    ("C3", "https://user:pass@mycompany.com/myapp.php?foo=1&bar=2", "ZQFR1PTIZXF2MXB8ZnKCvnnA+rI="),
    ("C4", "https://user@mycompany.com:443/myapp.php?foo=1&bar=2", "aZfj4hyX1MLZhSS6QIL18Vn2/RA="),
    (
        "C5",
        "http://username:password@MyCompany.com/myapp.php?foo=1&bar=2",
        "PJ08CxXr7KLPjEQCTc8LkUSMwSM=",
    ),
    (
        "C6",
        "HTTP://username:password@MyCompany.com/myapp.php?foo=1&bar=2",
        "hy/l8pca+LFms4cvRdv8uiP6NGc=",
    ),
    (
        "C7",
        "http://Username:Password@MyCompany.com/myapp.php?foo=1&bar=2",
        "SkTSKyDJH9kUlhItI0slbgZ1UsI=",
    ),
    ("M1", "https://MyCompany.com/myapp.php?foo=1&bar=2", "g9IN/x4Cft2g517EjYvEvM/W7LU="),
    ("M2", "https://MyCompany.com:1234/myapp.php?foo=1&bar=2", "PCqOZm8cnu/L6+u5i5fuEd+Iac4="),
    ("M3", "http://MyCompany.com/myapp.php?foo=1&bar=2", "XY7AlKOKL6im4yWyX84gldUrtis="),
    (
        "Q1",
        "https://mycompany.com/myapp.php?foo=1&bar=2&Body=It%27s+amazing",
        "TfZzewPq8wqrGlMfyAud8+/IvJ0=",
    ),
    (
        "Q1 in its raw form",
        "https://mycompany.com/myapp.php?foo=1&bar=2&Body=It's+amazing",
        "dsq4Ehbj6cs+KdTkpF5sSSplOWw=",
    ),
];

/// Published signatures for [`PAGE`]: id, parameters, signature.
const FORMS: &[(&str, Form<'static>, &str)] = &[
    (
        "A1",
        &[
            ("Sid", "CA123"),
            ("SidAccount", "AC123"),
            ("Digits", "5678"),
            ("Digits", "1234"),
            ("Digits", "1234"),
        ],
        "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
    ),
    (
        "A2",
        &[
            ("MessagingBinding.Address", "+1325xxxxxxx"),
            ("MessagingBinding.Address", "+1415xxxxxxx"),
        ],
        "83O6e2vORAoJHUNzJjDWN1jz+BA=",
    ),
    (
        "A2 the other way round",
        &[
            ("MessagingBinding.Address", "+1415xxxxxxx"),
            ("MessagingBinding.Address", "+1325xxxxxxx"),
        ],
        "83O6e2vORAoJHUNzJjDWN1jz+BA=",
    ),
    ("J1", &[], "zYQTYrRWXE7LtzbG4PfP7/bkkGo="),
    (
        "J5",
        &[
            ("Message", "Hello & goodbye! @#$%^*()"),
            ("From", "+1 (415) 867-5309"),
            ("Special", "unicode: ñáéíóú"),
        ],
        "dCPiR4WtQ6QFN6pJh81CtlCcWLQ=",
    ),
    (
        "J6",
        &[("Digits", ""), ("CallSid", "CA1234567890ABCDE"), ("EmptyParam", "")],
        "9HHp/OqQMEwdrVebHDdA/+tqjX8=",
    ),
    (
        "J7",
        &[("Digits", ""), ("CallSid", "CA1234567890ABCDE"), ("NullParam", "")],
        "L9lTTwIlxM1xGAtLRwhOSZggRhM=",
    ),
    (
        "J8",
        &[("Zebra", "last"), ("Alpha", "first"), ("Beta", "second"), ("Gamma", "third")],
        "enveUe73ZTVLAekHxez3Qx6JuuQ=",
    ),
    (
        "J10",
        &[("callSid", "lowercase"), ("CallSid", "uppercase"), ("CALLSID", "allcaps")],
        "jDK7WKT8wiNrwggd4ceTv4e1MJ4=",
    ),
    ("G3", &[("property", "value"), ("boolean", "true")], "NBdBDr/T/lgjI+tlgpXjKZQZs/k="),
];

#[test]
fn every_published_form_signature_is_accepted() {
    for (id, url, signature) in CALLS {
        assert!(verify(url, CALL, signature).is_ok(), "{id}");
    }
    for (id, form, signature) in FORMS {
        assert!(verify(PAGE, form, signature).is_ok(), "{id}");
    }
    let mut documented = CALL.to_vec();
    (documented[1].1, documented[3].1) = ("+14158675310", "+14158675310");
    let url = "https://example.com/myapp.php?foo=1&bar=2";
    assert!(verify(url, &documented, "L/OH5YylLD5NRKLltdqwSvS0BnU=").is_ok(), "D1");
}

#[test]
fn a_name_that_begins_with_another_name_is_sorted_after_it() {
    let ended = conference();
    assert!(verify(PAGE, &ended, "vOEb5UThFn24KEfnOFLQY2AE5FY=").is_ok(), "G1");
    for host in ["http://mycompany.com", "http://mycompany.com:1234"] {
        let url = format!("{host}/myapp.php?foo=1&bar=2");
        assert!(verify(&url, &ended, "n2xBNyzSW7rfYStDtOFiFMv7qNo=").is_ok(), "G2");
    }
}

#[test]
fn every_published_signature_of_a_json_body_is_accepted_by_the_function() {
    let bare = "https://mycompany.com/myapp.php?bodySHA256=";
    let own = "https://gw.example.com/webhooks/twilio/json?bodySHA256=\
               3f954f712f14a490584430c8f3c319601bf481e6b0dfee2546830bdbdcf33f5a";
    let (first, second) =
        (format!("{PAGE}&bodySHA256={HASH1}"), format!("{PAGE}&bodySHA256={HASH2}"));
    let vectors = [
        ("B1", first.as_str(), BODY1, "a9nBmqA0ju/hNViExpshrM61xv4="),
        ("B2", &format!("{bare}{HASH1}"), BODY1, "y77kIzt2vzLz71DgmJGsen2scGs="),
        ("B3", &second, "{}", "Ldidvp12m26NI7eqEvxnEpkd9Hc="),
        ("B3 signed without a port", &second, "{}", "rw/jVviOgicj2+kHZULvebnA4ag="),
        ("W4", own, r#"{"a":"ñ","b":1}"#, "jm5gsCGuItbfiMftO1R0bOdSMIc="),
    ];
    for (id, url, body, signature) in vectors {
        assert!(verify_json(url, body, signature).is_ok(), "{id}");
    }
}

#[test]
fn a_whatsapp_message_is_accepted_under_both_algorithms() {
    let message = whatsapp_message();
    assert!(verify(WHATSAPP_URL, &message, "d7kCuK8YVPG/T9eBksgkcR36ZlU=").is_ok(), "W1");
    let shared = "IXfr6DUJg0y7i+OcpgY/eYv3CTrlH7iDILmB36OPXbc=";
    assert!(verify_shared(WHATSAPP_URL, &message, shared, SHARED).is_ok(), "W1, shared key");
    assert!(verify_shared(PAGE, CALL, V1_SHA256, SHARED).is_ok(), "V1, shared key");
}

#[test]
fn a_whatsapp_picture_is_accepted() {
    let zeros = "0".repeat(31);
    let media = format!(
        "https://api.twilio.com/2010-04-01/Accounts/AC{zeros}0/Messages/MM{zeros}1/Media/ME{zeros}1"
    );
    let mut picture = whatsapp_message();
    for (name, value) in &mut picture {
        match *name {
            "Body" => *value = "",
            "MessageType" => *value = "image",
            "NumMedia" => *value = "1",
            _ => {}
        }
    }
    picture.extend([("MediaContentType0", "image/jpeg"), ("MediaUrl0", media.as_str())]);
    assert!(verify(WHATSAPP_URL, &picture, "SUvWoKbZ+n5FAsTaVIdeZJz5vVE=").is_ok(), "W2");
}

#[test]
fn a_status_callback_is_accepted() {
    let callback = [
        ("ChannelPrefix", "whatsapp"),
        ("ApiVersion", "2010-04-01"),
        ("MessageStatus", "delivered"),
        ("SmsStatus", "delivered"),
        ("SmsSid", "SM00000000000000000000000000000002"),
        ("MessageSid", "SM00000000000000000000000000000002"),
        ("ChannelInstallSid", "XE00000000000000000000000000000000"),
        ("To", "whatsapp:+14017122661"),
        ("From", "whatsapp:+14155238886"),
        ("AccountSid", "AC00000000000000000000000000000000"),
        ("ChannelToAddress", "+1401712XXXX"),
    ];
    let url = "https://gw.example.com/webhooks/twilio/status";
    assert!(verify(url, &callback, "vwoOSM7O5bafWH4RNVl1GfJ86p0=").is_ok(), "W3");
}

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
    let signature = sign_with("", "https://mycompany.com/myapp.php");
    let presented = Presented { query: None, signature: Some(&signature), settings: None };
    let verdict = UnverifiedBody::form(b"").verify(&presented, &page(), &blank).err();
    assert_eq!(verdict, Some(NotVerified::UnknownKey));
}

#[test]
fn a_body_for_nobody_is_refused_whatever_it_is_signed_with() {
    let url = "https://gateway.invalid/webhooks/twilio/whatsapp";
    let signature = sign_with(&"0".repeat(32), &format!("{url}A1"));
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

const WHATSAPP_URL: &str = "https://gw.example.com/webhooks/twilio/whatsapp?tenant=acme";

fn whatsapp_message() -> Vec<(&'static str, &'static str)> {
    vec![
        ("SmsMessageSid", "SM00000000000000000000000000000001"),
        ("NumMedia", "0"),
        ("ProfileName", "Zoë Ñandú 🦙"),
        ("MessageType", "text"),
        ("SmsSid", "SM00000000000000000000000000000001"),
        ("WaId", "14017122661"),
        ("SmsStatus", "received"),
        ("Body", "¿Hola + mundo & 100%? 👍\nsegunda línea"),
        ("To", "whatsapp:+14155238886"),
        ("NumSegments", "1"),
        ("ReferralNumMedia", "0"),
        ("MessageSid", "SM00000000000000000000000000000001"),
        ("AccountSid", "AC00000000000000000000000000000000"),
        ("From", "whatsapp:+14017122661"),
        ("ApiVersion", "2010-04-01"),
        ("ExternalUserId", "whatsapp:US.13491208655302741918"),
        (
            "ChannelMetadata",
            "{\"type\":\"whatsapp\",\"data\":{\"context\":{\"ProfileName\":\"Zoë Ñandú 🦙\",\
             \"WaId\":\"14017122661\"}}}",
        ),
    ]
}

fn conference() -> Vec<(&'static str, &'static str)> {
    [CALL, &[("ReasonConferenceEnded", "test"), ("Reason", "Participant")]].concat()
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

/// The body of [`CALL`].
fn call() -> UnverifiedBody {
    UnverifiedBody::form(encode(CALL).as_bytes())
}

/// The configured URL of [`PAGE`].
fn page() -> [String; 1] {
    ["https://mycompany.com/myapp.php".to_owned()]
}

/// What comes with a request to [`PAGE`].
fn presented(signature: &str) -> Presented<'_> {
    Presented { query: Some("foo=1&bar=2"), signature: Some(signature), settings: None }
}

/// Checks a form at a URL that is configured as it is requested.
fn verify(url: &str, form: Form<'_>, signature: &str) -> Result<VerifiedBody, NotVerified> {
    check(url, UnverifiedBody::form(encode(form).as_bytes()), signature, None)
}

fn refusal(url: &str, form: Form<'_>, signature: &str) -> Option<NotVerified> {
    verify(url, form, signature).err()
}

fn verify_shared(
    url: &str,
    form: Form<'_>,
    signature: &str,
    settings: &str,
) -> Result<VerifiedBody, NotVerified> {
    check(url, UnverifiedBody::form(encode(form).as_bytes()), signature, Some(settings))
}

fn verify_json(url: &str, body: &str, signature: &str) -> Result<VerifiedBody, NotVerified> {
    let query = url.split_once('?').map(|(_, query)| query);
    check(url, UnverifiedBody::opaque(query, body.as_bytes())?, signature, None)
}

fn check(
    url: &str,
    body: UnverifiedBody,
    signature: &str,
    settings: Option<&str>,
) -> Result<VerifiedBody, NotVerified> {
    let target = url.split('#').next().unwrap();
    let query = target.split_once('?').map(|(_, query)| query);
    let presented = Presented { query, signature: Some(signature), settings };
    body.verify(&presented, &[url.to_owned()], &credentials())
}

fn encode(form: Form<'_>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// Signs a form whose names are in order, each once.
fn sign(url: &str, form: Form<'_>) -> String {
    sign_text(&form.iter().fold(url.to_owned(), |text, (name, value)| text + name + value))
}

fn sign_text(text: &str) -> String {
    sign_with(TOKEN, text)
}

fn sign_with(token: &str, text: &str) -> String {
    sign_bytes(token.as_bytes(), text.as_bytes())
}

fn sign_bytes(token: &[u8], text: &[u8]) -> String {
    use base64::Engine as _;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(token).unwrap();
    mac.update(text);
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

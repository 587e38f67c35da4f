//! Signatures that Twilio made: its published ones, and those over messages of WhatsApp.

use crate::signature_vectors::check::{verify, verify_json, verify_shared};
use crate::signature_vectors::vectors::{
    BODY1, CALL, CALLS, FORMS, HASH1, HASH2, PAGE, SHARED, V1_SHA256, WHATSAPP_URL, conference,
    whatsapp_message,
};

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

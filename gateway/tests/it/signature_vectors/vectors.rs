//! What Twilio has published, and forms as WhatsApp sends them: values only.

pub(crate) type Form<'a> = &'a [(&'a str, &'a str)];

/// The secret of every published vector.
pub(crate) const TOKEN: &str = "12345";
pub(crate) const SHARED: &str = "key=key-1,algorithm=HMAC_SHA256";
pub(crate) const PAGE: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
pub(crate) const V1: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";
pub(crate) const V1_SHA256: &str = "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=";
pub(crate) const BODY1: &str = r#"{"property": "value", "boolean": true}"#;
pub(crate) const HASH1: &str = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
pub(crate) const HASH2: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
pub(crate) const CALL: Form<'static> = &[
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
];

/// Published signatures over [`CALL`]: id, URL as it is configured and requested, signature.
pub(crate) const CALLS: &[(&str, &str, &str)] = &[
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
pub(crate) const FORMS: &[(&str, Form<'static>, &str)] = &[
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

pub(crate) const WHATSAPP_URL: &str = "https://gw.example.com/webhooks/twilio/whatsapp?tenant=acme";

pub(crate) fn whatsapp_message() -> Vec<(&'static str, &'static str)> {
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

pub(crate) fn conference() -> Vec<(&'static str, &'static str)> {
    [CALL, &[("ReasonConferenceEnded", "test"), ("Reason", "Participant")]].concat()
}

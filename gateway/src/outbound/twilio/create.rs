//! A message to create: what is posted, and what is known of it afterwards.
//!
//! Takes a segment with everything needed to send it, gives its form; takes Twilio's answer, gives
//! the SID, a refusal with its class, or that nobody knows. Never posts, and never puts a number, a
//! text or a URL into an error.

use std::time::Duration;

use kanarie_words::ids::MessageSid;
use reqwest::Response;
use serde::Deserialize;

use crate::labels::SendClass;
use crate::outbound::twilio::body;
use crate::outbound::twilio::classify::classify;

/// Most bytes that are read of an answer.
const MAX_BYTES: usize = 256 * 1024;

/// A message to create.
#[derive(Clone, Copy, Debug)]
pub struct Create<'a> {
    /// The channel's sender.
    pub from: &'a str,
    /// The customer.
    pub to: &'a str,
    /// The segment.
    pub body: &'a str,
    /// Where Twilio reports what becomes of it.
    pub status_callback: Option<&'a str>,
    /// Seconds after which it may no longer be delivered.
    pub validity_seconds: u32,
    /// Messaging Service that sends it.
    pub messaging_service_sid: Option<&'a str>,
}

/// What is known after a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It exists, with this SID.
    Sent(MessageSid),
    /// It was refused, or never reached Twilio.
    Refused(Refusal),
    /// It may exist.
    Unknown {
        /// The status that came, if one did.
        status: Option<u16>,
    },
}

/// Why a message does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to do about it.
    pub class: SendClass,
    /// Twilio's error code.
    pub code: Option<u32>,
    /// What the header Retry-After asks for.
    pub retry_after: Option<Duration>,
}

impl Create<'_> {
    /// As it is posted.
    pub(crate) fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("To", self.to)
            .append_pair("From", self.from)
            .append_pair("Body", self.body)
            .append_pair("ValidityPeriod", &self.validity_seconds.to_string());
        let optional = [
            ("StatusCallback", self.status_callback),
            ("MessagingServiceSid", self.messaging_service_sid),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }
}

impl Created {
    /// Why it does not surely exist; none when it does.
    pub fn refused(&self) -> Option<SendClass> {
        match self {
            Self::Sent(_) => None,
            Self::Refused(refusal) => Some(refusal.class),
            Self::Unknown { .. } => Some(SendClass::Unknown),
        }
    }

    /// Twilio's error code, if it gave one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Sent(_) | Self::Unknown { .. } => None,
        }
    }

    /// It was provably not processed, and the same call may be made again.
    pub(crate) fn not_processed() -> Self {
        Self::refusal(SendClass::Retry)
    }

    /// A refusal without Twilio's word.
    pub(crate) fn refusal(class: SendClass) -> Self {
        Self::Refused(Refusal { class, code: None, retry_after: None })
    }

    /// What Twilio's answer says.
    pub(crate) async fn read(mut response: Response) -> Self {
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let body = body::read(&mut response, MAX_BYTES).await;
        if (200..300).contains(&status) {
            return match body.and_then(|body| serde_json::from_slice::<Resource>(&body).ok()) {
                Some(resource) => Self::Sent(resource.sid),
                None => Self::Unknown { status: Some(status) },
            };
        }
        let code = body
            .and_then(|body| serde_json::from_slice::<ApiError>(&body).ok())
            .and_then(|error| error.code);
        match classify(status, code) {
            SendClass::Unknown => Self::Unknown { status: Some(status) },
            class => Self::Refused(Refusal { class, code, retry_after }),
        }
    }
}

#[derive(Deserialize)]
struct Resource {
    sid: MessageSid,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    code: Option<u32>,
}

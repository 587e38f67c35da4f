//! The envelope: a customer's message as the queue keeps it and as an agent is asked with it.
//!
//! The ticket between the two lines: only the inbound line writes one, only the outbound line reads
//! it. Pure. Never holds a parameter that is not named here.

use kanarie_queue::types::Millis;
use serde::{Deserialize, Serialize};

/// A customer's message: the envelope that the queue keeps and that an agent is asked with.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InboundMessage {
    /// MessageSid: `SM` or `MM` and 32 hexadecimal digits.
    pub sid: String,
    /// AccountSid: `AC` and 32 hexadecimal digits.
    pub account: String,
    /// The WhatsApp sender the customer wrote to, `whatsapp:+…`: Twilio's `To`.
    pub sender: String,
    /// The customer as Twilio names them in `From`: `whatsapp:+…`, or `whatsapp:US.…` for one who
    /// hides the number.
    pub customer: String,
    /// Body without NUL; empty for media or a location alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Attachments in Twilio's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<Media>,
    /// A shared location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// A tapped button.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub button: Option<Button>,
    /// What kind of message it is.
    pub kind: MessageKind,
    /// When the gateway received it, Unix milliseconds on its own clock.
    pub received_at: Millis,
}

/// An attachment, to be fetched from Twilio with the account's credentials.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Media {
    /// Where Twilio keeps it.
    pub url: String,
    /// Its media type, `image/jpeg`; empty when Twilio does not say.
    pub content_type: String,
}

/// A place that the customer shared.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Street address, if WhatsApp sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Name of the place, if WhatsApp sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A button that the customer tapped.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Button {
    /// What the customer saw.
    pub text: String,
    /// What the template's author put behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// The kinds of message that an agent is asked about: Twilio's `MessageType`, or what the other
/// parameters imply where it is absent.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// Text alone.
    Text,
    /// A picture.
    Image,
    /// A recording or voice note.
    Audio,
    /// A film.
    Video,
    /// A file.
    Document,
    /// A sticker.
    Sticker,
    /// Contact cards.
    Contacts,
    /// A place.
    Location,
    /// A tapped button or a picked list entry.
    Interactive,
}

impl InboundMessage {
    /// What a repetition of it is recognised by.
    pub fn dedup_key(&self) -> String {
        format!("{}:{}", self.account, self.sid)
    }
}

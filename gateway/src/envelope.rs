//! The envelope: a customer's message as the queue keeps it and as an agent is asked with it.
//!
//! The ticket between the two lines: only the inbound line writes one, only the outbound line reads
//! it. Pure. Carries the number of its schema, so that an older reader knows what it must leave to a
//! newer one. Never holds a parameter that is not named here, and never shows what a customer said.

use std::fmt;

use kanarie_words::Millis;
use kanarie_words::ids::{AccountSid, CustomerAddress, DedupKey, MessageSid, SenderAddress};
use serde::{Deserialize, Serialize};

/// Schema of what this version writes; an envelope without a number is of the first one.
pub const SCHEMA: u32 = 2;

/// The text that the queue keeps.
pub fn write(message: &InboundMessage) -> String {
    let numbered = Numbered { schema: SCHEMA, message };
    serde_json::to_string(&numbered).expect("a message has string keys only")
}

/// Reads what the queue kept.
///
/// # Errors
/// When this version is not the one to read it.
pub fn read(text: &str) -> Result<InboundMessage, EnvelopeError> {
    let head: Head = serde_json::from_str(text).map_err(|_| EnvelopeError::Unreadable)?;
    let is_known = MessageKind::deserialize(&head.kind).is_ok() || !head.kind.is_string();
    if head.schema > SCHEMA || !is_known {
        return Err(EnvelopeError::Newer);
    }
    serde_json::from_str(text).map_err(|_| EnvelopeError::Unreadable)
}

/// Why a text of the queue is no message. Neither shows anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A newer version wrote it, which knows what to do with it.
    #[error("a newer gateway wrote this message: it waits for one")]
    Newer,
    /// No version wrote this.
    #[error("the stored message cannot be read by any version")]
    Unreadable,
}

#[derive(Serialize)]
struct Numbered<'a> {
    schema: u32,
    #[serde(flatten)]
    message: &'a InboundMessage,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default = "first_schema")]
    schema: u32,
    #[serde(default)]
    kind: serde_json::Value,
}

fn first_schema() -> u32 {
    1
}

/// A customer's message: the envelope that the queue keeps and that an agent is asked with.
#[derive(Serialize, Deserialize, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InboundMessage {
    /// Its SID.
    pub sid: MessageSid,
    /// The account it came by.
    pub account: AccountSid,
    /// The WhatsApp sender the customer wrote to: Twilio's `To`.
    pub sender: SenderAddress,
    /// The customer: Twilio's `From`.
    pub customer: CustomerAddress,
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
    /// Namespace of the channel that took it; none in what an older gateway wrote. When that channel is gone,
    /// another one of the namespace may answer it, and nobody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
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
    pub fn dedup_key(&self) -> DedupKey {
        DedupKey::parse(&format!("{}:{}", self.account, self.sid))
            .expect("the longest key is as long as both parts")
    }
}

impl fmt::Debug for InboundMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sid, kind, .. } = self;
        f.debug_struct("InboundMessage")
            .field("sid", sid)
            .field("kind", kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use kanarie_words::ids::{AccountSid, CustomerAddress, MessageSid, SenderAddress};
    use serde_json::Value;

    use super::{EnvelopeError, InboundMessage, MessageKind, read, write};

    fn message() -> InboundMessage {
        InboundMessage {
            sid: MessageSid::parse("SM1").unwrap(),
            account: AccountSid::parse("AC1").unwrap(),
            sender: SenderAddress::parse("whatsapp:+31").unwrap(),
            customer: CustomerAddress::parse("whatsapp:+32").unwrap(),
            text: "geheim".to_owned(),
            media: Vec::new(),
            location: None,
            button: None,
            kind: MessageKind::Text,
            received_at: 7,
            namespace: None,
        }
    }

    /// The envelope with one field set, or taken away.
    fn with(field: &str, value: Value) -> String {
        let mut envelope: Value = serde_json::from_str(&write(&message())).unwrap();
        match value {
            Value::Null => drop(envelope.as_object_mut().unwrap().remove(field)),
            value => envelope[field] = value,
        }
        envelope.to_string()
    }

    #[test]
    fn an_envelope_is_read_back_as_it_was_written() {
        assert_eq!(read(&write(&message())), Ok(message()));
    }

    #[test]
    fn an_envelope_without_a_number_is_of_the_first_schema() {
        assert_eq!(read(&with("schema", Value::Null)), Ok(message()));
    }

    #[test]
    fn what_a_newer_version_wrote_is_left_to_a_newer_version() {
        assert_eq!(read(&with("schema", 3.into())), Err(EnvelopeError::Newer));
        assert_eq!(read(&with("kind", "hologram".into())), Err(EnvelopeError::Newer));
        let other = r#"{"schema": 3, "everything": "else"}"#;
        assert_eq!(read(other), Err(EnvelopeError::Newer));
    }

    #[test]
    fn what_no_version_wrote_is_unreadable() {
        let texts = [
            "",
            "{}",
            "[]",
            "null",
            r#"{"schema": "x"}"#,
            &with("sid", "a b".into()),
            &with("kind", 7.into()),
        ];
        for text in texts {
            assert_eq!(read(text), Err(EnvelopeError::Unreadable), "{text}");
        }
    }

    #[test]
    fn a_message_does_not_show_what_it_says_nor_who_says_it() {
        let shown = format!("{:?}", message());
        assert!(shown.contains("SM1"), "{shown}");
        assert!(!shown.contains("geheim") && !shown.contains("+3"), "{shown}");
    }
}

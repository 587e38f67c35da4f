//! What a verified body says: an inbound message, a status callback or nothing for an agent.
//!
//! Takes a verified body and the time of its arrival, gives one of the three. Pure: no clock, no
//! store. Never keeps a parameter that is not named here, so what Twilio adds stays out of the
//! queue.

use kanarie_words::Millis;
use kanarie_words::ids::{AccountSid, CustomerAddress, MessageSid, SenderAddress};

use crate::envelope::{Button, InboundMessage, Location, Media, MessageKind};
use crate::inbound::signature::VerifiedBody;

/// Reads a verified body that arrived at `received_at`.
///
/// # Errors
/// When it is neither a status callback nor has what every message has.
pub fn parse(body: &VerifiedBody, received_at: Millis) -> Result<Parsed, Malformed> {
    if let Some(status) = outbound_status(body) {
        let sid = identifier(body, "MessageSid", MessageSid::parse).ok_or(Malformed::Sid)?;
        let sender = address(body, "From", SenderAddress::parse).ok_or(Malformed::From)?;
        let code = body.text("ErrorCode").and_then(|code| code.parse().ok());
        return Ok(Parsed::StatusCallback(StatusCallback { sid, status, code, sender }));
    }
    let sid = identifier(body, "MessageSid", MessageSid::parse).ok_or(Malformed::Sid)?;
    let account = identifier(body, "AccountSid", AccountSid::parse).ok_or(Malformed::Account)?;
    let sender = address(body, "To", SenderAddress::parse).ok_or(Malformed::To)?;
    let customer = address(body, "From", CustomerAddress::parse).ok_or(Malformed::From)?;
    let text = readable(body, "Body").unwrap_or_default();
    let (media, location, button) = (media(body), location(body), button(body));
    let said = body.text("MessageType").filter(|kind| !kind.is_empty());
    let kind = match said {
        Some(kind) => named_kind(&kind),
        None => Some(implied(&media, location.as_ref(), button.as_ref())),
    };
    let empty = text.is_empty() && media.is_empty() && location.is_none() && button.is_none();
    let Some(kind) = kind.filter(|_| !empty) else {
        return Ok(Parsed::Ignored(Ignored { sender }));
    };
    let message = InboundMessage {
        sid,
        account,
        sender,
        customer,
        text,
        media,
        location,
        button,
        kind,
        received_at,
        namespace: None,
    };
    Ok(Parsed::Message(Box::new(message)))
}

/// What a verified body says.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A customer's message.
    Message(Box<InboundMessage>),
    /// What became of a reply.
    StatusCallback(StatusCallback),
    /// A kind of message that no agent is asked about, or one without any content.
    Ignored(Ignored),
}

/// What became of a reply; that it came at all proves that Twilio has the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCallback {
    /// MessageSid of the reply.
    pub sid: MessageSid,
    /// What became of it so far, in Twilio's word: `MessageStatus`.
    pub status: String,
    /// Why it failed: `ErrorCode`.
    pub code: Option<u32>,
    /// The sender that the reply came from: Twilio's `From`.
    pub sender: SenderAddress,
}

/// A message that is acknowledged and forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The sender the customer wrote to: Twilio's `To`.
    pub sender: SenderAddress,
}

/// Why a verified body is no message. No value of it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No usable MessageSid.
    #[error("MessageSid is missing, repeated or no SID")]
    Sid,
    /// No usable AccountSid.
    #[error("AccountSid is missing, repeated or no SID")]
    Account,
    /// No usable To.
    #[error("To is missing, repeated or no WhatsApp address")]
    To,
    /// No usable From.
    #[error("From is missing, repeated or no WhatsApp address")]
    From,
}

/// The kind that a value of Twilio's `MessageType` names, none for one that is not known.
fn named_kind(text: &str) -> Option<MessageKind> {
    Some(match text {
        "text" => MessageKind::Text,
        "image" => MessageKind::Image,
        "audio" | "voice" => MessageKind::Audio,
        "video" => MessageKind::Video,
        "document" => MessageKind::Document,
        "sticker" => MessageKind::Sticker,
        "contact" | "contacts" => MessageKind::Contacts,
        "location" => MessageKind::Location,
        "button" | "interactive" => MessageKind::Interactive,
        _ => return None,
    })
}

/// The kind of an attachment by its media type, `image/jpeg`.
fn kind_of_media(content_type: &str) -> MessageKind {
    match content_type.split('/').next().unwrap_or_default() {
        _ if content_type == "image/webp" => MessageKind::Sticker,
        _ if content_type == "text/vcard" => MessageKind::Contacts,
        "image" => MessageKind::Image,
        "audio" => MessageKind::Audio,
        "video" => MessageKind::Video,
        _ => MessageKind::Document,
    }
}

/// Most attachments that are kept; WhatsApp sends one a message.
const MAX_MEDIA: u32 = 16;

/// Inbound messages have the status `received`, or `receiving` while media are fetched, and no
/// `MessageStatus`; callbacks have any other.
fn outbound_status(body: &VerifiedBody) -> Option<String> {
    let outbound = |status: &str| !matches!(status, "received" | "receiving" | "");
    let status = body.text("MessageStatus").or_else(|| body.text("SmsStatus"));
    status.filter(|status| outbound(status)).map(std::borrow::Cow::into_owned)
}

fn implied(media: &[Media], location: Option<&Location>, button: Option<&Button>) -> MessageKind {
    match (location, button, media.first()) {
        (Some(_), _, _) => MessageKind::Location,
        (_, Some(_), _) => MessageKind::Interactive,
        (_, _, Some(first)) => kind_of_media(&first.content_type),
        _ => MessageKind::Text,
    }
}

/// A SID: ASCII letters and digits.
fn identifier<T, E>(body: &VerifiedBody, name: &str, id: fn(&str) -> Result<T, E>) -> Option<T> {
    let text = body.text(name)?;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    id(&text).ok().filter(|_| plain)
}

/// A WhatsApp address, with a phone number or without.
fn address<T, E>(body: &VerifiedBody, name: &str, id: fn(&str) -> Result<T, E>) -> Option<T> {
    let text = body.text(name)?;
    let rest = text.strip_prefix("whatsapp:")?;
    let plain = !rest.is_empty()
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.'));
    id(&text).ok().filter(|_| plain)
}

/// Text without NUL, which no JSON database takes; none when nothing is left.
fn readable(body: &VerifiedBody, name: &str) -> Option<String> {
    let text = body.text(name)?.replace('\0', "");
    (!text.is_empty()).then_some(text)
}

fn media(body: &VerifiedBody) -> Vec<Media> {
    let count = body.text("NumMedia").and_then(|count| count.parse().ok()).unwrap_or(0u32);
    let item = |index: u32| {
        let url = readable(body, &format!("MediaUrl{index}"))?;
        let content_type = readable(body, &format!("MediaContentType{index}")).unwrap_or_default();
        Some(Media { url, content_type })
    };
    (0..count.min(MAX_MEDIA)).filter_map(item).collect()
}

fn location(body: &VerifiedBody) -> Option<Location> {
    let degrees = |name, limit: f64| {
        body.text(name)?.parse::<f64>().ok().filter(|degrees| degrees.abs() <= limit)
    };
    Some(Location {
        latitude: degrees("Latitude", 90.0)?,
        longitude: degrees("Longitude", 180.0)?,
        address: readable(body, "Address"),
        label: readable(body, "Label"),
    })
}

fn button(body: &VerifiedBody) -> Option<Button> {
    let text = readable(body, "ButtonText");
    let payload = readable(body, "ButtonPayload");
    let present = text.is_some() || payload.is_some();
    present.then(|| Button { text: text.unwrap_or_default(), payload })
}

#[cfg(test)]
mod tests {
    use super::{Malformed, Parsed, parse};
    use crate::envelope::{InboundMessage, MessageKind};
    use crate::inbound::signature::testing::verified;

    const ALWAYS: &str = "MessageSid=SM1&AccountSid=AC1&To=whatsapp:%2B31&From=whatsapp:%2B32";

    fn message(extra: &str) -> InboundMessage {
        match parse(&verified(&format!("{ALWAYS}&{extra}")), 7) {
            Ok(Parsed::Message(message)) => *message,
            other => panic!("{other:?}"),
        }
    }

    fn is_ignored(extra: &str) -> bool {
        matches!(parse(&verified(&format!("{ALWAYS}&{extra}")), 7), Ok(Parsed::Ignored(_)))
    }

    #[test]
    fn a_text_keeps_its_words_without_nul() {
        let message = message("Body=Hallo%00+daar&MessageType=text&SmsStatus=received");
        assert_eq!((message.text.as_str(), message.kind), ("Hallo daar", MessageKind::Text));
        assert_eq!((message.customer.as_str(), message.received_at), ("whatsapp:+32", 7));
    }

    #[test]
    fn a_customer_without_a_phone_number_is_a_customer() {
        let body = "MessageSid=SM1&AccountSid=AC1&To=whatsapp:%2B31&From=whatsapp:US.13&Body=x";
        let Ok(Parsed::Message(message)) = parse(&verified(body), 7) else { panic!("no message") };
        assert_eq!(message.customer.as_str(), "whatsapp:US.13");
    }

    #[test]
    fn a_picture_without_a_type_is_known_by_its_media_type() {
        let message = message("NumMedia=1&MediaUrl0=https://m&MediaContentType0=image/png");
        assert_eq!(message.kind, MessageKind::Image);
        assert_eq!(message.media.len(), 1);
    }

    #[test]
    fn a_location_has_degrees() {
        let message = message("MessageType=location&Latitude=51.5&Longitude=-0.2&Label=Home");
        let location = message.location.expect("it has one");
        assert_eq!((location.latitude, location.longitude), (51.5, -0.2));
        assert_eq!(location.label.as_deref(), Some("Home"));
    }

    #[test]
    fn degrees_off_the_globe_are_no_location() {
        for degrees in ["NaN", "inf", "91", "x", ""] {
            assert!(is_ignored(&format!("MessageType=location&Latitude={degrees}&Longitude=1")));
        }
    }

    #[test]
    fn a_tapped_button_has_text_and_payload() {
        let message = message("MessageType=interactive&Body=Ja&ButtonText=Ja&ButtonPayload=yes");
        let button = message.button.expect("it has one");
        assert_eq!((button.text.as_str(), button.payload.as_deref()), ("Ja", Some("yes")));
    }

    #[test]
    fn an_unknown_kind_of_message_is_ignored() {
        assert!(is_ignored("MessageType=reaction&Body=x"));
    }

    #[test]
    fn a_message_without_any_content_is_ignored() {
        assert!(is_ignored("MessageType=text&Body="));
        assert!(is_ignored("MessageType=text&Body=%00"));
    }

    #[test]
    fn a_status_callback_is_never_a_message() {
        for status in ["MessageStatus=delivered", "SmsStatus=sent", "MessageStatus=read&Body=x"] {
            let parsed = parse(&verified(&format!("{ALWAYS}&{status}")), 7);
            assert!(matches!(parsed, Ok(Parsed::StatusCallback(_))), "{status}");
        }
    }

    #[test]
    fn a_status_callback_says_what_became_of_a_reply_and_why() {
        let said = |extra: &str| match parse(&verified(&format!("{ALWAYS}&{extra}")), 7) {
            Ok(Parsed::StatusCallback(callback)) => (callback.status, callback.code),
            other => panic!("{other:?}"),
        };
        let (status, code) = said("MessageStatus=undelivered&SmsStatus=x&ErrorCode=63016");
        assert_eq!((status.as_str(), code), ("undelivered", Some(63_016)));
        for none in
            ["", "&ErrorCode=", "&ErrorCode=none", "&ErrorCode=-1", "&ErrorCode=1&ErrorCode=2"]
        {
            assert_eq!(said(&format!("MessageStatus=failed{none}")).1, None, "{none}");
        }
    }

    #[test]
    fn what_every_message_has_must_be_there_once() {
        let cases = [
            (ALWAYS.replace("SM1", ""), Malformed::Sid),
            (format!("{ALWAYS}&MessageSid=SM2"), Malformed::Sid),
            (ALWAYS.replace("SM1", "SM%2F1"), Malformed::Sid),
            (ALWAYS.replace("AccountSid", "Other"), Malformed::Account),
            (ALWAYS.replace("To=whatsapp:", "To="), Malformed::To),
            (format!("{ALWAYS}&From=whatsapp:%2B33"), Malformed::From),
        ];
        for (body, reason) in cases {
            assert_eq!(parse(&verified(&format!("{body}&Body=x")), 7), Err(reason), "{body}");
        }
    }
}

//! The agent protocol over HTTP: one POST with the message, its answer in the response.
//!
//! Takes a URL and a question, gives how the attempt ended. 200 with a text is the reply, 204 is
//! deliberately none, anything else is a failure. The types here are the protocol: docs/agents.md
//! shows their JSON schema. Never repeats the POST, but for one that the other end had closed its
//! kept connection to.

use jiff::Timestamp;
use kanarie_crds::route::SecretText;
use reqwest::{Client, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use crate::outbound::agent::answer::{Answer, Attempt, Failure, LONGEST_TEXT, Question};
use crate::outbound::agent::call::{self, Wait};
use crate::outbound::agent::json::{Nest, Path, Visit};
use crate::outbound::agent::room::Room;

/// Version of the protocol; a change that an agent must know about raises it.
pub const PROTOCOL_VERSION: u32 = 1;

/// What an agent is asked: the body of the POST.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentRequest {
    /// Version of this protocol: 1.
    pub version: u32,
    /// Twilio's SID of the message; also in the header Idempotency-Key. The same message may be
    /// asked again.
    pub message_sid: String,
    /// The conversation: the same for every message of one customer to one sender. Not a phone
    /// number, and not to be turned back into one.
    pub conversation_id: String,
    /// The channel, as `namespace/name`.
    pub channel: String,
    /// What the customer wrote; empty for media or a location alone.
    pub text: String,
    /// Attachments, kept by Twilio: fetching them takes the account's credentials.
    pub media: Vec<AgentMedia>,
    /// A shared location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<AgentLocation>,
    /// A tapped button.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub button: Option<AgentButton>,
    /// When the gateway received the message, RFC 3339 in UTC.
    pub received_at: String,
}

/// An attachment.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AgentMedia {
    /// Where Twilio keeps it.
    pub url: String,
    /// Its media type, such as `image/jpeg`; empty when unknown.
    pub content_type: String,
}

/// A place.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentLocation {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Street address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Name of the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A tapped button.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AgentButton {
    /// What the customer saw.
    pub text: String,
    /// What the template's author put behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// What an agent answers with status 200. To send nothing on purpose it answers 204 instead.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AgentResponse {
    /// The reply to the customer; blank or missing is a failure.
    pub text: String,
}

/// Asks an agent.
pub(crate) async fn ask(
    client: &Client,
    url: Url,
    token: Option<&SecretText>,
    question: Question<'_>,
    room: Room<'_>,
    deadline: Instant,
) -> Attempt {
    let mut request = client
        .post(url)
        .header("idempotency-key", question.message.sid.as_str())
        .json(&AgentRequest::of(question));
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    Attempt::ended(match call::send(request, deadline).await {
        Ok(response) => answer(response, room, deadline).await,
        Err(failure) => Err(failure),
    })
}

async fn answer(response: Response, room: Room<'_>, deadline: Instant) -> Result<Answer, Failure> {
    match response.status().as_u16() {
        200 => {}
        204 => return Ok(Answer::Silence),
        _ => return Err(call::refusal(&response)),
    }
    // No heartbeats are agreed on here, so only the deadline ends the wait.
    let mut said = Said::default();
    call::read(response, &mut said, Wait { deadline, idle: None }, room).await?;
    said.answer()
}

/// What was read: a text, and nothing else, is required. What an agent says besides is its own
/// business.
#[derive(Debug, Default)]
struct Said {
    is_object: bool,
    is_other: bool,
    text: String,
    is_too_long: bool,
}

impl Said {
    fn answer(self) -> Result<Answer, Failure> {
        match self.text {
            _ if !self.is_object || self.is_other => Err(Failure::NotJson),
            _ if self.is_too_long => Err(Failure::TooLong),
            text if text.trim().is_empty() => Err(Failure::NoText),
            text => Ok(Answer::Text(text)),
        }
    }
}

impl Visit for Said {
    const KEYS: &'static [&'static str] = &["text"];

    fn room(&self, path: Path<'_>) -> Option<usize> {
        (path == ["text"]).then_some(LONGEST_TEXT)
    }

    fn string(&mut self, _: Path<'_>, text: &str, whole: bool) {
        (self.text, self.is_too_long, self.is_other) = (text.to_owned(), !whole, false);
    }

    fn word(&mut self, path: Path<'_>, word: &str) {
        self.is_other |= path == ["text"] && word != "null";
    }

    fn open(&mut self, path: Path<'_>, nest: Nest) {
        self.is_object |= path.is_empty() && nest == Nest::Object;
        self.is_other |= path == ["text"];
    }
}

impl AgentRequest {
    /// The request for a question.
    pub fn of(question: Question<'_>) -> Self {
        let message = question.message;
        let received_at = i64::try_from(message.received_at)
            .ok()
            .and_then(|at| Timestamp::from_millisecond(at).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let media = message.media.iter().map(|media| AgentMedia {
            url: media.url.clone(),
            content_type: media.content_type.clone(),
        });
        Self {
            version: PROTOCOL_VERSION,
            message_sid: message.sid.to_string(),
            conversation_id: question.conversation.as_str().to_owned(),
            channel: question.channel.to_string(),
            text: message.text.clone(),
            media: media.collect(),
            location: message.location.as_ref().map(|location| AgentLocation {
                latitude: location.latitude,
                longitude: location.longitude,
                address: location.address.clone(),
                label: location.label.clone(),
            }),
            button: message.button.as_ref().map(|button| AgentButton {
                text: button.text.clone(),
                payload: button.payload.clone(),
            }),
            received_at: received_at.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use kanarie_crds::route::ChannelRef;
    use kanarie_words::ids::ConversationId;
    use serde_json::json;

    use super::{AgentRequest, Said};
    use crate::envelope::{InboundMessage, Media, MessageKind};
    use crate::outbound::agent::answer::{Answer, Failure, LONGEST_TEXT, Question};
    use crate::outbound::agent::json::Json;

    fn parse(body: &[u8]) -> Result<Answer, Failure> {
        let mut said = Said::default();
        let mut json = Json::new(&mut said, 1_000_000);
        json.feed(body).and_then(|()| json.finish()).map_err(|_| Failure::NotJson)?;
        said.answer()
    }

    #[test]
    fn a_question_has_the_fields_of_the_protocol() {
        let message = InboundMessage {
            sid: "SM1".parse().unwrap(),
            account: "AC1".parse().unwrap(),
            sender: "whatsapp:+1".parse().unwrap(),
            customer: "whatsapp:+2".parse().unwrap(),
            text: "Hallo".to_owned(),
            media: vec![Media {
                url: "https://m".to_owned(),
                content_type: "image/png".to_owned(),
            }],
            location: None,
            button: None,
            kind: MessageKind::Image,
            received_at: 1_763_460_000_123,
            namespace: None,
        };
        let channel =
            ChannelRef { namespace: "shop".into(), name: "cars".into(), uid: "u".parse().unwrap() };
        let conversation = ConversationId::from_bytes([1; 16]);
        let question = Question {
            channel: &channel,
            conversation: &conversation,
            message: &message,
            interrupt: None,
            may_have_begun: false,
        };
        assert_eq!(
            serde_json::to_value(AgentRequest::of(question)).unwrap(),
            json!({
                "version": 1,
                "messageSid": "SM1",
                "conversationId": "01".repeat(16),
                "channel": "shop/cars",
                "text": "Hallo",
                "media": [{"url": "https://m", "contentType": "image/png"}],
                "receivedAt": "2025-11-18T10:00:00.123Z",
            })
        );
    }

    #[test]
    fn a_text_is_the_answer_whatever_stands_beside_it() {
        let body = br#"{"text": "Dag", "model": {"name": "x"}}"#;
        assert_eq!(parse(body), Ok(Answer::Text("Dag".to_owned())));
    }

    #[test]
    fn a_blank_or_missing_text_is_no_answer() {
        for body in [r#"{}"#, r#"{"text": null}"#, r#"{"text": ""}"#, r#"{"text": " \n"}"#] {
            assert_eq!(parse(body.as_bytes()), Err(Failure::NoText), "{body}");
        }
    }

    #[test]
    fn what_is_not_the_protocol_s_json_is_invalid() {
        for body in ["", "Dag", "[]", r#"{"text": 1}"#, r#"{"text": "Dag""#] {
            assert_eq!(parse(body.as_bytes()), Err(Failure::NotJson), "{body}");
        }
    }

    #[test]
    fn half_a_character_is_replaced_and_a_byte_order_mark_is_passed_over() {
        let body = b"\xef\xbb\xbf{\"text\": \"Goed \\ud83d\"}";
        assert_eq!(parse(body), Ok(Answer::Text("Goed \u{fffd}".to_owned())));
    }

    #[test]
    fn a_text_that_no_twenty_messages_hold_is_too_long() {
        let body = format!(r#"{{"text": "{}"}}"#, "a".repeat(LONGEST_TEXT + 1));
        assert_eq!(parse(body.as_bytes()), Err(Failure::TooLong));
    }
}

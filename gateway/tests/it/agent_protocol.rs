//! The HTTP agent protocol as published: the schemas in docs/ are those of the types, and what the
//! gateway sends and takes is valid by them.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use kanarie_crds::route::ChannelRef;
use kanarie_fakes::golden;
use kanarie_gateway::envelope::{Button, InboundMessage, Location, Media, MessageKind};
use kanarie_gateway::outbound::agent::answer::Question;
use kanarie_gateway::outbound::agent::http::{AgentRequest, AgentResponse};
use kanarie_words::ids::ConversationId;
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

#[test]
fn the_published_request_schema_is_that_of_the_type() {
    compare::<AgentRequest>("agent-request.schema.json");
}

#[test]
fn the_published_response_schema_is_that_of_the_type() {
    compare::<AgentResponse>("agent-response.schema.json");
}

#[test]
fn every_kind_of_message_is_asked_by_the_published_schema() {
    let schema = jsonschema::validator_for(&published("agent-request.schema.json")).unwrap();
    for message in [text(), image(), location(), button()] {
        let request = request(&message);
        schema.validate(&request).unwrap();
    }
}

#[test]
fn a_request_without_its_message_sid_is_not_valid() {
    let schema = jsonschema::validator_for(&published("agent-request.schema.json")).unwrap();
    let mut request = request(&text());
    request.as_object_mut().unwrap().remove("messageSid");
    assert!(!schema.is_valid(&request));
}

#[test]
fn an_answer_needs_a_text_and_may_have_more() {
    let schema = jsonschema::validator_for(&published("agent-response.schema.json")).unwrap();
    assert!(schema.is_valid(&json!({"text": "Dag", "model": "any"})));
    assert!(!schema.is_valid(&json!({"answer": "Dag"})));
    assert!(!schema.is_valid(&json!({"text": 1})));
}

fn compare<T: JsonSchema>(name: &str) {
    let generated = serde_json::to_string_pretty(&schema_for!(T)).unwrap() + "\n";
    golden::compare(&format!("docs/{name}"), &generated);
}

fn published(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path(name)).unwrap()).unwrap()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn request(message: &InboundMessage) -> Value {
    let channel =
        ChannelRef { namespace: "shop".into(), name: "cars".into(), uid: "u".parse().unwrap() };
    let conversation = ConversationId::from_bytes([7; 16]);
    let question = Question {
        channel: &channel,
        conversation: &conversation,
        message,
        interrupt: None,
        may_have_begun: false,
    };
    serde_json::to_value(AgentRequest::of(question)).unwrap()
}

fn text() -> InboundMessage {
    InboundMessage {
        sid: "SM00000000000000000000000000000001".parse().unwrap(),
        account: "AC0123456789abcdef0123456789abcdef".parse().unwrap(),
        sender: "whatsapp:+31201234567".parse().unwrap(),
        customer: "whatsapp:+31612345678".parse().unwrap(),
        text: "Wat kost een Golf 8 van 2020?".to_owned(),
        media: Vec::new(),
        location: None,
        button: None,
        kind: MessageKind::Text,
        received_at: 1_763_460_000_123,
        namespace: None,
    }
}

fn image() -> InboundMessage {
    let media = vec![Media {
        url: "https://api.twilio.com/2010-04-01/Media/ME1".to_owned(),
        content_type: "image/jpeg".to_owned(),
    }];
    InboundMessage { text: String::new(), kind: MessageKind::Image, media, ..text() }
}

fn location() -> InboundMessage {
    let location = Some(Location {
        latitude: 52.37,
        longitude: 4.89,
        address: Some("Damrak 1, Amsterdam".to_owned()),
        label: None,
    });
    InboundMessage { text: String::new(), kind: MessageKind::Location, location, ..text() }
}

fn button() -> InboundMessage {
    let button = Some(Button { text: "Ja".to_owned(), payload: Some("yes".to_owned()) });
    InboundMessage { text: "Ja".to_owned(), kind: MessageKind::Interactive, button, ..text() }
}

//! What a LangGraph server is told about a customer's message.
//!
//! Takes a message, gives the body that begins a run, or resumes one that stopped to ask. Pure.
//! Never says what a picture, a recording or a place shows.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::envelope::{InboundMessage, MessageKind};

/// What a run is begun with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// The message.
    Message,
    /// The message, as the answer to the only question that is open.
    Resume,
    /// The same for one of several questions, by the server's id.
    ResumeOne(String),
}

/// The customer's thread: the same for every revision.
pub(crate) fn thread_id(message: &InboundMessage) -> Uuid {
    let name = format!("{}|{}", message.sender, message.customer);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

/// The body of the POST. `attempt` is a mark by which the run is found when its id was not heard.
pub(crate) fn body(
    assistant: &str,
    message: &InboundMessage,
    input: &Input,
    attempt: &str,
) -> Value {
    let mut body = json!({
        "assistant_id": assistant,
        "multitask_strategy": "enqueue",
        "on_disconnect": "continue",
        "metadata": { "message_sid": message.sid, "provider": "twilio", "attempt": attempt },
    });
    let text = content(message);
    let (key, value) = match input {
        Input::Message => {
            body["if_not_exists"] = json!("create");
            let said = json!({ "role": "user", "id": message.sid, "content": text });
            ("input", json!({ "messages": [said] }))
        }
        // A thread that is gone has no question.
        Input::Resume => ("command", json!({ "resume": text })),
        Input::ResumeOne(id) => ("command", json!({ "resume": { id: text } })),
    };
    body[key] = value;
    body
}

/// The customer's text, and a word in brackets for everything that is none.
fn content(message: &InboundMessage) -> String {
    let mut parts = Vec::new();
    if !message.text.is_empty() {
        parts.push(message.text.as_str());
    } else if let Some(button) = &message.button {
        parts.push(button.text.as_str());
    }
    parts.extend(message.media.iter().map(|media| media_word(&media.content_type, message.kind)));
    if message.location.is_some() {
        parts.push("[location]");
    }
    if parts.is_empty() {
        parts.push(kind_word(message.kind));
    }
    parts.join("\n")
}

fn media_word(content_type: &str, kind: MessageKind) -> &'static str {
    match content_type.split('/').next().unwrap_or_default() {
        "image" if kind == MessageKind::Sticker => "[sticker]",
        "image" => "[image]",
        "audio" => "[audio]",
        "video" => "[video]",
        "" => kind_word(kind),
        "text" if kind == MessageKind::Contacts => "[contacts]",
        _ => "[document]",
    }
}

fn kind_word(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Text => "[empty]",
        MessageKind::Image => "[image]",
        MessageKind::Audio => "[audio]",
        MessageKind::Video => "[video]",
        MessageKind::Document => "[document]",
        MessageKind::Sticker => "[sticker]",
        MessageKind::Contacts => "[contacts]",
        MessageKind::Location => "[location]",
        MessageKind::Interactive => "[button]",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Input, body, content, thread_id};
    use crate::envelope::{InboundMessage, Media, MessageKind};

    fn message(text: &str, kind: MessageKind) -> InboundMessage {
        InboundMessage {
            sid: "SM2".parse().unwrap(),
            account: "AC1".parse().unwrap(),
            sender: "whatsapp:+14155238886".parse().unwrap(),
            customer: "whatsapp:+14017122661".parse().unwrap(),
            text: text.to_owned(),
            media: Vec::new(),
            location: None,
            button: None,
            kind,
            received_at: 0,
            namespace: None,
        }
    }

    #[test]
    fn the_thread_is_the_uuid_of_sender_and_customer() {
        let thread = thread_id(&message("Hallo", MessageKind::Text));
        assert_eq!(thread.to_string(), "f56f5df1-cee8-549c-bb4d-6ab0c830f20d");
    }

    #[test]
    fn a_run_names_the_message_so_that_a_repetition_replaces_it() {
        let body = body("agent", &message("Hallo", MessageKind::Text), &Input::Message, "mark");
        assert_eq!(
            body,
            json!({
                "assistant_id": "agent",
                "if_not_exists": "create",
                "multitask_strategy": "enqueue",
                "on_disconnect": "continue",
                "metadata": { "message_sid": "SM2", "provider": "twilio", "attempt": "mark" },
                "input": { "messages": [{ "role": "user", "id": "SM2", "content": "Hallo" }] },
            })
        );
    }

    #[test]
    fn an_answer_to_a_question_resumes_and_makes_no_thread() {
        let answer = message("Blauw", MessageKind::Text);
        let only = body("agent", &answer, &Input::Resume, "mark");
        assert_eq!(only["command"], json!({ "resume": "Blauw" }));
        assert_eq!((only.get("input"), only.get("if_not_exists")), (None, None));
        let one = body("agent", &answer, &Input::ResumeOne("q1".to_owned()), "mark");
        assert_eq!(one["command"], json!({ "resume": { "q1": "Blauw" } }));
    }

    #[test]
    fn what_is_not_text_is_a_word_in_brackets() {
        let picture = Media { url: "u".to_owned(), content_type: "image/jpeg".to_owned() };
        let mut captioned = message("Kijk", MessageKind::Image);
        captioned.media = vec![picture.clone()];
        assert_eq!(content(&captioned), "Kijk\n[image]");
        let mut alone = message("", MessageKind::Image);
        alone.media = vec![picture];
        assert_eq!(content(&alone), "[image]");
        assert_eq!(content(&message("", MessageKind::Location)), "[location]");
        assert_eq!(content(&message("", MessageKind::Audio)), "[audio]");
    }
}

//! What the floor keeps: rows of the sizes that the gateway's have.
//!
//! Takes a message; gives its ids and the texts of its rows. Pure, but for the time that it is given.

use serde::Serialize;

/// A message of a customer.
pub(crate) struct Message {
    /// Its SID.
    pub(crate) sid: String,
    /// Who wrote it.
    pub(crate) customer: String,
    /// Whom he wrote to.
    pub(crate) sender: String,
    /// What he wrote.
    pub(crate) text: String,
    /// When it came, Unix milliseconds.
    pub(crate) at: u64,
}

impl Message {
    /// The fields of a verified form that a reply needs.
    pub(crate) fn read(body: &[u8], at: u64) -> Self {
        let mut message = Self {
            sid: String::new(),
            customer: String::new(),
            sender: String::new(),
            text: String::new(),
            at,
        };
        for (name, value) in form_urlencoded::parse(body) {
            match name.as_ref() {
                "MessageSid" => message.sid = value.into_owned(),
                "From" => message.customer = value.into_owned(),
                "To" => message.sender = value.into_owned(),
                "Body" => message.text = value.into_owned(),
                _ => {}
            }
        }
        message
    }

    /// 32 digits, the same for each message of a customer.
    pub(crate) fn conversation(&self) -> String {
        format!("{:0>32}", self.customer.trim_start_matches("whatsapp:+"))
    }

    /// Two digits, one of 32 shards.
    pub(crate) fn shard(&self) -> String {
        let digits = self.customer.get(self.customer.len().saturating_sub(2)..).unwrap_or_default();
        format!("{:02}", digits.parse::<u8>().unwrap_or_default() % 32)
    }

    /// What a repetition is recognised by.
    pub(crate) fn dedup_key(&self, account: &str) -> String {
        format!("{account}:{}", self.sid)
    }

    /// The row of the message itself.
    pub(crate) fn envelope(&self, account: &str) -> String {
        let envelope = json(&Envelope {
            schema: 1,
            sid: &self.sid,
            account,
            sender: &self.sender,
            customer: &self.customer,
            text: &self.text,
            kind: "text",
            received_at: self.at,
        });
        let key = self.dedup_key(account);
        format!("{}:{}:{key}{envelope}", self.at, key.len())
    }

    /// The row of its conversation while an agent is asked.
    pub(crate) fn leased(&self) -> String {
        json(&self.row(None))
    }

    /// The same with a reply whose first segment is about to be posted.
    pub(crate) fn replied(&self, text: &str) -> String {
        let body = json(&Body { schema: 1, segments: [text], validity_seconds: 14_400 });
        json(&self.row(Some(Reply { id: NONCE, segments: 1, attempt: NONCE, at: self.at, body })))
    }

    /// What is left of the conversation: its stamp, and the SID that the reply was given.
    pub(crate) fn rest(&self, sid: &str) -> String {
        json(&Rest { stamps: [self.at], sids: [sid], until: self.at + 600_000 })
    }

    fn row<'a>(&self, reply: Option<Reply<'a>>) -> Row<'a> {
        Row {
            ch: CHANNEL,
            lo: 0,
            hi: 1,
            b: 250,
            score: self.at,
            tries: 1,
            crashes: 0,
            counted: false,
            nonce: NONCE,
            lease_ms: 15_000,
            reply,
        }
    }
}

fn json<T: Serialize>(row: &T) -> String {
    serde_json::to_string(row).expect("rows have string keys only")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    schema: u32,
    sid: &'a str,
    account: &'a str,
    sender: &'a str,
    customer: &'a str,
    text: &'a str,
    kind: &'a str,
    received_at: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    ch: &'a str,
    lo: u64,
    hi: u64,
    b: u64,
    score: u64,
    tries: u32,
    crashes: u32,
    counted: bool,
    nonce: &'a str,
    lease_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Reply<'a>>,
}

#[derive(Serialize)]
struct Reply<'a> {
    id: &'a str,
    segments: u32,
    attempt: &'a str,
    at: u64,
    body: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    schema: u32,
    segments: [&'a str; 1],
    validity_seconds: u32,
}

#[derive(Serialize)]
struct Rest<'a> {
    stamps: [u64; 1],
    sids: [&'a str; 1],
    until: u64,
}

/// As long as a channel's uid.
const CHANNEL: &str = "00000000-0000-4000-8000-000000000001";
/// As long as a nonce or an intent's id.
const NONCE: &str = "0123456789abcdef0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn a_message_is_read_from_its_form() {
        let form = b"From=whatsapp%3A%2B31600000045&To=whatsapp%3A%2B3197&Body=Dag&MessageSid=SM1";
        let message = Message::read(form, 7);
        assert_eq!(message.conversation(), "00000000000000000000031600000045");
        assert_eq!((message.shard().as_str(), message.text.as_str()), ("13", "Dag"));
        assert_eq!(message.dedup_key("AC1"), "AC1:SM1");
        assert!(message.envelope("AC1").starts_with("7:7:AC1:SM1{"));
    }
}

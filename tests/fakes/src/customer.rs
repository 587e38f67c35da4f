//! Customers: what Twilio posts to the gateway when somebody writes.
//!
//! Takes an account with its secret and the URL that Twilio was told; posts signed forms to
//! wherever the gateway really listens. Keeps nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use reqwest::header::CONTENT_TYPE;

use crate::signer::{self, Form};

/// A Twilio account with one WhatsApp sender, as the gateway knows it.
#[derive(Clone, Debug)]
pub struct Account {
    /// `AC` and 32 hexadecimal digits.
    pub sid: String,
    /// Signs webhooks and authenticates calls.
    pub token: String,
    /// `whatsapp:+…`, whom the customers write to.
    pub sender: String,
    /// What Twilio signs: the public URL of the message webhook.
    pub webhook_url: String,
}

/// The gateway's answer to a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body of the response.
    pub body: String,
}

impl Account {
    /// An account of its own for a test; `digits` keeps accounts apart.
    pub fn new(digits: u32) -> Self {
        Self {
            sid: format!("AC{digits:032x}"),
            token: format!("token-of-{digits:08x}-never-to-be-logged"),
            sender: format!("whatsapp:+3197{digits:08}"),
            webhook_url: "https://kanarie.example.com/webhooks/twilio/whatsapp".to_owned(),
        }
    }

    /// A text message of a customer, `whatsapp:+…`, in the shape that Twilio posts.
    pub fn text(&self, sid: &str, customer: &str, text: &str) -> Form {
        let wa_id = customer.trim_start_matches("whatsapp:+");
        [
            ("SmsMessageSid", sid),
            ("NumMedia", "0"),
            ("ProfileName", "Zoë van den Berg"),
            ("MessageType", "text"),
            ("SmsSid", sid),
            ("WaId", wa_id),
            ("SmsStatus", "received"),
            ("Body", text),
            ("To", &self.sender),
            ("NumSegments", "1"),
            ("ReferralNumMedia", "0"),
            ("MessageSid", sid),
            ("AccountSid", &self.sid),
            ("From", customer),
            ("ApiVersion", "2010-04-01"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Posts a form to the message webhook of a gateway, signed.
    ///
    /// # Errors
    /// No HTTP answer came.
    pub async fn post(
        &self,
        client: &reqwest::Client,
        gateway: &str,
        form: &Form,
    ) -> Result<Answer> {
        let signature = signer::sign(&self.token, &self.webhook_url, form);
        post(client, gateway, &self.webhook_url, form, &signature).await
    }

    /// A new text message of a customer, posted. Gives its MessageSid with the answer.
    ///
    /// # Errors
    /// No HTTP answer came.
    pub async fn say(
        &self,
        client: &reqwest::Client,
        gateway: &str,
        customer: &str,
        text: &str,
    ) -> Result<(String, Answer)> {
        let sid = message_sid();
        let answer = self.post(client, gateway, &self.text(&sid, customer, text)).await?;
        Ok((sid, answer))
    }
}

/// Posts a form with any signature to the path of a public URL, at a gateway's real address.
///
/// # Errors
/// No HTTP answer came.
pub async fn post(
    client: &reqwest::Client,
    gateway: &str,
    public_url: &str,
    form: &Form,
    signature: &str,
) -> Result<Answer> {
    let public = url::Url::parse(public_url)?;
    let mut target = format!("http://{gateway}{}", public.path());
    if let Some(query) = public.query() {
        target = format!("{target}?{query}");
    }
    let response = client
        .post(target)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
        .header("X-Twilio-Signature", signature)
        .header("Host", public.host_str().unwrap_or_default())
        .body(signer::encode(form))
        .send()
        .await
        .context("post the webhook")?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.text().await? })
}

/// A MessageSid that nobody in this process has used.
pub fn message_sid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let process = u64::from(std::process::id());
    format!("SM{process:08x}{:024x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The address of the customer with this number.
pub fn customer(number: u32) -> String {
    format!("whatsapp:+316{number:08}")
}

//! Twilio's API, as far as credentials are checked there.
//!
//! Takes the credentials of a channel; asks for one message by what sends, and for the account by its auth token
//! (<https://www.twilio.com/docs/messaging/api/message-resource>, <https://www.twilio.com/docs/iam/api/account>); gives
//! the answers. Reads no message: an answer that is 200 says enough. Changes nothing, repeats nothing, and no
//! error holds a credential.

use std::time::Duration;

use kanarie_crds::route::Credentials;
use kanarie_words::ids::AccountSid;
use reqwest::{Response, StatusCode, Url, redirect};
use serde::Deserialize;

use crate::twilio::answers::{CredentialAnswers, TwilioAnswer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that one answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read; an account is a few kilobytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Errors of an account that may do nothing any more
/// (<https://www.twilio.com/docs/api/errors/20005>, <https://www.twilio.com/docs/api/errors/30002>).
const SUSPENDED: [u32; 2] = [20_005, 30_002];

/// Asks Twilio.
pub struct TwilioApi {
    http: reqwest::Client,
    base: Url,
}

/// As much of an account or of an error as is needed.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Told {
    /// `active`, `suspended` or `closed`; a number in an error.
    status: serde_json::Value,
    code: Option<u32>,
}

impl TwilioApi {
    /// Asks at this base URL.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(base: Url) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(reqwest::Error::without_url)?;
        Ok(Self { http, base })
    }

    /// Asks about the credentials of one channel.
    pub async fn check(&self, account: &AccountSid, held: &Credentials) -> CredentialAnswers {
        let token = held.auth_token.expose();
        let (user, secret) = match &held.api_key {
            Some(key) => (key.sid.as_str(), key.secret.expose()),
            None => (account.as_str(), token),
        };
        let sending = self.messages(account, user, secret).await;
        let is_token = self.account(account, token).await;
        let secondary = match &held.auth_token_secondary {
            Some(secondary) => Some(self.account(account, secondary.expose()).await),
            None => None,
        };
        CredentialAnswers { sending, by_key: held.api_key.is_some(), token: is_token, secondary }
    }

    async fn messages(&self, account: &AccountSid, user: &str, secret: &str) -> TwilioAnswer {
        let path = format!("Accounts/{account}/Messages.json?PageSize=1");
        let Some(response) = self.get(&path, user, secret).await else {
            return TwilioAnswer::Silent;
        };
        match response.status() {
            StatusCode::OK => TwilioAnswer::Accepted,
            _ => refused(response).await,
        }
    }

    async fn account(&self, account: &AccountSid, token: &str) -> TwilioAnswer {
        let path = format!("Accounts/{account}.json");
        let Some(response) = self.get(&path, account.as_str(), token).await else {
            return TwilioAnswer::Silent;
        };
        match response.status() {
            StatusCode::OK => match told(response).await.status.as_str() {
                Some("active") => TwilioAnswer::Accepted,
                Some("suspended" | "closed") => TwilioAnswer::Suspended,
                _ => TwilioAnswer::Silent,
            },
            _ => refused(response).await,
        }
    }

    async fn get(&self, path: &str, user: &str, secret: &str) -> Option<Response> {
        let base = self.base.as_str().trim_end_matches('/');
        let request = self.http.get(format!("{base}/2010-04-01/{path}"));
        match request.basic_auth(user, Some(secret)).send().await {
            Ok(response) => Some(response),
            Err(error) => {
                let error = error.without_url();
                tracing::debug!(%error, "Twilio did not answer about credentials");
                None
            }
        }
    }
}

/// An answer that is not 200.
async fn refused(response: Response) -> TwilioAnswer {
    let status = response.status();
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return TwilioAnswer::Silent;
    }
    let code = told(response).await.code;
    match status {
        _ if code.is_some_and(|code| SUSPENDED.contains(&code)) => TwilioAnswer::Suspended,
        StatusCode::UNAUTHORIZED => TwilioAnswer::Unknown,
        _ => TwilioAnswer::NotPermitted,
    }
}

/// What can be read of an answer; nothing of one that is too long.
async fn told(mut response: Response) -> Told {
    let mut text = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        text.extend_from_slice(&piece);
        if text.len() > MAX_ANSWER_BYTES {
            return Told::default();
        }
    }
    serde_json::from_slice(&text).unwrap_or_default()
}

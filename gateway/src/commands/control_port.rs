//! The admin port of a running gateway, as the commands ask it.
//!
//! Takes the flags of a command and of the gateway; gives what the admin port answers, or why it does
//! not. Shows the control token to that port only, and never prints it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use kanarie_crds::route::SecretText;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::commands::local::local;
use crate::config::Flags;
use crate::token;

/// Where a command asks, and how it tells.
#[derive(Args, Clone, Debug)]
pub struct PortFlags {
    /// Base URL of the gateway's admin port [default: the port of --admin-listen on this machine]
    #[arg(long, value_name = "URL")]
    pub admin_url: Option<String>,
    /// How the answer is written
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How an answer is written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people
    Table,
    /// As the admin port gave it
    Json,
}

/// The port, with the token that it wants.
pub(super) struct ControlPort {
    client: reqwest::Client,
    base: String,
    token: SecretText,
}

/// Longest wait for an answer: the port itself gives up before.
const PATIENCE: Duration = Duration::from_secs(20);

impl ControlPort {
    /// Nothing is asked yet.
    pub(super) fn open(port: &PortFlags, flags: &Flags) -> anyhow::Result<Self> {
        let path = flags.control_token_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        let path = path.context(
            "--control-token-file (KANARIE_CONTROL_TOKEN_FILE) must name the file with the control \
             token; an operator keeps it in the Secret kanarie-control of the routes namespace",
        )?;
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let base = port.admin_url.clone().unwrap_or_else(|| local(&flags.admin_listen));
        Ok(Self {
            client: client.context("cannot make an HTTP client")?,
            base: base.trim_end_matches('/').to_owned(),
            token: token::read(path)?,
        })
    }

    /// Asks without a body.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let mut url = format!("{}{path}", self.base);
        if !query.is_empty() {
            let query =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            url = format!("{url}?{query}");
        }
        self.answer(self.client.request(method, url)).await
    }

    /// Posts JSON.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body).context("cannot write the request")?;
        let request = self.client.post(format!("{}{path}", self.base));
        self.answer(request.header("content-type", "application/json").body(body)).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<T> {
        let sent = request.bearer_auth(self.token.expose()).send().await;
        let response = sent.map_err(reqwest::Error::without_url).context(
            "the admin port cannot be reached: is the gateway running, and is --admin-url right?",
        )?;
        let status = response.status().as_u16();
        if status == 401 {
            bail!("the gateway has another control token than --control-token-file");
        }
        if status != 200 {
            let said = response.text().await.unwrap_or_default();
            let said: String = said.trim().chars().filter(|c| !c.is_control()).take(300).collect();
            bail!("the admin port answered {status}: {said}");
        }
        let answer = response.json().await.map_err(reqwest::Error::without_url);
        answer.context("the admin port answered with something else: is --admin-url right?")
    }
}

/// Writes an answer as JSON.
pub(super) fn print_json(answer: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(answer).context("cannot write the answer")?);
    Ok(())
}

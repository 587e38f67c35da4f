//! `kanarie-gateway check-signature`: why one request is accepted or refused.
//!
//! Takes a pasted request and the configuration of the gateway, gives every URL that is tried with
//! every secret by name, and what to change if none fits. Runs the gateway's own comparison. Never
//! prints a secret, and stores nothing.

use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::callback::STATUS_PATH;
use crate::commands::configured::{name, routes};
use crate::config::Flags;
use crate::inbound::channel::signed_urls;
use crate::inbound::signature::{Comparison, Presented, SecretName, UnverifiedBody};
use crate::labels::Endpoint;
use crate::routes::table::Entry;

/// One request as Twilio made it, pasted from a log or from Twilio's console.
#[derive(Args, Debug)]
pub struct Request {
    /// The URL that Twilio requested, with its query
    #[arg(long)]
    pub url: String,
    /// The header X-Twilio-Signature
    #[arg(long)]
    pub signature: String,
    /// The header X-Twilio-Webhooks-Signature-Settings, if the request has one
    #[arg(long)]
    pub settings: Option<String>,
    /// The raw body, A=1&B=2; read from standard input without this flag
    #[arg(long)]
    pub body: Option<String>,
}

/// Prints the comparisons.
///
/// # Errors
/// When the request would be refused, or there is no configuration to check it with.
pub async fn run(
    request: &Request,
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<()> {
    let body = match &request.body {
        Some(body) => body.clone().into_bytes(),
        None => standard_input()?,
    };
    let (report, verified) = report(request, &body, &routes(flags, lookup).await?)?;
    print!("{report}");
    if verified { Ok(()) } else { bail!("the gateway would answer 403") }
}

/// What is compared, as text, and whether the request is accepted.
///
/// # Errors
/// When the headers alone refuse the request, or no channel is addressed.
pub fn report(
    request: &Request,
    body: &[u8],
    routes: &[Arc<Entry>],
) -> anyhow::Result<(String, bool)> {
    let target = request.url.split('#').next().unwrap_or_default();
    let query = target.split_once('?').map(|(_, query)| query);
    // What a paste adds at the end is no part of a form.
    let body = body.trim_ascii_end();
    let is_form = !body.starts_with(b"{");
    let decoded =
        if is_form { UnverifiedBody::form(body) } else { UnverifiedBody::opaque(query, body)? };
    let settings = request.settings.as_deref();
    let presented = Presented { query, signature: Some(request.signature.trim()), settings };
    let base = target.split('?').next().unwrap_or_default();
    let endpoint = if base.ends_with(STATUS_PATH) { Endpoint::Status } else { Endpoint::Message };
    let mut report = String::new();
    if !is_form {
        writeln!(report, "The body is no form: the gateway takes forms only.")?;
    }
    let mut verified = false;
    for entry in addressed(&decoded, routes, is_form)? {
        let route = &entry.route;
        let urls = signed_urls(endpoint, route);
        writeln!(report, "Channel {}:", name(route))?;
        let compared = decoded.comparisons(&presented, &urls, &route.credentials)?;
        let matched = compared.iter().any(|one| one.matches);
        verified |= matched;
        compared.iter().try_for_each(|one| line(&mut report, one))?;
        if !matched {
            let pasted = [target.to_owned()];
            let elsewhere = decoded.comparisons(&presented, &pasted, &route.credentials)?;
            match elsewhere.iter().find(|one| one.matches) {
                Some(found) => writeln!(
                    report,
                    "The {} signed it, for a URL that the channel does not have: set webhook.url \
                     (TWILIO_WEBHOOK_URL) to what stands in Twilio's console.",
                    secret(&found.secret)
                )?,
                None => writeln!(
                    report,
                    "None of these, and not the pasted URL either: the secret is another one, or \
                     URL or body are not exactly what Twilio sent."
                )?,
            }
        }
    }
    let verdict = if verified { "verified" } else { "not verified" };
    writeln!(report, "The request is {verdict}.")?;
    Ok((report, verified && is_form))
}

/// The channels that a body may be for.
fn addressed<'a>(
    body: &UnverifiedBody,
    routes: &'a [Arc<Entry>],
    is_form: bool,
) -> anyhow::Result<Vec<&'a Arc<Entry>>> {
    if !is_form {
        return Ok(routes.iter().collect());
    }
    let shown = body.addressed();
    let account = shown.account.context("the body has no AccountSid, or several")?;
    let found: Vec<_> = routes
        .iter()
        .filter(|entry| {
            let sender = Some(entry.route.sender.as_str());
            entry.route.account_sid.as_str() == account
                && (sender == shown.to || sender == shown.from)
        })
        .collect();
    if found.is_empty() {
        let known: Vec<_> = routes.iter().map(|entry| name(&entry.route)).collect();
        bail!(
            "no channel has this AccountSid with the body's To or From as its sender; known are: {}",
            known.join(", ")
        );
    }
    Ok(found)
}

fn line(report: &mut String, one: &Comparison) -> std::fmt::Result {
    let mark = if one.matches { "MATCH   " } else { "no match" };
    writeln!(report, "  {mark}  {}  {}", secret(&one.secret), one.url)
}

fn secret(name: &SecretName) -> String {
    match name {
        SecretName::AuthToken => "authToken".to_owned(),
        SecretName::AuthTokenSecondary => "authTokenSecondary".to_owned(),
        SecretName::SharedKey(id) => format!("signing key {id}"),
    }
}

fn standard_input() -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body).context("cannot read standard input")?;
    Ok(body)
}

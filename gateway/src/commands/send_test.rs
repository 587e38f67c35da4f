//! `kanarie-gateway send-test`: one signed message to a running gateway, and what becomes of it.
//!
//! Takes the configuration of the gateway, so that it signs like Twilio; posts one message and asks
//! the admin port how it ended. The gateway treats the message like any other: the agent is asked
//! and a reply goes to Twilio, who refuses it for a customer that does not exist. Never prints a
//! secret.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use kanarie_crds::route::Route;
use tokio::time::Instant;

use crate::callback::MESSAGE_PATH;
use crate::commands::configured::{name, routes};
use crate::commands::local::local;
use crate::config::Flags;
use crate::ends::MessageEnd;
use crate::inbound::signature::sign;
use crate::random;
use crate::routes::table::Entry;

/// What is sent, and where.
#[derive(Args, Debug)]
pub struct Test {
    /// The message
    #[arg(long, default_value = "Hallo")]
    pub text: String,
    /// The customer; the default does not exist, so Twilio refuses the reply. Name your own number,
    /// from which you wrote to the sender within a day, to get the reply on your telephone
    #[arg(long, default_value = NOBODY, value_name = "NUMBER")]
    pub from: String,
    /// The channel, as NAME or NAMESPACE/NAME; needed if there are several
    #[arg(long)]
    pub channel: Option<String>,
    /// Base URL of the running gateway [default: the port of --listen on this machine]
    #[arg(long, value_name = "URL")]
    pub gateway_url: Option<String>,
    /// Base URL of its admin port [default: the port of --admin-listen on this machine]
    #[arg(long, value_name = "URL")]
    pub admin_url: Option<String>,
    /// Seconds to wait for the outcome
    #[arg(long, default_value_t = 90)]
    pub wait: u64,
}

/// Sends the message and prints what became of it.
///
/// # Errors
/// When the message is not accepted, does not end well, or its end is not seen in time.
pub async fn run(
    test: &Test,
    flags: &Flags,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<()> {
    let routes = routes(flags, lookup).await?;
    let route = &chosen(&routes, test.channel.as_deref())?.route;
    let gateway = test.gateway_url.clone().unwrap_or_else(|| local(&flags.listen));
    let admin = test.admin_url.clone().unwrap_or_else(|| local(&flags.admin_listen));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .context("cannot make an HTTP client")?;
    let (sid, request) = signed(test, route)?;
    println!("Message {sid} for channel {}", name(route));
    let began = Instant::now();
    let response = client
        .post(format!("{}{MESSAGE_PATH}{}", gateway.trim_end_matches('/'), request.query))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-twilio-signature", request.signature)
        .body(request.body)
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .context("the gateway cannot be reached: is it running, and is --gateway-url right?")?;
    let status = response.status().as_u16();
    if status != 200 {
        bail!("the gateway answered {status}: {}", meaning(status));
    }
    println!("Accepted after {} ms; waiting for its end …", began.elapsed().as_millis());
    let outcome = wait(&client, &admin, &sid, Duration::from_secs(test.wait)).await?;
    tell(&outcome, test, began.elapsed())
}

/// A customer that does not exist: a number of the range that is kept for fiction.
const NOBODY: &str = "+15555550100";
/// Time between two questions for the outcome.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// A request like Twilio's.
struct Signed {
    /// Query of the webhook URL with its `?`, or nothing.
    query: String,
    body: String,
    signature: String,
}

fn signed(test: &Test, route: &Route) -> anyhow::Result<(String, Signed)> {
    let sid = format!("SM{}", random::token());
    let customer = match test.from.strip_prefix("whatsapp:") {
        Some(_) => test.from.clone(),
        None => format!("whatsapp:{}", test.from),
    };
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("MessageSid", &sid)
        .append_pair("AccountSid", route.account_sid.as_str())
        .append_pair("To", route.sender.as_str())
        .append_pair("From", &customer)
        .append_pair("Body", &test.text)
        .append_pair("MessageType", "text")
        .append_pair("NumMedia", "0")
        .append_pair("SmsStatus", "received")
        .finish();
    let url = route.webhook_urls.first().context("the channel has no webhook URL")?;
    let url = url.split('#').next().unwrap_or_default();
    let query = url.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    let signature = sign(&route.credentials.auth_token, url, body.as_bytes());
    Ok((sid, Signed { query, body, signature }))
}

fn chosen<'a>(routes: &'a [Arc<Entry>], wanted: Option<&str>) -> anyhow::Result<&'a Entry> {
    let fits = |entry: &&Arc<Entry>| {
        wanted
            .is_none_or(|wanted| entry.route.channel.name == wanted || name(&entry.route) == wanted)
    };
    let found: Vec<_> = routes.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok(one),
        _ => {
            let known: Vec<_> = routes.iter().map(|entry| name(&entry.route)).collect();
            bail!("--channel must name one of: {}", known.join(", "))
        }
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        403 => {
            "it has no such channel, or other secrets or another webhook URL than this \
             configuration"
        }
        429 => "this customer sent too many messages; wait a minute",
        503 => {
            "it is not ready, its store does not answer, or the channel holds as much of the queue \
             as it may: see /readyz on the admin port and the log"
        }
        _ => "that is no Kanarie gateway, or something stands before it",
    }
}

async fn wait(
    client: &reqwest::Client,
    admin: &str,
    sid: &str,
    limit: Duration,
) -> anyhow::Result<MessageEnd> {
    let url = format!("{}/outcomes/{sid}", admin.trim_end_matches('/'));
    let began = Instant::now();
    loop {
        let response = client.get(&url).send().await.map_err(reqwest::Error::without_url).context(
            "it is accepted, but the admin port cannot be asked how it ended: set --admin-url",
        )?;
        if response.status().is_success() {
            return response
                .json()
                .await
                .map_err(reqwest::Error::without_url)
                .context("the admin port answered with something else");
        }
        if began.elapsed() >= limit {
            bail!(
                "it is accepted, but its end was not seen here after {} s: the agent may be slow \
                 or fail and be asked again, or another replica has it; see the gateway's log",
                limit.as_secs()
            );
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn tell(outcome: &MessageEnd, test: &Test, took: Duration) -> anyhow::Result<()> {
    let seconds = took.as_secs_f64();
    match outcome {
        MessageEnd::Answered => println!("Answered after {seconds:.1} s: Twilio has the reply."),
        MessageEnd::Silent => println!("Done after {seconds:.1} s: the agent wanted no reply."),
        MessageEnd::DeadLetter { class } if class == "permanent" && test.from == NOBODY => {
            println!(
                "The agent answered after {seconds:.1} s, and Twilio refused the reply, as it must for \
             a customer that does not exist. Use --from with your own number to get it."
            )
        }
        MessageEnd::DeadLetter { class } => {
            bail!("it became a dead letter after {seconds:.1} s: {class}")
        }
    }
    Ok(())
}

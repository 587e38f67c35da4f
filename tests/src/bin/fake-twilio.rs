//! A fake Twilio as a process, for the local loop and for clusters.
//!
//! Takes one account by flags or environment. Beside the Messages API, `GET /fake/sent` lists what
//! was sent and `POST /fake/say` (`from`, `text`) lets a customer write: it posts the signed
//! webhook to the gateway and gives the gateway's answer.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use clap::Parser;
use kanarie_fakes::customer::Account;
use kanarie_fakes::server::Server;
use kanarie_fakes::twilio::{FakeTwilio, http_client};

/// Plays Twilio: accepts replies, and lets customers write.
#[derive(Parser)]
struct Options {
    /// Where the Messages API listens.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8091")]
    listen: SocketAddr,
    /// Where `POST /fake/say` listens.
    #[arg(long, env = "SAY_LISTEN", default_value = "0.0.0.0:8092")]
    say_listen: SocketAddr,
    /// Account SID.
    #[arg(long, env = "TWILIO_ACCOUNT_SID")]
    account_sid: String,
    /// Auth token.
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true)]
    auth_token: String,
    /// WhatsApp sender, `whatsapp:+…`.
    #[arg(long, env = "TWILIO_WHATSAPP_NUMBER")]
    sender: String,
    /// The URL that Twilio signs.
    #[arg(long, env = "TWILIO_WEBHOOK_URL")]
    webhook_url: String,
    /// Where the gateway really listens, host and port.
    #[arg(long, env = "GATEWAY")]
    gateway: String,
}

struct Customers {
    account: Account,
    gateway: String,
    client: reqwest::Client,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let account = Account {
        sid: options.account_sid,
        token: options.auth_token,
        sender: options.sender,
        webhook_url: options.webhook_url,
    };
    let twilio = FakeTwilio::start_at(options.listen, &[&account]).await?;
    twilio.set(|settings| settings.callbacks_to = Some(options.gateway.clone()));
    let customers = Customers { account, gateway: options.gateway, client: http_client()? };
    let router = axum::Router::new().route("/fake/say", post(say)).with_state(Arc::new(customers));
    let say = Server::start(options.say_listen, router).await?;
    println!("fake Twilio on {}, customers on {}", twilio.url(), say.address());
    std::future::pending().await
}

async fn say(State(customers): State<Arc<Customers>>, body: String) -> (StatusCode, String) {
    let field = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(body.as_bytes());
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let (Some(from), Some(text)) = (field("from"), field("text")) else {
        return (StatusCode::BAD_REQUEST, "the form needs from and text\n".to_owned());
    };
    let Customers { account, gateway, client } = &*customers;
    match account.say(client, gateway, &from, &text).await {
        Ok((sid, answer)) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, format!("{sid} {}\n", answer.body))
        }
        Err(error) => {
            (StatusCode::BAD_GATEWAY, format!("the gateway does not answer: {error:#}\n"))
        }
    }
}

//! The commands for the first day, the second one against a whole gateway in this process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use clap::Parser;
use kanarie_fakes::signer::sign_body;
use kanarie_gateway::commands::check_signature::{Request, report};
use kanarie_gateway::commands::send_test::{self, Test};
use kanarie_gateway::config::{Flags, config};
use kanarie_gateway::routes::environment;
use kanarie_gateway::routes::table::Entry;
use kanarie_gateway::stop::Signals;
use tokio::net::TcpListener;
use tokio::sync::watch;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "hush-hush";
const WEBHOOK: &str = "https://hooks.example.com/webhooks/twilio/whatsapp";
const BODY: &str = "MessageSid=SM1&AccountSid=AC00000000000000000000000000000001\
                    &To=whatsapp%3A%2B31201234567&From=whatsapp%3A%2B31612345678&Body=x";

#[derive(Parser)]
struct GatewayLine {
    #[command(flatten)]
    flags: Flags,
}

#[derive(Parser)]
struct TestLine {
    #[command(flatten)]
    test: Test,
}

#[test]
fn a_signature_that_fits_names_url_and_secret_but_not_its_value() {
    let (report, verified) = checked(&format!("{WEBHOOK}?a=1"), TOKEN, BODY).unwrap();
    assert!(verified);
    assert!(report.contains(&format!("MATCH     authToken  {WEBHOOK}?a=1\n")), "{report}");
    assert!(!report.contains(TOKEN), "{report}");
}

#[test]
fn a_signature_for_another_url_says_that_the_secret_is_right() {
    let (report, verified) = checked("https://other.example.com/hook", TOKEN, BODY).unwrap();
    assert!(!verified);
    assert!(report.contains("The authToken signed it, for a URL that the channel"), "{report}");
}

#[test]
fn a_signature_of_another_secret_says_that_nothing_fits() {
    let (report, verified) = checked(WEBHOOK, "another", BODY).unwrap();
    assert!(!verified);
    assert!(report.contains("None of these"), "{report}");
}

#[test]
fn what_a_paste_adds_at_the_end_does_no_harm() {
    let pasted = format!("{BODY}\r\n");
    let request = request(WEBHOOK, TOKEN, BODY);
    assert!(report(&request, pasted.as_bytes(), &[entry()]).unwrap().1);
}

#[test]
fn a_body_for_an_unknown_sender_names_the_known_channels() {
    let body = BODY.replace("31201234567", "31201234568");
    let error = checked(WEBHOOK, TOKEN, &body).unwrap_err();
    assert!(error.contains("default/environment"), "{error}");
}

#[tokio::test]
async fn a_message_of_send_test_is_seen_to_its_end() {
    // Another test of this process may have been quicker; either way there is one provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent_url = format!("http://{}/", agent.local_addr().unwrap());
    let silent = Router::new().fallback(async || StatusCode::NO_CONTENT);
    let agent = tokio::spawn(async move { axum::serve(agent, silent).await });
    let folder = std::env::temp_dir().join(format!("kanarie-send-test-{}", std::process::id()));
    let store = format!("--store=embedded:{}", folder.display());
    let flags = gateway_flags(&[
        "--listen=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
        "--agent-allow=127.0.0.0/8",
        &store,
    ]);
    let variables = variables(&agent_url);
    let lookup = |name: &str| variables.get(name).cloned();
    let gateway = kanarie_gateway::wiring::bind(config(&flags, &lookup).unwrap()).await.unwrap();
    let urls = [
        format!("--gateway-url=http://{}", gateway.public_address().unwrap()),
        format!("--admin-url=http://{}", gateway.admin_address().unwrap()),
    ];
    let (stop, hurry) = (watch::Sender::new(false), watch::Sender::new(false));
    let signals = Signals { stop: stop.subscribe(), hurry: hurry.subscribe() };
    let running = tokio::spawn(gateway.run(signals));
    let line =
        TestLine::parse_from(["send-test"].into_iter().chain(urls.iter().map(String::as_str)));
    // The routes of the new gateway may not be loaded yet: then it answers 503.
    let mut sent = send_test::run(&line.test, &flags, &lookup).await;
    while sent.as_ref().is_err_and(|error| error.to_string().contains("503")) {
        tokio::task::yield_now().await;
        sent = send_test::run(&line.test, &flags, &lookup).await;
    }
    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
    agent.abort();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(sent.is_ok(), "{sent:?}");
}

fn checked(url: &str, token: &str, body: &str) -> Result<(String, bool), String> {
    let request = request(url, token, body);
    report(&request, body.as_bytes(), &[entry()]).map_err(|error| error.to_string())
}

/// A request to `url`, signed with `token`. The body's parameters are in another order than the
/// signed ones.
fn request(url: &str, token: &str, body: &str) -> Request {
    Request {
        url: url.to_owned(),
        signature: sign_body(token, url, body.as_bytes()),
        settings: None,
        body: None,
    }
}

fn entry() -> Arc<Entry> {
    let variables = variables("https://agent.example.com/");
    let route = environment::route(&|name| variables.get(name).cloned()).unwrap();
    Arc::new(Entry { route, hash: "hash".parse().unwrap(), gone_since: None })
}

fn variables(agent: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("TWILIO_ACCOUNT_SID", ACCOUNT.to_owned()),
        ("TWILIO_AUTH_TOKEN", TOKEN.to_owned()),
        ("TWILIO_WHATSAPP_NUMBER", "+31201234567".to_owned()),
        ("TWILIO_WEBHOOK_URL", WEBHOOK.to_owned()),
        ("AGENT_URL", agent.to_owned()),
    ])
}

fn gateway_flags(flags: &[&str]) -> Flags {
    GatewayLine::parse_from(["gateway"].iter().chain(flags)).flags
}

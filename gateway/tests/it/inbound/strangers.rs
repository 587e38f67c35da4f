//! Balancers that look whether anybody is there, and strangers: what the public port tells them, and
//! what they may cost.

use std::collections::HashSet;

use kanarie_gateway::events;
use kanarie_gateway::levels::Standing;

use crate::inbound::gateway::{Gateway, MESSAGES, text};

#[tokio::test]
async fn a_balancer_is_told_that_somebody_is_there_and_nothing_else() {
    let gateway = Gateway::new();
    for target in ["/", "/healthz", "/healthz?x=1"] {
        let told = gateway.asked("GET", target).await;
        assert_eq!((told.status, told.body.as_str()), (200, ""), "{target}");
        assert_eq!(gateway.asked("HEAD", target).await.status, 200, "{target}");
    }
}

#[tokio::test]
async fn what_nobody_answers_is_counted() {
    let gateway = Gateway::new();
    let before = (counted("signed"), counted("unsigned"));
    for (method, target, status) in [
        ("POST", "/webhooks/twilio/whatsapp/", 404),
        ("GET", "/.env", 404),
        ("GET", MESSAGES, 405),
        ("POST", "/", 405),
    ] {
        let told = gateway.asked(method, target).await;
        assert_eq!((told.status, told.body.as_str()), (status, ""), "{method} {target}");
    }
    let signed = gateway.post("/whatsapp", "", &[("x-twilio-signature", "x")]).await;
    assert_eq!(signed.status, 404);
    assert_eq!((counted("signed"), counted("unsigned")), (before.0 + 1, before.1 + 4));
}

/// How many requests of a kind nobody answered; only this test makes any.
fn counted(caller: &str) -> u64 {
    let series = format!("kanarie_unanswered_requests_total{{caller=\"{caller}\"}} ");
    let page = events::render(&Standing::default(), &HashSet::new());
    let value = page.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_form_of_more_parameters_than_any_webhook_is_refused_unsorted() {
    let gateway = Gateway::new();
    let padded = |parameters: usize| {
        let own = text("SM1", "Hallo");
        let own_parameters = own.split('&').count();
        let padding: String = (own_parameters..parameters).map(|at| format!("&P{at}=")).collect();
        format!("{own}{padding}")
    };
    assert_eq!(gateway.message(&padded(128)).await.status, 200);
    // Signed as it should be, and refused all the same: nobody looked at the signature.
    assert_eq!(gateway.message(&padded(129)).await.status, 413);
    assert_eq!(gateway.post(MESSAGES, &"x&".repeat(30_000), &[]).await.status, 413);
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused() {
    let gateway = Gateway::new();
    let of = |bytes: usize| format!("Body={}", "x".repeat(bytes - 5));
    assert_eq!(gateway.post(MESSAGES, &of(64 << 10), &[]).await.status, 403);
    assert_eq!(gateway.post(MESSAGES, &of((64 << 10) + 1), &[]).await.status, 413);
}

//! Dead letters by the admin port: what is told and done with the token, and what is not without it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use kanarie_crds::route::SecretText;
use kanarie_gateway::loads::{Bounds, watch};
use tokio::sync::watch::channel;
use tokio::time::timeout;

use crate::admin::port::Port;

#[tokio::test]
async fn without_the_token_nothing_is_told_of_dead_letters_and_nothing_is_done() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("right")));
    port.bury_once("uid").await;
    for (method, path) in LETTER_PATHS {
        for wrong in [None, Some("Bearer wrong"), Some("right"), Some("Bearer ")] {
            let (status, body) = port.ask(method, path, wrong, "{}").await;
            assert_eq!((status, body.as_str()), (401, "the control token is needed\n"), "{path}");
        }
    }
    assert_eq!(port.state("").await.dead_letters[0].count, 1);
}

#[tokio::test]
async fn a_request_about_dead_letters_that_makes_no_sense_is_refused() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let letters = |query: &str| format!("/control/v1/dead-letters{query}");
    for (method, path) in [
        ("GET", letters("?limit=0")),
        ("GET", letters("?limit=1001")),
        ("GET", letters("?limit=99999999999999999999")),
        ("GET", letters("?after=x")),
        ("GET", letters("?after=99.1.1")),
        ("GET", letters("?chanel=uid")),
        ("GET", letters("?class=http&class=timeout")),
        ("GET", letters("?class=%27%3B")),
        ("GET", letters("?channel=")),
        ("GET", letters("?conversation=abc")),
        ("GET", letters("/x")),
        ("GET", letters("/00-1%2F..")),
        ("GET", letters("/99-1")),
        ("GET", letters("/00-1?text=maybe")),
        ("DELETE", letters("")),
        ("DELETE", letters("?limit=5")),
        ("DELETE", letters("?all=yes")),
        ("POST", letters("/replay")),
        ("POST", letters("/replay?all=false")),
        ("POST", letters("/x/replay")),
        ("POST", "/control/v1/erase".to_owned()),
    ] {
        let (status, body) = port.ask(method, &path, Some("Bearer t"), "{}").await;
        assert_eq!(status, 400, "{method} {path}: {body}");
    }
    for body in ["", "[]", "{\"customer\":\"+31\"}", "{\"who\":1}", &"x".repeat(5_000)] {
        let (status, said) = port.ask("POST", "/control/v1/erase", Some("Bearer t"), body).await;
        assert_eq!(status, 400, "{body}: {said}");
    }
    assert_eq!(port.state("").await.dead_letters[0].count, 1);
}

#[tokio::test]
async fn a_dead_letter_is_shown_by_its_id_and_without_its_text() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let (status, page) = port.ask("GET", "/control/v1/dead-letters", Some("Bearer t"), "").await;
    assert!(status == 200 && page.contains("\"id\":\"00-1\""), "{page}");
    assert!(page.contains("\"textKept\":true") && !page.contains("message\":"), "{page}");
    let one = "/control/v1/dead-letters/00-1";
    let (_, shown) = port.ask("GET", one, Some("Bearer t"), "").await;
    assert!(
        shown.contains("\"conversationId\":\"0000") && !shown.contains("message\":"),
        "{shown}"
    );
    let (_, shown) = port.ask("GET", &format!("{one}?text=true"), Some("Bearer t"), "").await;
    assert!(shown.contains("\"message\":{}"), "{shown}");
    let (status, _) = port.ask("GET", "/control/v1/dead-letters/00-2", Some("Bearer t"), "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_dead_letter_that_nobody_would_serve_stays_and_says_so() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let one = "/control/v1/dead-letters/00-1/replay";
    let (status, body) = port.ask("POST", one, Some("Bearer t"), "").await;
    assert!(status == 409 && body.contains("no channel has a route"), "{body}");
    let all = "/control/v1/dead-letters/replay?all=true";
    let (status, body) = port.ask("POST", all, Some("Bearer t"), "").await;
    assert!(status == 200 && body.contains("\"left\":{\"no-channel\":1}"), "{body}");
    assert_eq!(port.state("").await.dead_letters[0].count, 1);
}

#[tokio::test]
async fn a_dead_letter_whose_reply_may_have_arrived_is_replayed_only_where_it_is_named() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury("uid", "unknown").await;
    let many = "/control/v1/dead-letters/replay";
    for query in ["all=true", "channel=uid", "conversation=00000000000000000000000000000000"] {
        let path = format!("{many}?{query}");
        let (status, body) = port.ask("POST", &path, Some("Bearer t"), "").await;
        assert!(status == 200 && body.contains("\"left\":{\"maybe-sent\":1}"), "{query}: {body}");
    }
    let named = format!("{many}?class=unknown");
    let (_, body) = port.ask("POST", &named, Some("Bearer t"), "").await;
    assert!(body.contains("\"left\":{\"no-channel\":1}"), "it was tried: {body}");
    let one = "/control/v1/dead-letters/00-1/replay";
    let (_, body) = port.ask("POST", one, Some("Bearer t"), "").await;
    assert!(body.contains("no channel has a route"), "it was tried: {body}");
}

#[tokio::test]
async fn an_erased_dead_letter_is_gone_and_a_second_request_finds_none() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let all = "/control/v1/dead-letters?channel=uid";
    for erased in [1, 0] {
        let (_, body) = port.ask("DELETE", all, Some("Bearer t"), "").await;
        assert_eq!(body, format!("{{\"erased\":{erased}}}"));
    }
    let one = "/control/v1/dead-letters/00-1";
    assert_eq!(port.ask("DELETE", one, Some("Bearer t"), "").await.0, 404);
}

#[tokio::test]
async fn an_erased_conversation_is_told_by_how_much_there_was() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    port.bury_once("uid").await;
    let body = format!("{{\"conversation\":\"{}\"}}", "0".repeat(32));
    let (_, said) = port.ask("POST", "/control/v1/erase", Some("Bearer t"), &body).await;
    let told = r#"{"conversation":"00000000","messages":0,"deadLetters":1,"inProgress":false}"#;
    assert_eq!(said, told);
    assert!(port.state("").await.dead_letters.is_empty());
}

#[tokio::test]
async fn an_id_that_is_no_text_is_refused_as_any_other_that_is_none() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    let path = "/control/v1/dead-letters/%ff";
    let (status, said) = port.get(path, Some("Bearer t")).await;
    assert_eq!((status, said.as_str()), (400, "the id of a dead letter looks like 07-42\n"));
}

#[tokio::test(start_paused = true)]
async fn an_erasure_whose_body_does_not_come_is_answered_in_time() {
    let port = Port::new();
    port.routes.set_control_token(Some(SecretText::new("t")));
    let without_end = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let answer = port.send("POST", "/control/v1/erase", Some("Bearer t"), without_end);
    let (status, _) = timeout(Duration::from_secs(60), answer).await.expect("it answers");
    assert_eq!(status, 408);
    let large = format!("{{\"conversation\":\"{}\"}}", "0".repeat(8_000));
    let (status, _) = port.ask("POST", "/control/v1/erase", Some("Bearer t"), &large).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn erased_dead_letters_are_counted_no_more_at_the_next_look() {
    let (_end, ending) = channel(false);
    for request in [
        ("DELETE", "/control/v1/dead-letters/00-1", String::new()),
        ("DELETE", "/control/v1/dead-letters?all=true", String::new()),
        ("POST", "/control/v1/erase", format!("{{\"conversation\":\"{}\"}}", "0".repeat(32))),
    ] {
        let port = Port::new();
        port.routes.set_control_token(Some(SecretText::new("t")));
        port.bury_once("uid").await;
        let bounds = Bounds { messages: 100, bytes: 1_000, dead_letters: 10 };
        let (store, full) = (Arc::clone(&port.store), port.full.clone());
        tokio::spawn(watch(store, bounds, full, Arc::clone(&port.routes), ending.clone()));
        port.looked_until(|held| held == 1).await;
        let (method, path, body) = request;
        assert_eq!(port.ask(method, path, Some("Bearer t"), &body).await.0, 200, "{path}");
        port.looked_until(|held| held == 0).await;
    }
}

const LETTER_PATHS: [(&str, &str); 10] = [
    ("GET", "/control/v1/dead-letters"),
    ("GET", "/control/v1/dead-letters/00-1?text=true"),
    ("DELETE", "/control/v1/dead-letters?all=true"),
    ("DELETE", "/control/v1/dead-letters/00-1"),
    ("POST", "/control/v1/dead-letters/replay?limit=nonsense"),
    ("POST", "/control/v1/dead-letters/x/replay"),
    ("GET", "/control/v1/dead-letters/%ff"),
    ("DELETE", "/control/v1/dead-letters/%ff"),
    ("POST", "/control/v1/dead-letters/%ff/replay"),
    ("POST", "/control/v1/erase"),
];

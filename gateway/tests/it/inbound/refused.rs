//! What is not ours, or not yet: refused for good, or to be sent again.

use std::sync::Arc;

use kanarie_crds::route::route_name;
use kanarie_fakes::signer::sign_body;
use kanarie_gateway::cut::Cuts;
use kanarie_gateway::heartbeat::beat;
use kanarie_gateway::key::LearnedKey;
use kanarie_gateway::routes::table::{DOUBT_FOR, RouteTable, Sighting};
use kanarie_gateway::silence::Silence;
use kanarie_queue::evidence::ReadCounts;
use kanarie_words::ids::StoreKey;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::inbound::gateway::{
    ACCOUNT, Gateway, KEY, MESSAGES, SENDER, STATUS, TOKEN, callback, route, text, url,
};

/// Scenario 20: what is not signed counts on neither track.
#[tokio::test]
async fn scenario_20_a_forged_message_is_refused_and_leaves_nothing() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let forged = sign_body("another", &url(MESSAGES), body.as_bytes());
    let answer = gateway.post(MESSAGES, &body, &[("x-twilio-signature", &forged)]).await;
    assert_eq!((answer.status, answer.body.as_str()), (403, "Forbidden"));
    assert!(gateway.queued().await.is_empty());
    let channels = vec![route().channel.uid];
    let read = gateway.store.run(ReadCounts { channels }).await.unwrap();
    assert!(read.counts.iter().all(|of| of.messages.is_empty() && of.customers.is_empty()));
}

#[tokio::test]
async fn a_message_for_nobody_is_refused_like_a_forged_one() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo").replace("31201234567", "31201234568");
    let answer = gateway.message(&body).await;
    assert_eq!((answer.status, answer.body.as_str()), (403, "Forbidden"));
    assert_eq!(gateway.post(MESSAGES, "", &[]).await.status, 403);
}

#[tokio::test]
async fn two_signature_headers_are_refused() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let signature = sign_body(TOKEN, &url(MESSAGES), body.as_bytes());
    let twice = [("x-twilio-signature", signature.as_str()), ("x-twilio-signature", &signature)];
    assert_eq!(gateway.post(MESSAGES, &body, &twice).await.status, 403);
}

#[tokio::test]
async fn the_query_is_signed_exactly_as_it_is_received() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let target = "/webhooks/twilio/whatsapp?tenant=a%20b+c&x";
    assert_eq!(gateway.signed(target, &body).await.status, 200);
    let signature = sign_body(TOKEN, &url(MESSAGES), body.as_bytes());
    let other = gateway.post(target, &body, &[("x-twilio-signature", &signature)]).await;
    assert_eq!(other.status, 403);
}

#[tokio::test]
async fn forwarded_headers_change_nothing() {
    let gateway = Gateway::new();
    let body = text("SM1", "Hallo");
    let signature = sign_body(TOKEN, "http://evil.example/p", body.as_bytes());
    let headers = [
        ("x-twilio-signature", signature.as_str()),
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-prefix", "/p"),
    ];
    assert_eq!(gateway.post(MESSAGES, &body, &headers).await.status, 403);
}

/// Scenario 50: before a gateway knows the split it answers nobody.
#[tokio::test]
async fn scenario_50_before_the_routes_are_known_nobody_is_refused() {
    let gateway = Gateway::with_table(RouteTable::default());
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 503);
    assert_eq!(gateway.post(MESSAGES, "forged", &[]).await.status, 503);
}

#[tokio::test]
async fn nothing_is_admitted_by_a_key_that_the_store_no_longer_has() {
    let gateway = Gateway::new();
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
    assert_ne!(gateway.store.key().await.unwrap(), StoreKey::from_bytes(KEY));
    let (key, (end, ending)) = (LearnedKey::default(), watch::channel(false));
    key.set(StoreKey::from_bytes(KEY));
    let (routes, store) = (Arc::clone(&gateway.routes), Arc::clone(&gateway.store));
    let (replica, pulse) = ("replica".parse().unwrap(), gateway.pulse.clone());
    let cuts = Arc::new(Cuts::new(Silence::begin(Instant::now())));
    let beating = tokio::spawn(beat(replica, key, routes, store, pulse, cuts, ending));
    while !gateway.pulse.has_other_key() {
        tokio::task::yield_now().await;
    }
    assert!(!gateway.pulse.is_fresh(), "nothing is claimed either");
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 503);
    end.send_replace(true);
    beating.await.unwrap();
}

#[tokio::test]
async fn a_message_of_a_route_that_cannot_be_read_may_be_sent_again() {
    let routes = RouteTable::default();
    let name = route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap());
    routes.replace(vec![(name.clone(), Sighting::Unreadable)], Instant::now());
    let gateway = Gateway::with_table(routes);
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 503);
    assert_eq!(gateway.signed(STATUS, &callback("SM9")).await.status, 503);
    let stranger = text("SM1", "Hallo").replace("31201234567", "31201234568");
    assert_eq!(gateway.message(&stranger).await.status, 403);
    let seen = Sighting::Route(Box::new(route()), "hash".parse().unwrap());
    gateway.routes.update(vec![(name, seen)], Instant::now());
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn while_the_source_cannot_be_read_a_stranger_may_be_one_of_ours() {
    let gateway = Gateway::new();
    let stranger = text("SM1", "Hallo").replace("31201234567", "31201234568");
    gateway.routes.doubt(Instant::now());
    assert_eq!(gateway.message(&stranger).await.status, 503);
    assert_eq!(gateway.post(MESSAGES, &text("SM1", "Hallo"), &[]).await.status, 403, "known");
    assert_eq!(gateway.post(MESSAGES, "", &[]).await.status, 403, "names nobody");
    gateway.routes.trust();
    assert_eq!(gateway.message(&stranger).await.status, 403);
    gateway.routes.doubt(Instant::now());
    tokio::time::advance(DOUBT_FOR).await;
    assert_eq!(gateway.message(&stranger).await.status, 403);
}

#[tokio::test]
async fn a_message_of_a_channel_that_has_just_gone_is_verified_and_not_accepted() {
    let gateway = Gateway::new();
    let gone = (route_name(&ACCOUNT.parse().unwrap(), &SENDER.parse().unwrap()), Sighting::Gone);
    gateway.routes.update(vec![gone], Instant::now());
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 503);
    assert_eq!(gateway.post(MESSAGES, &text("SM1", "Hallo"), &[]).await.status, 403);
    assert!(gateway.queued().await.is_empty());
}

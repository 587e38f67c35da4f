//! Messages that are taken: once, within the bounds of their channel and of what WhatsApp carries.

use kanarie_gateway::envelope;
use kanarie_gateway::key::conversation;
use kanarie_gateway::loads::Bounds;
use kanarie_queue::dead::Load;
use kanarie_words::ids::{ChannelUid, StoreKey};

use crate::inbound::gateway::{CUSTOMER, Gateway, KEY, MESSAGES, STATUS, callback, text};

#[tokio::test]
async fn a_signed_message_is_acknowledged_and_queued() {
    let gateway = Gateway::new();
    let answer = gateway.message(&text("SM1", "Hallo")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "text/xml; charset=utf-8");
    let queued = gateway.queued().await;
    assert_eq!(queued.len(), 1);
    assert_eq!(queued[0].channel, "uid-1");
    let message = envelope::read(&queued[0].envelope).unwrap();
    assert_eq!((message.sid.as_str(), message.text.as_str()), ("SM1", "Hallo"));
    assert_eq!((message.customer.as_str(), message.received_at), (CUSTOMER, 1_000_000));
    assert_eq!(message.namespace.as_deref(), Some("web"), "who may answer it in another's place");
    let key = StoreKey::from_bytes(KEY);
    assert_eq!(
        queued[0].conversation,
        conversation(key, &message.account, &message.sender, &message.customer)
    );
}

#[tokio::test]
async fn a_queued_message_rings_the_bell_of_its_shard() {
    let gateway = Gateway::new();
    gateway.message(&text("SM1", "Hallo")).await;
    let shard = gateway.queued().await[0].conversation.shard();
    gateway.doorbell.rung(shard).await;
}

#[tokio::test]
async fn a_repeated_message_is_acknowledged_but_not_queued_twice() {
    let gateway = Gateway::new();
    for _ in 0..3 {
        assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
    }
    assert_eq!(gateway.queued().await.len(), 1);
}

#[tokio::test]
async fn the_51st_message_of_a_minute_is_told_to_slow_down() {
    let gateway = Gateway::new();
    for index in 0..50 {
        assert_eq!(gateway.message(&text(&format!("SM{index}"), "x")).await.status, 200);
    }
    let answer = gateway.message(&text("SM51", "x")).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.body, "Too many requests, please slow down");
    assert_eq!(answer.headers["retry-after"], "60");
    assert_eq!(gateway.message(&text("SM1", "x")).await.status, 200, "a duplicate costs nothing");
}

#[tokio::test]
async fn a_channel_that_holds_as_much_as_it_may_is_refused_by_itself() {
    let gateway = Gateway::new();
    let bounds = Bounds { messages: 2, bytes: 1_000_000, dead_letters: 10 };
    let of = |uid: &str, messages| {
        let channel = ChannelUid::parse(uid).unwrap();
        [Load { channel, messages, bytes: 0, dead_letters: 0 }]
    };
    gateway.full.take(&of("uid-2", 2), bounds, &gateway.routes);
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200, "a neighbour is full");
    gateway.full.take(&of("uid-1", 2), bounds, &gateway.routes);
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 503);
    assert_eq!(gateway.signed(STATUS, &callback("SM9")).await.status, 200, "its replies go on");
    assert_eq!(gateway.post(MESSAGES, &text("SM2", "Hallo"), &[]).await.status, 403);
    gateway.full.take(&of("uid-1", 1), bounds, &gateway.routes);
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 200);
    assert_eq!(gateway.queued().await.len(), 2);
}

#[tokio::test]
async fn what_the_store_holds_of_a_channel_makes_it_full_and_gives_it_room_again() {
    let gateway = Gateway::new();
    let bounds = Bounds { messages: 2, bytes: 1_000_000, dead_letters: 10 };
    let uid = ChannelUid::parse("uid-1").unwrap();
    assert_eq!(gateway.message(&text("SM1", "Hallo")).await.status, 200);
    assert!(!gateway.look(bounds).await.is_full(&uid));
    assert_eq!(gateway.message(&text("SM2", "Hallo")).await.status, 200);
    assert!(gateway.look(bounds).await.is_full(&uid));
    assert_eq!(gateway.message(&text("SM3", "Hallo")).await.status, 503);
    assert_eq!(gateway.queued().await.len(), 2);
    assert!(!gateway.look(bounds).await.is_full(&uid));
    assert_eq!(gateway.message(&text("SM3", "Hallo")).await.status, 200);
}

#[tokio::test]
async fn an_unknown_kind_of_message_is_acknowledged_and_not_queued() {
    let gateway = Gateway::new();
    let body = format!("{}&MessageType=reaction", text("SM1", "x"));
    assert_eq!(gateway.message(&body).await.status, 200);
    assert!(gateway.queued().await.is_empty());
}

#[tokio::test]
async fn a_signed_body_that_is_no_message_is_a_bad_request() {
    let gateway = Gateway::new();
    let body = text("SM1", "x").replace("MessageSid", "Other");
    assert_eq!(gateway.message(&body).await.status, 400);
}

#[tokio::test]
async fn a_message_that_whatsapp_cannot_carry_takes_no_room_in_the_queue() {
    let gateway = Gateway::new();
    let longest = "\u{1f44d}".repeat(4_096);
    assert_eq!(gateway.message(&text("SM1", &longest)).await.status, 200);
    assert_eq!(gateway.message(&text("SM2", &"\u{1f44d}".repeat(8_200))).await.status, 413);
    assert_eq!(gateway.queued().await.len(), 1);
}

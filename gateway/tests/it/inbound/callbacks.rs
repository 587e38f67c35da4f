//! Status callbacks: what they settle, and what they must not.

use std::sync::Arc;

use kanarie_gateway::deliveries;
use kanarie_queue::deliveries::{SumUndelivered, Undelivered};
use kanarie_queue::send::Marked;
use tokio::sync::watch;

use crate::inbound::gateway::{Gateway, MESSAGES, STATUS, callback, text};

#[tokio::test]
async fn a_status_callback_on_the_message_url_is_acknowledged_and_is_no_message() {
    let gateway = Gateway::new();
    assert_eq!(gateway.signed(MESSAGES, &callback("SM9")).await.status, 200);
    assert!(gateway.queued().await.is_empty());
}

#[tokio::test]
async fn a_message_on_the_status_url_is_refused() {
    let gateway = Gateway::new();
    assert_eq!(gateway.signed(STATUS, &text("SM1", "x")).await.status, 403);
}

#[tokio::test]
async fn a_status_callback_settles_the_send_it_names() {
    for target in [STATUS, MESSAGES] {
        let gateway = Gateway::new();
        let (lease, id) = gateway.sending().await;
        let target = format!("{target}?kanarie-reply={id}");
        let mut report = gateway.reports.expect(id.clone());
        assert_eq!(gateway.signed(&target, &callback("SM9")).await.status, 200);
        // Its conversation goes on at once, and so does the turn that waits for the report.
        gateway.doorbell.rung(id.conversation.shard()).await;
        report.gone().await;
        let marked = gateway.mark(lease, id, "b").await;
        assert_eq!(marked, Ok(Marked::Sent), "{target}");
    }
}

/// What was kept of undelivered replies once everything that was taken is told.
async fn undelivered(gateway: &Gateway) -> Vec<Undelivered> {
    let over = watch::Sender::new(true).subscribe();
    deliveries::tell(gateway.deliveries.clone(), Arc::clone(&gateway.store), over).await;
    gateway.store.run(SumUndelivered).await.unwrap()
}

#[tokio::test]
async fn what_a_status_callback_says_is_kept_for_the_channel_that_signed_it() {
    for target in [STATUS, MESSAGES] {
        let gateway = Gateway::new();
        let (_, id) = gateway.sending().await;
        let target = format!("{target}?kanarie-reply={id}");
        let body = callback("SM9").replace("delivered", "undelivered") + "&ErrorCode=63016";
        for _ in 0..3 {
            assert_eq!(gateway.signed(&target, &body).await.status, 200);
        }
        let told = undelivered(&gateway).await;
        let [told] = &told[..] else { unreachable!("one channel: {told:?}") };
        assert_eq!((told.channel.as_str(), told.count), ("uid-1", 1));
        assert_eq!(told.last_code, Some(63_016));
    }
}

#[tokio::test]
async fn a_forged_status_callback_or_one_without_an_id_of_ours_is_kept_for_nobody() {
    let gateway = Gateway::new();
    let (_, id) = gateway.sending().await;
    let body = callback("SM9").replace("delivered", "failed");
    let target = format!("{STATUS}?kanarie-reply={id}");
    assert_eq!(gateway.post(&target, &body, &[]).await.status, 403);
    assert_eq!(gateway.signed(STATUS, &body).await.status, 200);
    assert_eq!(undelivered(&gateway).await, []);
}

#[tokio::test]
async fn a_forged_status_callback_settles_nothing() {
    let gateway = Gateway::new();
    let (lease, id) = gateway.sending().await;
    let target = format!("{STATUS}?o={id}");
    assert_eq!(gateway.post(&target, &callback("SM9"), &[]).await.status, 403);
    let marked = gateway.mark(lease, id, "b").await;
    assert!(matches!(marked, Ok(Marked::Ambiguous { .. })));
}

#[tokio::test]
async fn a_status_callback_without_an_id_of_ours_is_acknowledged() {
    let gateway = Gateway::new();
    for query in ["", "?o=", "?o=x.y.z", "?other=1"] {
        let target = format!("{STATUS}{query}");
        assert_eq!(gateway.signed(&target, &callback("SM9")).await.status, 200, "{query}");
    }
}

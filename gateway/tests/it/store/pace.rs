//! The outbound pace of a sender.

use kanarie_queue::pace::Reserved;
use kanarie_queue::reserve::Reserve;

use crate::store::stage::{Stage, id};

on_both_stores!(
    eight_sends_go_at_once_and_the_next_wait_their_interval,
    waits_are_rounded_up_to_milliseconds,
    a_burst_comes_back_with_time,
    nothing_is_booked_further_than_two_seconds_ahead,
    senders_do_not_wait_for_each_other,
    a_clock_that_stepped_back_blocks_a_sender_for_two_seconds_at_most,
);

async fn eight_sends_go_at_once_and_the_next_wait_their_interval(stage: &Stage) {
    for _ in 0..8 {
        assert_eq!(reserve(stage, 10).await, Reserved::After(0));
    }
    assert_eq!(reserve(stage, 10).await, Reserved::After(100));
    assert_eq!(reserve(stage, 10).await, Reserved::After(200));
}

async fn waits_are_rounded_up_to_milliseconds(stage: &Stage) {
    for _ in 0..8 {
        reserve(stage, 80).await;
    }
    assert_eq!(reserve(stage, 80).await, Reserved::After(13));
    assert_eq!(reserve(stage, 80).await, Reserved::After(25));
    assert_eq!(reserve(stage, 80).await, Reserved::After(38));
}

async fn a_burst_comes_back_with_time(stage: &Stage) {
    for _ in 0..10 {
        reserve(stage, 10).await;
    }
    stage.pass(1_000);
    for _ in 0..8 {
        assert_eq!(reserve(stage, 10).await, Reserved::After(0));
    }
    assert_eq!(reserve(stage, 10).await, Reserved::After(100));
}

async fn nothing_is_booked_further_than_two_seconds_ahead(stage: &Stage) {
    for _ in 0..28 {
        assert!(matches!(reserve(stage, 10).await, Reserved::After(_)));
    }
    assert_eq!(reserve(stage, 10).await, Reserved::Busy(100));
    assert_eq!(reserve(stage, 10).await, Reserved::Busy(100));
    stage.pass(100);
    assert_eq!(reserve(stage, 10).await, Reserved::After(2_000));
}

async fn senders_do_not_wait_for_each_other(stage: &Stage) {
    for _ in 0..10 {
        reserve(stage, 10).await;
    }
    let other =
        stage.run(Reserve { sender: id("AC1|whatsapp:other"), per_second: 10, count: 1 }).await;
    assert_eq!(other, Reserved::After(0));
}

async fn a_clock_that_stepped_back_blocks_a_sender_for_two_seconds_at_most(stage: &Stage) {
    stage.at(3_600_000);
    for _ in 0..28 {
        reserve(stage, 10).await;
    }
    stage.at(0);
    assert!(matches!(reserve(stage, 10).await, Reserved::Busy(_)));
    stage.at(2_100);
    assert!(matches!(reserve(stage, 10).await, Reserved::After(_)));
}

async fn reserve(stage: &Stage, per_second: u32) -> Reserved {
    stage.run(Reserve { sender: id("AC1|whatsapp:sender"), per_second, count: 1 }).await
}

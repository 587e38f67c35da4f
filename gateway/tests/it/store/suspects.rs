//! Whose crash it was: only a lease that expired while its owner ran no other suspect tells.

use kanarie_queue::lease::Owned;

use crate::store::stage::{LEASE_MS, Stage};

on_both_stores!(
    a_crash_in_company_is_no_crash_alone,
    a_crash_alone_is_told_to_the_next_owner,
    the_crash_alone_of_one_owner_says_nothing_of_the_next,
    whoever_gives_a_suspect_back_has_not_crashed_alone,
    a_crash_alone_stays_known_while_its_next_owner_lives,
    the_next_message_of_a_suspect_is_none,
    isolation_needs_the_lease,
);

async fn a_crash_in_company_is_no_crash_alone(stage: &Stage) {
    stage.lease(1, "SM1", "a").await;
    stage.pass(LEASE_MS);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.crashes, head.crashed_alone), (1, false));
}

async fn a_crash_alone_is_told_to_the_next_owner(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    assert_eq!(stage.isolate(&lease).await, Owned::Done);
    assert_eq!(stage.isolate(&lease).await, Owned::Done);
    assert!(!stage.claim("a").await.0.crashed_alone);
    stage.pass(LEASE_MS);
    let (head, _) = stage.claim("b").await;
    assert_eq!((head.crashes, head.crashed_alone), (1, true));
}

async fn the_crash_alone_of_one_owner_says_nothing_of_the_next(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.isolate(&lease).await;
    stage.pass(LEASE_MS);
    assert!(stage.claim("b").await.0.crashed_alone);
    stage.pass(LEASE_MS);
    let (head, _) = stage.claim("c").await;
    assert_eq!((head.crashes, head.crashed_alone), (2, false));
}

async fn whoever_gives_a_suspect_back_has_not_crashed_alone(stage: &Stage) {
    for number in 1..=3 {
        let lease = stage.lease(number, &format!("SM{number}"), &format!("a{number}")).await;
        stage.isolate(&lease).await;
        match number {
            1 => stage.release(&lease).await,
            2 => stage.retry(&lease, 0, true).await,
            _ => stage.park(&lease, "r", 0, 0).await,
        };
        let (_, lease) = stage.claim(&format!("b{number}")).await;
        stage.pass(LEASE_MS);
        let (head, _) = stage.claim(&format!("c{number}")).await;
        assert_eq!((head.crashes, head.crashed_alone), (1, false), "{number}");
        assert_eq!(head.conversation, lease.conversation);
        let (_, lease) = stage.claim(&format!("c{number}")).await;
        stage.complete(&lease).await;
    }
}

async fn a_crash_alone_stays_known_while_its_next_owner_lives(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.isolate(&lease).await;
    stage.pass(LEASE_MS);
    let (_, lease) = stage.claim("b").await;
    stage.retry(&lease, 0, true).await;
    let (head, _) = stage.claim("c").await;
    assert_eq!((head.crashes, head.crashed_alone), (1, true));
}

async fn the_next_message_of_a_suspect_is_none(stage: &Stage) {
    stage.queue(1, "SM1").await;
    stage.queue(1, "SM2").await;
    let (_, lease) = stage.claim("a").await;
    stage.isolate(&lease).await;
    stage.pass(LEASE_MS);
    let (_, lease) = stage.claim("b").await;
    stage.isolate(&lease).await;
    stage.bury(&lease, "crashed").await;
    let (head, _) = stage.claim("c").await;
    assert_eq!((head.crashes, head.crashed_alone), (0, false));
    stage.pass(LEASE_MS);
    let (head, _) = stage.claim("d").await;
    assert_eq!((head.envelope.as_str(), head.crashed_alone), ("SM2", false));
}

async fn isolation_needs_the_lease(stage: &Stage) {
    let former = stage.lease(1, "SM1", "a").await;
    stage.release(&former).await;
    assert_eq!(stage.isolate(&former).await, Owned::Stale);
    stage.claim("b").await;
    assert_eq!(stage.isolate(&former).await, Owned::Stale);
    stage.pass(LEASE_MS);
    assert!(!stage.claim("c").await.0.crashed_alone);
}

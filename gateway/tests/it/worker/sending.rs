//! What becomes of a reply that Twilio does not simply accept.

use kanarie_crds::route::{ApiKey, SecretText};
use kanarie_gateway::callback::SegmentId;
use kanarie_queue::intent::{Intent, Memo, Post};
use kanarie_queue::send::{CommitReply, MarkSending, MarkSent, Marked};
use serde_json::json;

use crate::worker::agents::Next;
use crate::worker::twilio::Next as Send;
use crate::worker::world::{eventually, http, route, within};
use crate::worker::{one_agent, replies};

#[tokio::test]
async fn a_500_after_accepting_is_settled_by_the_listing_and_not_sent_again() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(18).await;
    assert_eq!(world.twilio.lists(), 0, "no sooner than twenty seconds after the mark");
    world.pass(5).await;
    world.admit(1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Nog eens"]);
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (1, 2));
}

#[tokio::test]
async fn a_reply_that_is_listed_in_another_notation_of_its_number_is_not_sent_again() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    let customer = "whatsapp:+5215512345678";
    world.twilio.list_under("whatsapp:+525512345678");
    world.twilio.next(Send::AcceptAndFail);
    world.admit_from(customer, 1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(23).await;
    world.admit_from(customer, 1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Nog eens"]);
}

#[tokio::test]
async fn a_reply_is_found_by_a_store_whose_clock_is_ninety_seconds_ahead() {
    is_found_once(-90).await;
}

#[tokio::test]
async fn a_reply_is_found_by_a_store_whose_clock_is_ninety_seconds_behind() {
    is_found_once(90).await;
}

/// With a clock of Twilio that is so many seconds ahead of the store's.
async fn is_found_once(ahead: i64) {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.set_ahead(ahead);
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(85).await;
    world.admit(1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Nog eens"]);
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (1, 2));
}

#[tokio::test]
async fn a_500_without_accepting_is_sent_once_more_after_two_listings_a_minute_apart() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::Fail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(78).await;
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (1, 1));
    world.pass(4).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (2, 2));
}

#[tokio::test]
async fn a_reply_that_is_listed_half_a_minute_late_is_not_sent_again() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.list_after(30);
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(82).await;
    world.admit(1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Nog eens"]);
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (2, 2));
}

#[tokio::test]
async fn a_reply_that_is_unknown_twice_is_a_dead_letter() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::Fail);
    world.twilio.next(Send::Fail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(165).await;
    assert_eq!(world.buried().await, "unknown");
    assert_eq!(world.twilio.posts(), 2);
}

#[tokio::test]
async fn a_mark_left_by_a_dead_worker_is_settled_twenty_seconds_after_it_was_set() {
    let (world, _agent) = one_agent().await;
    world.admit(1, "SM1", "Hallo").await;
    let lease = world.claim(1).await;
    let body = json!({ "segments": ["Dag"], "validitySeconds": 600 }).to_string();
    let intent = Intent::fresh("reply".parse().unwrap(), 1, body);
    let post = Post { intent: intent.id.clone(), segment: 0, attempt: "attempt".parse().unwrap() };
    let (outcome, memo) = (None, Memo::default());
    let commit = CommitReply { lease: lease.clone(), intent, outcome, memo, mark: None };
    world.store.run(commit).await.unwrap();
    let marked = world.store.run(MarkSending { lease, post, refuted: None });
    assert_eq!(marked.await.unwrap(), Marked::Go);
    world.skip(16_000);
    let _running = world.work().await;
    world.pass(2).await;
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (0, 0));
    world.pass(4).await;
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (1, 0));
    world.pass(61).await;
    assert_eq!(replies(&world, 1).await, ["Dag"]);
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (2, 1));
}

#[tokio::test]
async fn a_reply_that_was_sent_by_a_clock_that_was_put_back_is_not_sent_again() {
    let (world, _agent) = one_agent().await;
    world.twilio.set_ahead(-3_600);
    world.admit(1, "SM1", "Hallo").await;
    let lease = world.claim(1).await;
    let body = json!({ "segments": ["Uw factuur"], "validitySeconds": 600 }).to_string();
    let intent = Intent::fresh("reply".parse().unwrap(), 1, body);
    let post = Post { intent: intent.id.clone(), segment: 0, attempt: "attempt".parse().unwrap() };
    let (outcome, memo) = (None, Memo::default());
    let commit = CommitReply { lease: lease.clone(), intent, outcome, memo, mark: None };
    world.store.run(commit).await.unwrap();
    world.store.run(MarkSending { lease, post, refuted: None }).await.unwrap();
    world.twilio.accept_elsewhere(1);
    // The machine dies and boots four minutes later, with the right time.
    world.put_back(3_600_000 - 240_000);
    world.twilio.set_ahead(0);
    let _running = world.work().await;
    world.pass(120).await;
    world.admit(1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await, ["Uw factuur", "stable: Nog eens"]);
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (1, 1));
}

#[tokio::test]
async fn an_answer_that_never_comes_is_settled_by_the_listing() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::AcceptAndHang);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(28).await;
    world.admit(1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Nog eens"]);
}

#[tokio::test]
async fn of_two_identical_replies_the_second_is_not_taken_for_the_first() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    agent.next(Next::Say("Dank u".to_owned()));
    agent.next(Next::Say("Dank u".to_owned()));
    world.admit(1, "SM1", "een").await;
    replies(&world, 1).await;
    world.twilio.next(Send::Fail);
    world.admit(1, "SM2", "twee").await;
    eventually("the second POST", || world.twilio.posts() == 2).await;
    within(&world, 120, "the second reply", || world.twilio.created().len() == 2).await;
    assert_eq!(replies(&world, 2).await, ["Dank u", "Dank u"]);
}

#[tokio::test]
async fn while_the_listing_is_away_an_unknown_reply_waits() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.set_listing_away(true);
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(70).await;
    assert!(world.twilio.lists() >= 1);
    assert_eq!((world.twilio.posts(), world.dead().await), (1, None));
    world.twilio.set_listing_away(false);
    world.pass(40).await;
    world.admit(1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await.len(), 2);
    assert_eq!(world.twilio.posts(), 2);
}

#[tokio::test]
async fn a_listing_refused_for_credentials_waits_longer_than_a_day() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.set_listing_refused(true);
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.skip(25 * 60 * 60 * 1_000);
    world.pass(70).await;
    assert!(world.twilio.lists() >= 1);
    assert_eq!((world.twilio.posts(), world.dead().await), (1, None));
    world.twilio.set_listing_refused(false);
    // What is a day old is looked at every five minutes.
    world.pass(700).await;
    world.admit(1, "SM2", "Nog eens").await;
    assert_eq!(replies(&world, 2).await.len(), 2);
    assert_eq!(world.twilio.posts(), 2);
}

#[tokio::test]
async fn a_status_callback_settles_an_unknown_reply_without_a_listing() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    let created = &world.twilio.created()[0];
    let id = created.field("StatusCallback").split_once("?kanarie-reply=").unwrap().1;
    let id = SegmentId::parse(id).unwrap();
    let sid = created.sid.clone();
    let SegmentId { conversation, intent, segment } = id;
    let sent = MarkSent { conversation, intent, segment, sid: sid.parse().unwrap() };
    assert!(world.store.run(sent).await.unwrap());
    world.pass(22).await;
    world.admit(1, "SM2", "Nog eens").await;
    replies(&world, 2).await;
    assert_eq!((world.twilio.lists(), world.twilio.posts()), (0, 2));
}

#[tokio::test]
async fn an_opt_out_is_a_dead_letter_at_once() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::Refuse(400, 21_610));
    world.admit(1, "SM1", "STOP").await;
    assert_eq!(world.buried().await, "opt-out");
    world.pass(10).await;
    assert_eq!(world.twilio.posts(), 1);
}

#[tokio::test]
async fn too_many_requests_are_repeated_after_a_second() {
    let (world, _agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::Refuse(429, 20_429));
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    world.pass(2).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(world.twilio.posts(), 2);
}

#[tokio::test]
async fn refused_credentials_hold_a_channel_until_others_come() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    world.twilio.next(Send::Refuse(401, 20_003));
    world.admit(1, "SM1", "een").await;
    eventually("the refusal", || world.twilio.posts() == 1).await;
    world.admit(2, "SM2", "twee").await;
    world.pass(10).await;
    assert_eq!((world.twilio.posts(), world.dead().await), (1, None));
    let mut corrected = route(http(&agent.url));
    corrected.credentials.auth_token = SecretText::new("other");
    world.set_route(corrected);
    world.pass(45).await;
    let mut bodies = replies(&world, 2).await;
    bodies.sort();
    assert_eq!(bodies, ["stable: een", "stable: twee"]);
}

#[tokio::test]
async fn a_listing_is_read_page_by_page() {
    let (world, agent) = one_agent().await;
    let _running = world.work().await;
    let [long, longer] = ["a", "b"].map(|letter| format!("{} ", letter.repeat(1_599)));
    agent.next(Next::Say(format!("{long}{}{long}", longer.repeat(3))));
    world.twilio.next(Send::AcceptAndFail);
    world.admit(1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    // Later messages of the same sender to the same customer, from elsewhere, stand before ours.
    (0..3).for_each(|_| world.twilio.accept_elsewhere(1));
    world.pass(30).await;
    eventually("every segment", || world.twilio.posts() == 5).await;
    assert_eq!(world.twilio.lists(), 2);
}

#[tokio::test]
async fn an_api_key_is_used_before_the_auth_token() {
    let (world, agent) = one_agent().await;
    let mut keyed = route(http(&agent.url));
    let secret = SecretText::new("secret");
    keyed.credentials.api_key = Some(ApiKey { sid: "SK1".to_owned(), secret });
    world.set_route(keyed);
    let _running = world.work().await;
    world.admit(1, "SM1", "Hallo").await;
    replies(&world, 1).await;
    assert_eq!(world.twilio.created()[0].authorization, "Basic U0sxOnNlY3JldA==");
}

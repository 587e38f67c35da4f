//! What becomes of a reply when Twilio does not answer as it should.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::agent::Behaviour;
use kanarie_fakes::customer::{Account, customer};
use kanarie_fakes::twilio::Fault;
use kanarie_tests::product::Program;
use kanarie_tests::stage::Stage;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(20);
/// Two listings are believed eighty seconds after the attempt, and refused credentials are tried again
/// after thirty; the rest is for a busy machine.
const LATE: Duration = Duration::from_secs(120);

/// Says one thing that meets a fault and then another; the replies come in this order, once each.
async fn both_are_answered_once(stage: &Stage, gateway: &Program, fault: Fault) {
    stage.twilio.fail_next([fault]);
    stage.say(gateway, &customer(1), "eerst #1").await.unwrap();
    stage.say(gateway, &customer(1), "daarna #2").await.unwrap();
    stage.twilio.wait_for_sent(2, LATE).await;
    let sent: Vec<String> = stage.twilio.sent().into_iter().map(|sent| sent.body).collect();
    assert_eq!(sent, ["re: eerst #1", "re: daarna #2"]);
}

#[tokio::test]
async fn a_reply_whose_answer_was_lost_is_settled_by_its_status_callback() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set(|settings| settings.listing_away = true);
    both_are_answered_once(&stage, &gateway, Fault::DropAfterAccepting).await;
}

#[tokio::test]
async fn a_reply_whose_answer_was_lost_is_found_in_the_listing_and_not_sent_again() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set(|settings| settings.callbacks_to = None);
    both_are_answered_once(&stage, &gateway, Fault::FailAfterAccepting).await;
}

#[tokio::test]
async fn a_reply_whose_answer_was_lost_is_sent_once_though_the_listing_lags_and_writes_its_number_otherwise()
 {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set(|settings| {
        settings.callbacks_to = None;
        settings.listing_lag = Duration::from_secs(30);
        settings.listed_as = Some(("+52", "+521"));
    });
    for who in [customer(1), "whatsapp:+525512345678".to_owned()] {
        stage.twilio.fail_next([Fault::DropAfterAccepting]);
        stage.say(&gateway, &who, "eerst #1").await.unwrap();
        stage.say(&gateway, &who, "daarna #2").await.unwrap();
    }
    assert_eq!(stage.twilio.wait_for_sent(4, LATE).await, 4);
    assert_eq!(stage.twilio.sent_twice(), []);
    assert_eq!(stage.twilio.out_of_order(), []);
}

#[tokio::test]
async fn a_callback_settles_a_reply_though_the_webhook_url_has_a_parameter_of_that_name() {
    let mut account = Account::new(1);
    account.webhook_url.push_str("?o=acme");
    let stage = Stage::of(account).await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set(|settings| {
        settings.listing_away = true;
        settings.callback_lag = Duration::from_secs(3);
    });
    both_are_answered_once(&stage, &gateway, Fault::DropAfterAccepting).await;
}

#[tokio::test]
async fn a_segment_waits_until_the_one_before_it_is_reported_or_a_second_has_passed() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set(|settings| settings.callback_lag = Duration::from_millis(400));
    stage.agent.behave(Behaviour::Say("Een zin die vaak herhaald wordt. ".repeat(140)));
    stage.say(&gateway, &customer(1), "Vertel").await.unwrap();
    assert_eq!(stage.twilio.wait_for_sent(3, SOON).await, 3);
    let (sent, reported) = (stage.twilio.sent(), stage.twilio.callbacks());
    for pair in sent.windows(2) {
        let report = reported.iter().find(|report| report.sid == pair[0].sid);
        let is_reported = report.is_some_and(|report| report.at <= pair[1].arrived);
        let waited = pair[1].arrived - pair[0].arrived;
        assert!(is_reported || waited >= Duration::from_secs(1), "after {waited:?}");
    }
}

#[tokio::test]
async fn a_reply_that_the_listing_does_not_know_is_sent_again_once() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set(|settings| settings.callbacks_to = None);
    both_are_answered_once(&stage, &gateway, Fault::DropBeforeAccepting).await;
}

#[tokio::test]
async fn a_reply_that_twilio_was_too_busy_for_is_repeated() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    both_are_answered_once(&stage, &gateway, Fault::Refuse(429, 20429)).await;
}

#[tokio::test]
async fn replies_wait_while_credentials_are_refused_and_go_out_with_the_new_ones() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.set_credential(&stage.account.sid, "the new token");
    stage.say(&gateway, &customer(1), "hallo #1").await.unwrap();
    while stage.twilio.requests() == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(stage.twilio.sent().is_empty());
    let mut manifest = stage.manifest();
    manifest.account.token = "the new token".to_owned();
    stage.apply(&manifest).unwrap();
    assert_eq!(stage.twilio.wait_for_sent(1, LATE).await, 1);
}

#[tokio::test]
async fn a_refused_reply_is_given_up_and_the_next_one_goes_out() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.twilio.fail_next([Fault::Refuse(400, 63024)]);
    stage.say(&gateway, &customer(1), "eerst #1").await.unwrap();
    stage.say(&gateway, &customer(1), "daarna #2").await.unwrap();
    assert_eq!(stage.twilio.wait_for_sent(1, SOON).await, 1);
    assert_eq!(stage.twilio.sent()[0].body, "re: daarna #2");
}

#[tokio::test]
async fn a_gateway_told_to_stop_ends_well_and_what_it_accepted_is_answered_after_its_return() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    for who in 1..=20 {
        stage.say(&gateway, &customer(who), &format!("hallo #{who}")).await.unwrap();
    }
    let gateway = tokio::task::spawn_blocking(move || gateway.stop().map(|()| gateway));
    let gateway = gateway.await.unwrap().unwrap();
    gateway.start().await.unwrap();
    assert_eq!(stage.twilio.wait_for_sent(20, LATE).await, 20);
    assert_eq!(stage.twilio.sent_twice(), []);
}

//! What Twilio says of a channel's credentials, and what becomes of that in status.

use kanarie_fakes::customer::Account;
use kanarie_fakes::twilio::FakeTwilio;
use kanarie_tests::bench::Bench;
use kanarie_tests::world::{condition, reason};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::operator::care::{OLD, told};

/// A bench whose operator asks a Twilio that knows its account.
async fn with_twilio() -> (Bench, FakeTwilio) {
    let mut bench = Bench::without_operator().await.unwrap();
    let twilio = FakeTwilio::start(&[&bench.account]).await.unwrap();
    start(&mut bench, &twilio).await;
    (bench, twilio)
}

async fn start(bench: &mut Bench, twilio: &FakeTwilio) {
    let mut config = bench.config();
    config.twilio_api_url = twilio.url().parse().unwrap();
    let client = bench.operator_client().await.unwrap();
    bench.start_with(config, client);
}

/// Waits until the channel `care` says this of its credentials; gives the sentence.
async fn says(bench: &Bench, status: &str, why: &str) -> String {
    let is_said = |channel: &Value| {
        condition(channel, "CredentialsReady") == Some(status)
            && reason(channel, "CredentialsReady") == Some(why)
    };
    let channel = bench.until("care", is_said).await.unwrap();
    let conditions = channel["status"]["conditions"].as_array().unwrap();
    let its = conditions.iter().find(|one| one["type"] == "CredentialsReady").unwrap();
    its["message"].as_str().unwrap().to_owned()
}

/// Changes the Secret of the channel `care`.
async fn rotate(bench: &Bench, change: Value) {
    let params = PatchParams::default();
    bench.secrets().patch("care-twilio", &params, &Patch::Merge(change)).await.unwrap();
}

/// Puts another auth token into it.
async fn replace(bench: &Bench, token: &str) {
    rotate(bench, json!({"stringData": {"authToken": token}})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twilio_is_asked_once_about_the_credentials_that_channels_share() {
    let (mut bench, twilio) = with_twilio().await;
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    says(&bench, "True", "Verified").await;
    let mut other = bench.manifest("other", OLD);
    other.account = Account { sender: "whatsapp:+15550990012".to_owned(), ..other.account };
    bench.apply(&other).await.unwrap();
    let is_known = |channel: &Value| reason(channel, "CredentialsReady") == Some("Verified");
    bench.until("other", is_known).await.unwrap();
    assert_eq!(twilio.checks(), 1);
    // What an operator has not asked yet is what status says already.
    bench.stop_operators().await.unwrap();
    start(&mut bench, &twilio).await;
    bench.apply(&bench.manifest("care", "https://third.example.com/")).await.unwrap();
    let rolls = |channel: &Value| !channel["status"]["canary"].is_null();
    let channel = bench.until("care", rolls).await.unwrap();
    assert_eq!(reason(&channel, "CredentialsReady"), Some("Verified"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_twilio_does_not_know_is_said_and_its_mending_too() {
    let (bench, twilio) = with_twilio().await;
    twilio.set_credential(&bench.account.sid, "another");
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    let told_first = says(&bench, "False", "RejectedByTwilio").await;
    assert!(told_first.contains("authToken") && !told_first.contains("another"), "{told_first}");
    let served = |channel: &Value| condition(channel, "Ready") == Some("True");
    bench.until("care", served).await.unwrap();
    assert_eq!(told(&bench, "RejectedByTwilio").await, 1);
    replace(&bench, "another").await;
    says(&bench, "True", "Verified").await;
    assert_eq!(told(&bench, "Verified").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_and_a_suspended_account_are_told_apart() {
    let (bench, twilio) = with_twilio().await;
    twilio.set(|settings| settings.forbids_listing = true);
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    let told = says(&bench, "False", "NotPermitted").await;
    assert!(told.contains("the right to list and create messages"), "{told}");
    twilio.set(|settings| settings.account_status = Some("suspended"));
    // Other credentials are asked about at once.
    twilio.set_credential(&bench.account.sid, "next");
    replace(&bench, "next").await;
    says(&bench, "False", "SuspendedAccount").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_twilio_did_not_take_is_asked_about_again_by_the_next_operator() {
    let (mut bench, twilio) = with_twilio().await;
    twilio.set(|settings| settings.account_status = Some("suspended"));
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    says(&bench, "False", "SuspendedAccount").await;
    let rests = |channel: &Value| {
        ["Ready", "Routed", "RolledOut"].iter().all(|kind| condition(channel, kind) == Some("True"))
    };
    bench.until("care", rests).await.unwrap();
    bench.stop_operators().await.unwrap();
    twilio.set(|settings| settings.account_status = None);
    start(&mut bench, &twilio).await;
    says(&bench, "True", "Verified").await;
}

/// Secondary token, promotion at Twilio, the new one alone: no moment in which the credentials are not good.
#[tokio::test(flavor = "multi_thread")]
async fn through_a_rotation_the_credentials_stay_ready() {
    let (bench, twilio) = with_twilio().await;
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    says(&bench, "True", "Verified").await;
    rotate(&bench, json!({"stringData": {"authTokenSecondary": "new"}})).await;
    let overlap = says(&bench, "True", "RotationOverlap").await;
    assert!(overlap.contains("promote"), "{overlap}");
    // Twilio promotes it, and knows the former one no longer.
    twilio.set_credential(&bench.account.sid, "new");
    let alone = json!({"stringData": {"authToken": "new"}, "data": {"authTokenSecondary": null}});
    rotate(&bench, alone).await;
    says(&bench, "True", "Verified").await;
    let told = bench.events("care").await.unwrap();
    assert!(!told.iter().any(|reason| reason == "RejectedByTwilio"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twilio_that_is_away_says_nothing_and_the_last_word_stays() {
    let (bench, twilio) = with_twilio().await;
    bench.apply(&bench.manifest("care", OLD)).await.unwrap();
    says(&bench, "True", "Verified").await;
    twilio.set(|settings| settings.listing_away = true);
    let before = twilio.checks();
    twilio.set_credential(&bench.account.sid, "next");
    replace(&bench, "next").await;
    while twilio.checks() == before {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    says(&bench, "True", "Verified").await;
    twilio.set(|settings| settings.listing_away = false);
    replace(&bench, "wrong").await;
    says(&bench, "False", "RejectedByTwilio").await;
}

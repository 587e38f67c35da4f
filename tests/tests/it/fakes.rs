//! The fakes keep their promises: a test that trusts them can fail.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::customer::{Account, customer};
use kanarie_fakes::redis_server::RedisServer;
use kanarie_fakes::twilio::{FakeTwilio, Fault, http_client};
use kanarie_tests::langgraph::LangGraphServer;
use serde_json::Value;

async fn send(twilio: &FakeTwilio, account: &Account, secret: &str, body: &str) -> Option<u16> {
    let url = format!("{}/2010-04-01/Accounts/{}/Messages.json", twilio.url(), account.sid);
    let to = customer(1);
    let form = [("To", to.as_str()), ("From", &account.sender), ("Body", body)];
    let request = http_client().unwrap().post(url).basic_auth(&account.sid, Some(secret));
    request.form(&form).send().await.ok().map(|response| response.status().as_u16())
}

async fn listed(twilio: &FakeTwilio, account: &Account) -> usize {
    let url = format!("{}/2010-04-01/Accounts/{}/Messages.json", twilio.url(), account.sid);
    let client = http_client().unwrap();
    let request = client.get(url).basic_auth(&account.sid, Some(&account.token));
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    answer["messages"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_wrong_secret_sends_nothing() {
    let account = Account::new(1);
    let twilio = FakeTwilio::start(&[&account]).await.unwrap();
    assert_eq!(send(&twilio, &account, "wrong", "hallo").await, Some(401));
    assert!(twilio.sent().is_empty());
}

#[tokio::test]
async fn a_connection_may_drop_before_or_after_the_message_is_sent() {
    let account = Account::new(1);
    let twilio = FakeTwilio::start(&[&account]).await.unwrap();
    twilio.fail_next([Fault::DropBeforeAccepting, Fault::DropAfterAccepting]);
    assert_eq!(send(&twilio, &account, &account.token, "een").await, None);
    assert_eq!(twilio.sent().len(), 0);
    assert_eq!(send(&twilio, &account, &account.token, "twee").await, None);
    assert_eq!(twilio.sent().len(), 1);
}

#[tokio::test]
async fn a_reply_sent_twice_and_one_out_of_order_are_found() {
    let account = Account::new(1);
    let twilio = FakeTwilio::start(&[&account]).await.unwrap();
    for body in ["a #1", "a #3", "a #2", "a #3"] {
        assert_eq!(send(&twilio, &account, &account.token, body).await, Some(201));
    }
    assert_eq!(twilio.sent_twice(), [(customer(1), "a #3".to_owned())]);
    assert_eq!(twilio.out_of_order(), [(customer(1), "a #2".to_owned())]);
}

#[tokio::test]
async fn the_listing_may_lag_behind() {
    let account = Account::new(1);
    let twilio = FakeTwilio::start(&[&account]).await.unwrap();
    assert_eq!(send(&twilio, &account, &account.token, "hallo").await, Some(201));
    assert_eq!(listed(&twilio, &account).await, 1);
    twilio.set(|settings| settings.listing_lag = Duration::from_secs(60));
    assert_eq!(listed(&twilio, &account).await, 0);
}

async fn asked(client: &reqwest::Client, agent: &FakeAgent, sid: &str, text: &str) -> u16 {
    let question = serde_json::json!({"messageSid": sid, "text": text});
    let request = client.post(agent.url()).json(&question);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn an_agent_may_shun_a_customer_or_fail_at_the_first_question_about_some_messages() {
    let client = http_client().unwrap();
    let well = || Box::new(Behaviour::Echo("re: ".to_owned()));
    let agent =
        FakeAgent::start(Behaviour::Shun("klant 7 ".to_owned(), 503, well())).await.unwrap();
    let mut answers = Vec::new();
    for text in ["klant 7 #1", "klant 77 #1", "klant 7 #1"] {
        answers.push(asked(&client, &agent, "SM1", text).await);
    }
    assert_eq!(answers, [503, 200, 503]);
    agent.behave(Behaviour::Noisy(2_500, well()));
    let (mut first, mut second) = (0, 0);
    for number in 0..400 {
        let (sid, text) = (format!("SM{}", 100 + number), format!("klant {number} #1"));
        first += u32::from(asked(&client, &agent, &sid, &text).await == 500);
        second += u32::from(asked(&client, &agent, &sid, &text).await == 500);
    }
    assert!((75..125).contains(&first), "{first} of 400, a hundred are expected");
    assert_eq!(second, 0);
}

#[tokio::test]
async fn redis_keeps_its_data_through_a_kill() {
    let mut server = RedisServer::start().await.unwrap();
    let open = |url: String| async move {
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await
    };
    let mut connection = open(server.url()).await.unwrap();
    let () = redis::cmd("SET").arg("key").arg("value").query_async(&mut connection).await.unwrap();
    server.kill();
    assert!(open(server.url()).await.is_err());
    server.resume().await.unwrap();
    let mut connection = open(server.url()).await.unwrap();
    let value: String = redis::cmd("GET").arg("key").query_async(&mut connection).await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn a_real_langgraph_server_serves_its_graphs() {
    let server = LangGraphServer::start().await.unwrap();
    let url = format!("{}/assistants/search", server.url());
    let answer =
        http_client().unwrap().post(url).json(&serde_json::json!({})).send().await.unwrap();
    let found: Value = answer.json().await.unwrap();
    let mut graphs: Vec<&str> =
        found.as_array().unwrap().iter().filter_map(|a| a["graph_id"].as_str()).collect();
    graphs.sort_unstable();
    assert_eq!(graphs, ["agent", "asking", "failing", "hanging", "trimming"]);
}

//! A real LangGraph server behind a real gateway.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::time::Duration;

use kanarie_fakes::customer::customer;
use kanarie_tests::langgraph::LangGraphServer;
use kanarie_tests::manifest::lang_graph_agent;
use kanarie_tests::stage::Stage;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

/// The thread of a conversation: what LangGraph users of the same sender would compute.
fn thread(stage: &Stage, customer: &str) -> String {
    let name = format!("{}|{customer}", stage.account.sender);
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}

fn turn(human: &str) -> Vec<(String, String)> {
    let ai = format!("Antwoord op: {human}");
    vec![("human".to_owned(), human.to_owned()), ("ai".to_owned(), ai)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_goes_through_a_real_langgraph_server() {
    let server = LangGraphServer::start().await.unwrap();
    let stage = Stage::new().await.unwrap();
    let mut manifest = stage.manifest();
    manifest.agent = lang_graph_agent(server.url(), "agent", 30);
    stage.apply(&manifest).unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    for (number, text) in ["Hallo", "Ik zoek een Golf"].iter().enumerate() {
        stage.say(&gateway, &customer(1), text).await.unwrap();
        assert_eq!(stage.twilio.wait_for_sent(number + 1, SOON).await, number + 1);
    }
    let sent: Vec<String> = stage.twilio.sent().into_iter().map(|sent| sent.body).collect();
    assert_eq!(sent, ["Antwoord op: Hallo", "Antwoord op: Ik zoek een Golf"]);
    let turns = server.thread(&thread(&stage, &customer(1))).await.unwrap();
    assert_eq!(turns, [turn("Hallo"), turn("Ik zoek een Golf")].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_in_the_middle_of_a_run_leaves_one_answer_and_one_turn() {
    let server = LangGraphServer::start().await.unwrap();
    let stage = Stage::new().await.unwrap();
    let mut manifest = stage.manifest();
    manifest.agent = lang_graph_agent(server.url(), "agent", 60);
    stage.apply(&manifest).unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    stage.say(&gateway, &customer(1), "een traag antwoord graag").await.unwrap();
    server.wait_until_running(&thread(&stage, &customer(1)), SOON).await.unwrap();
    gateway.kill();
    gateway.start().await.unwrap();
    assert_eq!(stage.twilio.wait_for_sent(1, Duration::from_secs(90)).await, 1);
    let turns = server.thread(&thread(&stage, &customer(1))).await.unwrap();
    assert_eq!(turns, turn("een traag antwoord graag"));
    assert_eq!(stage.twilio.sent()[0].body, "Antwoord op: een traag antwoord graag");
}

/// The replies to what one customer says to a graph, each said after the reply before.
async fn replies(graph: &str, said: &[&str]) -> Vec<String> {
    let server = LangGraphServer::start().await.unwrap();
    let stage = Stage::new().await.unwrap();
    let mut manifest = stage.manifest();
    manifest.agent = lang_graph_agent(server.url(), graph, 30);
    stage.apply(&manifest).unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    for (number, text) in said.iter().enumerate() {
        stage.say(&gateway, &customer(1), text).await.unwrap();
        assert_eq!(stage.twilio.wait_for_sent(number + 1, SOON).await, number + 1, "to {text}");
    }
    stage.twilio.sent().into_iter().map(|sent| sent.body).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_that_keeps_three_messages_answers_each_one_anew() {
    let said = ["Hallo", "Ik zoek een Golf", "Ik zoek een Golf"];
    let answers = said.map(|text| format!("Antwoord op: {text}"));
    assert_eq!(replies("trimming", &said).await, answers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_graph_asks_is_sent_and_what_the_customer_answers_resumes_it() {
    let asked = replies("asking", &["Hallo", "blue", "XL", "Nog eens"]).await;
    assert_eq!(asked, ["Which colour?", "Which size?", "blue, XL", "Which colour?"]);
}

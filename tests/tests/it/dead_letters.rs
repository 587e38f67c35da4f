//! An outage has left dead letters: a command lists them, sends them again, and erases a customer.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use kanarie_fakes::agent::Behaviour;
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::product::{Program, binary};
use kanarie_tests::stage::Stage;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Longest that a message may wait for its end: its patience, and a busy machine.
const AT_MOST: Duration = Duration::from_secs(120);
const TOKEN: &str = "hush-hush-hush-hush";
/// Customers, and what each of them wrote.
const CUSTOMERS: u32 = 3;
const EACH: usize = 2;

/// A gateway whose control endpoints have a token, and the commands that ask it.
struct Desk {
    stage: Stage,
    gateway: Program,
    token: tempfile::TempDir,
}

impl Desk {
    /// The channel's patience is as short as it may be.
    async fn open(store: Option<String>) -> Self {
        let stage = Stage::new().await.unwrap();
        let mut manifest = stage.manifest();
        manifest.limits = json!({"inboundMessages": 1000, "patienceSeconds": 30});
        stage.apply(&manifest).unwrap();
        let token = tempfile::tempdir().unwrap();
        fs::write(token.path().join("token"), TOKEN).unwrap();
        let mut options = stage.options(store);
        let file = token.path().join("token").display().to_string();
        options.arguments = vec!["--control-token-file".to_owned(), file];
        let gateway = Program::gateway(&options).await.unwrap();
        let authority = gateway.authority();
        stage.twilio.set(|settings| settings.callbacks_to = Some(authority));
        Self { stage, gateway, token }
    }

    /// Runs `kanarie-gateway WORDS`, and shows what it printed.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(binary("kanarie-gateway").unwrap());
        command.args(words).args(["--admin-url", &self.gateway.admin_url()]);
        let done = command
            .arg("--control-token-file")
            .arg(self.token.path().join("token"))
            .output()
            .unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        println!("$ kanarie-gateway {}", words.join(" "));
        print!("{}{}", said(&done.stdout), said(&done.stderr));
        done
    }

    fn json(&self, words: &[&str]) -> Value {
        let done = self.run(&[words, &["--output", "json"]].concat());
        assert!(done.status.success());
        serde_json::from_slice(&done.stdout).unwrap()
    }

    fn letters(&self) -> Vec<Value> {
        self.json(&["dead-letters", "list"])["deadLetters"].as_array().unwrap().clone()
    }

    async fn wait_for_letters(&self, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let letters = self.letters();
            if letters.len() == count {
                return letters;
            }
            assert!(begun.elapsed() < AT_MOST, "{} of {count}", letters.len());
            sleep(Duration::from_secs(2)).await;
        }
    }

    async fn say(&self, who: u32, text: &str) {
        let answer = self.stage.say(&self.gateway, &customer(who), text).await.unwrap();
        assert_eq!(answer.status, 200);
    }

    /// Nobody's number and nobody's words.
    fn nothing_private_was_told(&self, said: &str) {
        for who in 1..=CUSTOMERS {
            let number = customer(who).replace("whatsapp:+", "");
            assert!(!said.contains(&number), "a number: {said}");
        }
        assert!(!said.contains("geheim"), "a text: {said}");
        assert!(!said.contains(TOKEN), "the token: {said}");
    }
}

/// What was written in order, by customer.
fn texts(who: u32) -> Vec<String> {
    (1..=EACH).map(|number| format!("geheim {who} #{number}")).collect()
}

async fn an_outage_is_made_good(store: Option<String>) {
    let desk = Desk::open(store).await;
    desk.stage.agent.behave(Behaviour::Fail(500));
    for number in 0..EACH {
        for who in 1..=CUSTOMERS {
            desk.say(who, &texts(who)[number]).await;
        }
    }
    let all = CUSTOMERS as usize * EACH;
    let letters = desk.wait_for_letters(all).await;
    let id = letters[0]["id"].as_str().unwrap().to_owned();
    for words in [vec!["list"], vec!["list", "--class", "http"], vec!["show", &id]] {
        let words: Vec<&str> = ["dead-letters"].into_iter().chain(words).collect();
        let done = desk.run(&words);
        assert!(done.status.success());
        desk.nothing_private_was_told(&String::from_utf8_lossy(&done.stdout));
    }
    let shown = desk.json(&["dead-letters", "show", &id, "--text"]);
    assert!(shown["message"]["text"].as_str().unwrap().starts_with("geheim "), "{shown}");
    assert_eq!(
        desk.json(&["dead-letters", "list", "--class", "permanent"])["deadLetters"],
        json!([])
    );

    desk.stage.agent.behave(Behaviour::Echo("re: ".to_owned()));
    let asked_before = desk.stage.agent.count();
    let report = desk.json(&["dead-letters", "replay", "--all"]);
    assert_eq!(report["replayed"], all);
    assert_eq!(desk.json(&["dead-letters", "replay", "--all"])["replayed"], 0, "once each");
    assert_eq!(desk.stage.twilio.wait_for_sent(all, AT_MOST).await, all);
    for who in 1..=CUSTOMERS {
        let sent = desk.stage.twilio.sent().into_iter().filter(|sent| sent.to == customer(who));
        let told: Vec<String> = sent.map(|sent| sent.body).collect();
        let owed: Vec<String> = texts(who).iter().map(|text| format!("re: {text}")).collect();
        assert_eq!(told, owed, "each once and in order");
    }
    assert_eq!(desk.stage.agent.count() - asked_before, all);
    assert_eq!(desk.letters(), [] as [Value; 0]);
    let log = desk.gateway.log();
    desk.nothing_private_was_told(&log);
    desk.nothing_private_was_told(&desk.gateway.metrics().await.unwrap());
    assert!(log.contains("replay") && log.contains("show-text"), "the acts are told: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_an_outage_are_listed_and_sent_again_once_and_in_order() {
    an_outage_is_made_good(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_in_redis_are_listed_and_sent_again_once_and_in_order() {
    let redis = RedisServer::start().await.unwrap();
    an_outage_is_made_good(Some(redis.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_customer_leaves_nothing_and_is_not_answered() {
    let redis = RedisServer::start().await.unwrap();
    let desk = Desk::open(Some(redis.url())).await;
    desk.stage.agent.behave(Behaviour::Fail(500));
    for who in 1..=CUSTOMERS {
        desk.say(who, &texts(who)[0]).await;
    }
    desk.wait_for_letters(CUSTOMERS as usize).await;
    // One that is being asked about, and one behind it.
    let slow =
        Behaviour::Slow(Duration::from_secs(4), Box::new(Behaviour::Echo("re: ".to_owned())));
    desk.stage.agent.behave(slow);
    desk.say(1, &texts(1)[1]).await;
    desk.say(1, "geheim, en nog iets").await;
    let (number, channel) = (customer(1).replace("whatsapp:", ""), "default/shop");
    let words = ["erase", "--customer", &number, "--channel", channel];
    let done = desk.run(&words);
    assert!(done.status.success());
    desk.nothing_private_was_told(&String::from_utf8_lossy(&done.stdout));
    let again = desk.json(&words);
    assert_eq!((&again["messages"], &again["deadLetters"]), (&json!(0), &json!(0)));
    let left: BTreeSet<String> =
        desk.letters().iter().map(|letter| letter["conversation"].to_string()).collect();
    assert_eq!(left.len(), CUSTOMERS as usize - 1, "only his are gone");
    // Who writes afterwards is answered, and nothing of before is.
    desk.stage.agent.behave(Behaviour::Echo("re: ".to_owned()));
    desk.say(1, "geheim: nieuw").await;
    desk.stage.twilio.wait_for_sent(1, AT_MOST).await;
    sleep(Duration::from_secs(5)).await;
    let told: Vec<String> = desk.stage.twilio.sent().into_iter().map(|sent| sent.body).collect();
    assert_eq!(told, ["re: geheim: nieuw"]);
    assert_eq!(desk.json(&["dead-letters", "erase", "--all"])["erased"], CUSTOMERS - 1);
    assert_eq!(desk.letters(), [] as [Value; 0]);
    desk.nothing_private_was_told(&desk.gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_cannot_do_it_says_why_and_ends_with_one() {
    let desk = Desk::open(None).await;
    let failed = |words: &[&str], code: i32, why: &str| {
        let done = desk.run(words);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains(why), "{said}");
    };
    failed(&["dead-letters", "show", "07-42"], 1, "there is no dead letter 07-42");
    failed(&["dead-letters", "show", "../state"], 1, "looks like 07-42");
    failed(&["dead-letters", "replay", "07-42"], 1, "1 of 1 failed");
    failed(&["dead-letters", "erase"], 2, "required");
    failed(&["dead-letters", "list", "--channel", "no/body"], 1, "no channel of that namespace");
    failed(&["dead-letters", "list", "--limit", "5000"], 1, "limit is a number from 1 to 1000");
    failed(&["erase", "--customer", "+31612345678"], 2, "--channel");
    failed(&["erase", "--conversation", "abc"], 1, "32 lower-case");
    fs::write(desk.token.path().join("token"), "another").unwrap();
    failed(&["dead-letters", "list"], 1, "another control token");
    fs::write(desk.token.path().join("token"), "").unwrap();
    failed(&["dead-letters", "list"], 1, "must hold");
    fs::write(desk.token.path().join("token"), TOKEN).unwrap();
    desk.gateway.stop().unwrap();
    failed(&["dead-letters", "list"], 1, "cannot be reached");
}

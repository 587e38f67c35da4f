//! Real gateways and real stores: what Twilio is answered, and what becomes of a message.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use kanarie_fakes::agent::Behaviour;
use kanarie_fakes::customer::{self, Answer, customer, message_sid};
use kanarie_fakes::redis_server::RedisServer;
use kanarie_fakes::signer;
use kanarie_tests::product::Program;
use kanarie_tests::stage::Stage;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(20);

fn tally(answers: &[Answer]) -> BTreeMap<u16, usize> {
    answers.iter().fold(BTreeMap::new(), |mut tally, answer| {
        *tally.entry(answer.status).or_default() += 1;
        tally
    })
}

#[tokio::test]
async fn a_message_is_acknowledged_at_once_and_answered_by_the_agent() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    let answer = stage.say(&gateway, &customer(1), "Hallo, wat kost een Golf? 🚗").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("<Response"), "{}", answer.body);
    assert_eq!(stage.twilio.wait_for_sent(1, SOON).await, 1);
    let sent = &stage.twilio.sent()[0];
    assert_eq!((&*sent.to, &*sent.from), (&*customer(1), &*stage.account.sender));
    assert_eq!(sent.body, "re: Hallo, wat kost een Golf? 🚗");
}

#[tokio::test]
async fn the_agent_is_told_what_the_documentation_promises() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    let sid = message_sid();
    let form = stage.account.text(&sid, &customer(1), "Ik zoek een Volkswagen Golf");
    stage.account.post(&stage.client, &gateway.authority(), &form).await.unwrap();
    stage.twilio.wait_for_sent(1, SOON).await;
    let asked = stage.agent.asked().remove(0);
    assert_eq!(asked.sid, sid);
    assert_eq!(asked.idempotency_key.as_deref(), Some(sid.as_str()));
    assert_eq!(asked.text, "Ik zoek een Volkswagen Golf");
    assert_eq!(asked.body["media"], json!([]));
    assert!(!asked.conversation.contains("316000000"), "the conversation's id hides the number");
}

#[tokio::test]
async fn a_hundred_copies_at_two_gateways_are_one_admission_and_a_hundred_times_200() {
    let redis = RedisServer::start().await.unwrap();
    let stage = Stage::new().await.unwrap();
    let one = stage.gateway(Some(redis.url())).await.unwrap();
    let two = stage.gateway(Some(redis.url())).await.unwrap();
    let form = stage.account.text(&message_sid(), &customer(1), "Ik wil graag een afspraak maken");
    let (one_at, two_at) = (one.authority(), two.authority());
    let posts = (0..100).map(|copy| {
        let gateway = if copy % 2 == 0 { &one_at } else { &two_at };
        stage.account.post(&stage.client, gateway, &form)
    });
    let answers: Vec<Answer> = join_all(posts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(tally(&answers), BTreeMap::from([(200, 100)]));
    assert_eq!(stage.twilio.wait_for_sent(1, SOON).await, 1);
    // A second one would follow a first one at once: the next message has to overtake it.
    stage.say(&one, &customer(1), "en nu?").await.unwrap();
    stage.twilio.wait_for_sent(2, SOON).await;
    assert_eq!(stage.twilio.sent().len(), 2);
    assert_eq!(stage.agent.count(), 2);
}

/// A stage whose channel has the limits of everybody who sets none.
async fn with_usual_limits() -> Stage {
    let stage = Stage::new().await.unwrap();
    let mut manifest = stage.manifest();
    manifest.limits = json!({});
    stage.apply(&manifest).unwrap();
    stage
}

#[tokio::test]
async fn sixty_messages_at_once_from_one_sender_are_fifty_accepted_and_ten_refused() {
    let stage = with_usual_limits().await;
    let gateway = stage.gateway(None).await.unwrap();
    let writer = customer(1);
    let posts = (0..60).map(|_| stage.say(&gateway, &writer, "hallo"));
    let answers: Vec<Answer> = join_all(posts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(tally(&answers), BTreeMap::from([(200, 50), (429, 10)]));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.body, "Too many requests, please slow down");
}

#[tokio::test]
async fn the_limit_holds_over_two_gateways_on_one_redis() {
    let redis = RedisServer::start().await.unwrap();
    let stage = with_usual_limits().await;
    let one = stage.gateway(Some(redis.url())).await.unwrap();
    let two = stage.gateway(Some(redis.url())).await.unwrap();
    let writer = customer(1);
    let posts = (0..60)
        .map(|number| stage.say(if number % 2 == 0 { &one } else { &two }, &writer, "hallo"));
    let answers: Vec<Answer> = join_all(posts).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(tally(&answers), BTreeMap::from([(200, 50), (429, 10)]));
}

#[tokio::test]
async fn messages_of_one_customer_are_answered_in_their_order() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    for number in 1..=20 {
        for who in 1..=3 {
            stage.say(&gateway, &customer(who), &format!("vraag #{number}")).await.unwrap();
        }
    }
    assert_eq!(stage.twilio.wait_for_sent(60, SOON).await, 60);
    assert_eq!(stage.twilio.out_of_order(), []);
    assert_eq!(stage.twilio.sent_twice(), []);
}

#[tokio::test]
async fn forged_and_unknown_are_the_same_403() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    let form = stage.account.text(&message_sid(), &customer(1), "Hallo");
    let post = |form, signature: String| {
        let (client, authority) = (stage.client.clone(), gateway.authority());
        let url = stage.account.webhook_url.clone();
        async move { customer::post(&client, &authority, &url, &form, &signature).await.unwrap() }
    };
    let forged = signer::sign("another token", &stage.account.webhook_url, &form);
    let forged = post(form.clone(), forged).await;
    let stranger = kanarie_fakes::customer::Account::new(999);
    let unknown = stranger.text(&message_sid(), &customer(1), "Hallo");
    let signature = signer::sign(&stranger.token, &stranger.webhook_url, &unknown);
    let unknown = post(unknown, signature).await;
    assert_eq!(forged.status, 403);
    assert_eq!(forged, unknown);
    assert_eq!(stage.agent.count(), 0);
}

#[tokio::test]
async fn a_status_callback_on_the_message_url_is_acknowledged_and_asks_no_agent() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    let form = [
        ("MessageStatus", "delivered"),
        ("SmsStatus", "delivered"),
        ("MessageSid", "SM00000000000000000000000000000002"),
        ("To", "whatsapp:+31600000001"),
        ("From", &stage.account.sender),
        ("AccountSid", &stage.account.sid),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    let answer = stage.account.post(&stage.client, &gateway.authority(), &form).await.unwrap();
    assert_eq!(answer.status, 200);
    stage.say(&gateway, &customer(1), "Hallo").await.unwrap();
    stage.twilio.wait_for_sent(1, SOON).await;
    assert_eq!(stage.agent.count(), 1);
}

#[tokio::test]
async fn a_body_over_the_cap_is_413_and_nothing_of_it_is_kept() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    let form = stage.account.text(&message_sid(), &customer(1), &"x".repeat(300 * 1024));
    let answer = stage.account.post(&stage.client, &gateway.authority(), &form).await.unwrap();
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_time_that_the_flag_says() {
    let stage = Stage::new().await.unwrap();
    let mut options = stage.options(None);
    options.arguments = vec!["--idle-seconds=1".to_owned()];
    let gateway = Program::gateway(&options).await.unwrap();
    let mut client = TcpStream::connect(gateway.authority()).await.unwrap();
    client.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut told = String::new();
    // Without the flag that takes ten minutes.
    let closed = tokio::time::timeout(Duration::from_secs(60), client.read_to_string(&mut told));
    closed.await.unwrap().unwrap();
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
}

#[tokio::test]
async fn a_long_answer_with_emoji_arrives_in_segments_that_hold_every_character() {
    let stage = Stage::new().await.unwrap();
    let gateway = stage.gateway(None).await.unwrap();
    let long = "Een Golf 8 van 2020 kost ongeveer € 18.500 👨‍👩‍👧‍👦 en rijdt zuinig. ".repeat(50);
    stage.agent.behave(Behaviour::Say(long.clone()));
    stage.say(&gateway, &customer(1), "Wat kost een Golf 8 van 2020?").await.unwrap();
    stage.twilio.wait_for_sent(3, SOON).await;
    let sent = stage.twilio.sent();
    assert!(sent.len() >= 3 && sent.iter().all(|s| s.body.chars().count() <= 1600));
    let squeeze = |text: &str| text.split_whitespace().collect::<String>();
    let joined: String = sent.iter().map(|s| squeeze(&s.body)).collect();
    assert_eq!(joined, squeeze(&long));
}

#[tokio::test]
async fn nothing_private_or_secret_is_logged_or_measured() {
    let stage = Stage::new().await.unwrap();
    let mut manifest = stage.manifest();
    manifest.reply = json!({"failureText": "geheim-antwoord-7261"});
    stage.apply(&manifest).unwrap();
    let every_line = "info,kanarie_gateway=trace";
    let gateway = Program::gateway_telling(&stage.options(None), every_line).await.unwrap();
    stage.twilio.set(|settings| settings.callbacks_to = Some(gateway.authority()));
    let writer = customer(61_234_567);
    stage.say(&gateway, &writer, "geheime-vraag-4711").await.unwrap();
    stage.twilio.wait_for_sent(1, SOON).await;
    let form = stage.account.text(&message_sid(), &writer, "geheime-vraag-4711");
    let authority = gateway.authority();
    let url = &stage.account.webhook_url;
    customer::post(&stage.client, &authority, url, &form, "forged").await.unwrap();
    stage.twilio.fail_next([kanarie_fakes::twilio::Fault::Refuse(400, 63024)]);
    stage.say(&gateway, &writer, "geheime-vraag-4711 nog eens").await.unwrap();
    told(&gateway, "not sent").await;
    stage.agent.behave(Behaviour::BrokenJson);
    stage.say(&gateway, &writer, "geheime-vraag-4711 stuk").await.unwrap();
    told(&gateway, "no answer").await;
    each_line_of_a_message_names_it(&gateway.log());
    let seen = format!("{}\n{}", gateway.log(), gateway.metrics().await.unwrap());
    assert!(seen.contains("kanarie_"), "there are metrics to look at");
    // Hashes and SIDs are digits too.
    for private in ["vraag", "g-4711", "d-7261", "61234567", "never-to-be-logged", "Zoë", "31970"]
    {
        let line = seen.lines().find(|line| line.contains(private));
        assert_eq!(line, None, "{private} is nobody's business");
    }
}

/// Waits until the log says so.
async fn told(gateway: &Program, text: &str) {
    while !gateway.log().contains(text) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the lines about messages say of which channel, conversation and message.
fn each_line_of_a_message_names_it(log: &str) {
    let lines_told = ["\"queued\"", "an agent answered", "was sent", "not sent", "no answer"];
    for text in lines_told {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
        assert!(!lines.is_empty(), "{text}:\n{log}");
        let names = ["channel=default/shop conversation=", " message_sid=SM"];
        let nameless = lines.iter().find(|line| !names.iter().all(|name| line.contains(name)));
        assert_eq!(nameless, None);
    }
}

//! Agents that are away for a while: what customers wrote meanwhile is answered afterwards.
//!
//! One gateway, a channel for each way of being away, 20 messages a second over all of them. The
//! outage is longer than any six tries in a row; `KANARIE_OUTAGE_SECONDS` makes it as long as wanted,
//! with 20 messages a second for each channel (`make outages`).
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kanarie_fakes::agent::{Behaviour, FakeAgent};
use kanarie_fakes::chaos::{Proxy, Way};
use kanarie_fakes::customer::customer;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_tests::graph::{FakeGraph, Graph};
use kanarie_tests::manifest::{http_agent, lang_graph_agent};
use kanarie_tests::product::Program;
use kanarie_tests::street::Street;
use tokio::time::{Instant, interval, sleep};

/// The ways to be away, one channel each.
const WAYS: [&str; 5] = ["429", "429 with Retry-After", "__error__", "503", "refused"];
/// Well before and well after.
const WELL: Duration = Duration::from_secs(3);
/// Longest wait for the replies after the outage; the pace of a sender is 80 a second.
const AT_MOST: Duration = Duration::from_secs(240);

/// The agents of the five channels.
struct Agents {
    busy: FakeAgent,
    busy_for: FakeAgent,
    graph: FakeGraph,
    unavailable: FakeAgent,
    refused: FakeAgent,
    way: Proxy,
}

impl Agents {
    async fn start() -> Self {
        let echo = || FakeAgent::start(Behaviour::Echo("re: ".to_owned()));
        let refused = echo().await.unwrap();
        let address = refused.url().replace("http://", "").replace('/', "");
        Self {
            busy: echo().await.unwrap(),
            busy_for: echo().await.unwrap(),
            graph: FakeGraph::start(Graph::Echo("re: ".to_owned())).await.unwrap(),
            unavailable: echo().await.unwrap(),
            way: Proxy::start(address.parse().unwrap()).await.unwrap(),
            refused,
        }
    }

    /// `spec.agent` of each channel, in the order of [`WAYS`].
    fn specs(&self) -> [serde_json::Value; 5] {
        [
            http_agent(&self.busy.url()),
            http_agent(&self.busy_for.url()),
            lang_graph_agent(&self.graph.url(), "agent", 5),
            http_agent(&self.unavailable.url()),
            http_agent(&format!("http://{}/", self.way.address())),
        ]
    }

    fn leave(&self) {
        self.busy.behave(Behaviour::Fail(429));
        self.busy_for.behave(Behaviour::RefuseFor(429, 7));
        self.graph.behave(Graph::Fail);
        self.unavailable.behave(Behaviour::Fail(503));
        self.way.set(Way::Refused);
    }

    fn come_back(&self) {
        for agent in [&self.busy, &self.busy_for, &self.unavailable] {
            agent.behave(Behaviour::Echo("re: ".to_owned()));
        }
        self.graph.behave(Graph::Echo("re: ".to_owned()));
        self.way.set(Way::Open);
    }

    /// How often each was asked.
    fn asked(&self) -> [u64; 5] {
        let count = |agent: &FakeAgent| agent.count() as u64;
        let graph = self.graph.runs();
        let (busy, busy_for) = (count(&self.busy), count(&self.busy_for));
        [busy, busy_for, graph, count(&self.unavailable), count(&self.refused)]
    }
}

/// Posts so many messages a second, to one channel after the other, until the time is over. Gives
/// the replies that each channel owes. Its customers are few enough that several messages of each
/// wait at once.
async fn talk(street: &Street, gateway: &Program, rate: u32, time: Duration) -> Vec<Owed> {
    let mut owed = vec![Owed::new(); WAYS.len()];
    let customers = 2 * rate as usize;
    let mut ticks = interval(Duration::from_secs(1) / rate);
    let (begun, mut posts) = (Instant::now(), FuturesUnordered::new());
    for number in 0.. {
        ticks.tick().await;
        if begun.elapsed() > time {
            break;
        }
        let (channel, turn) = (number % WAYS.len(), number / WAYS.len());
        let who = customer((channel * 1_000 + turn % customers) as u32);
        let text = format!("vraag #{number}");
        owed[channel].insert((who.clone(), format!("re: {text}")));
        posts.push(async move { street.say(gateway, channel, &who, &text).await });
        while let Some(Some(answer)) = futures::FutureExt::now_or_never(posts.next()) {
            assert_eq!(answer.unwrap().status, 200, "every message is accepted");
        }
    }
    while let Some(answer) = posts.next().await {
        assert_eq!(answer.unwrap().status, 200, "every message is accepted");
    }
    owed
}

/// Customer and text.
type Owed = BTreeSet<(String, String)>;

/// Dead letters so far, by their class.
async fn buried(gateway: &Program) -> Vec<String> {
    let metrics = gateway.metrics().await.unwrap();
    let of = |line: &&str| line.starts_with("kanarie_buried_total") && !line.ends_with(" 0");
    metrics.lines().filter(of).map(str::to_owned).collect()
}

async fn outage(redis: Option<&RedisServer>, rate: u32, away: Duration) {
    let agents = Agents::start().await;
    let street = Street::new(&agents.specs()).await.unwrap();
    let gateway = street.gateway(redis.map(RedisServer::url)).await.unwrap();
    let (owed, ()) = tokio::join!(talk(&street, &gateway, rate, WELL + away + WELL), async {
        sleep(WELL).await;
        agents.leave();
        sleep(away).await;
        agents.come_back();
        println!("asked until their return: {:?} of {WAYS:?}", agents.asked());
    });
    let returned = Instant::now();
    let all = owed.iter().map(BTreeSet::len).sum();
    while street.twilio.wait_for_sent(all, Duration::from_secs(2)).await < all {
        let buried = buried(&gateway).await;
        assert!(buried.is_empty(), "buried after {:?}: {buried:?}", returned.elapsed());
        assert!(returned.elapsed() < AT_MOST, "{}", missing(&street, &owed));
    }
    println!("{all} replies, the last one {:.1} s after", returned.elapsed().as_secs_f64());
    for (channel, owed) in owed.iter().enumerate() {
        let told: Owed = street.told(channel).into_iter().collect();
        assert_eq!(told, *owed, "{}", WAYS[channel]);
    }
    assert_eq!(street.twilio.sent_twice(), []);
    assert_eq!(street.twilio.out_of_order(), []);
    assert_eq!(buried(&gateway).await, Vec::<String>::new());
}

/// How many replies each channel still owes.
fn missing(street: &Street, owed: &[Owed]) -> String {
    let of = |(channel, owed): (usize, &Owed)| {
        let told: Owed = street.told(channel).into_iter().collect();
        format!(
            "{}: {} of {} unanswered",
            WAYS[channel],
            owed.difference(&told).count(),
            owed.len()
        )
    };
    owed.iter().enumerate().map(of).collect::<Vec<_>>().join(", ")
}

/// The length that was asked for, with its rate: 20 a second for each channel.
fn wanted() -> Option<(u32, Duration)> {
    let seconds = std::env::var("KANARIE_OUTAGE_SECONDS").ok()?;
    Some((20 * WAYS.len() as u32, Duration::from_secs(seconds.parse().unwrap())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_customers_write_while_their_agents_are_away_is_answered_once_and_in_order() {
    let (rate, away) = wanted().unwrap_or((20, Duration::from_secs(50)));
    outage(None, rate, away).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the same on Redis: make outages"]
async fn what_customers_write_meanwhile_waits_in_redis_too() {
    let (rate, away) = wanted().unwrap_or((20, Duration::from_secs(50)));
    let redis = RedisServer::start().await.unwrap();
    outage(Some(&redis), rate, away).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_says_when_to_come_again_is_asked_then_and_not_before() {
    let agent = FakeAgent::start(Behaviour::RefuseFor(429, 20)).await.unwrap();
    let street = Street::new(&[http_agent(&agent.url())]).await.unwrap();
    let gateway = street.gateway(None).await.unwrap();
    street.say(&gateway, 0, &customer(1), "vraag").await.unwrap();
    while agent.count() == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    agent.behave(Behaviour::Echo("re: ".to_owned()));
    assert_eq!(street.twilio.wait_for_sent(1, AT_MOST).await, 1);
    let [first, second] = agent.asked().try_into().unwrap();
    assert!(second.at - first.at >= Duration::from_secs(20), "after {:?}", second.at - first.at);
}

/// Three hundred customers write at once to an agent that answers ten at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_room_for_few_answers_all_and_is_not_stormed() {
    let behaviour = Behaviour::Room(10, Duration::from_millis(200), "re: ".to_owned());
    let agent = FakeAgent::start(behaviour).await.unwrap();
    let street = Street::new(&[http_agent(&agent.url())]).await.unwrap();
    let gateway = street.gateway(None).await.unwrap();
    let begun = Instant::now();
    let says = (0..300).map(|number| {
        let (street, gateway) = (&street, &gateway);
        async move { street.say(gateway, 0, &customer(number), "vraag").await.unwrap().status }
    });
    let accepted = futures::future::join_all(says).await;
    assert_eq!(accepted, [200; 300]);
    assert_eq!(street.twilio.wait_for_sent(300, AT_MOST).await, 300);
    let told: Owed = street.told(0).into_iter().collect();
    assert_eq!(told, (0..300).map(|number| (customer(number), "re: vraag".to_owned())).collect());
    println!("{} questions for 300 answers in {:?}", agent.count(), begun.elapsed());
    assert!(agent.count() < 600, "{} questions", agent.count());
}

/// Many customers write to two gateways while their agent is away; one gateway dies meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_agent_outlives_the_gateway_that_asked() {
    let redis = RedisServer::start().await.unwrap();
    let agent = FakeAgent::start(Behaviour::Fail(503)).await.unwrap();
    let street = Street::new(&[http_agent(&agent.url())]).await.unwrap();
    let dies = street.gateway(Some(redis.url())).await.unwrap();
    let lives = street.gateway(Some(redis.url())).await.unwrap();
    let mut owed = Owed::new();
    for number in 0..120 {
        let gateway = if number % 2 == 0 { &dies } else { &lives };
        let (who, text) = (customer(number % 40), format!("vraag #{number}"));
        assert_eq!(street.say(gateway, 0, &who, &text).await.unwrap().status, 200);
        owed.insert((who, format!("re: {text}")));
    }
    sleep(WELL).await;
    dies.kill();
    agent.behave(Behaviour::Echo("re: ".to_owned()));
    street.twilio.wait_for_sent(owed.len(), AT_MOST).await;
    assert_eq!(street.told(0).into_iter().collect::<Owed>(), owed);
    assert_eq!(street.twilio.sent_twice(), []);
    assert_eq!(street.twilio.out_of_order(), []);
    assert_eq!(buried(&lives).await, Vec::<String>::new());
}

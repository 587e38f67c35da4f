//! What a message costs the store, and what becomes of it when somebody dies between two trips.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kanarie_crds::route::RouteLimits;
use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::callback::SegmentId;
use kanarie_gateway::deliveries;
use kanarie_gateway::envelope;
use kanarie_gateway::handover::KeptPlace;
use kanarie_gateway::reports::Reports;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::hail::Hail;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_queue::admit::Admission;
use kanarie_queue::deliveries::SumUndelivered;
use kanarie_queue::intent::{Intent, Memo};
use kanarie_queue::send::CommitReply;
use kanarie_words::ids::ConversationId;
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tokio::sync::watch;

use crate::worker::agents::{HttpAgent, Next};
use crate::worker::twilio::Next as Send;
use crate::worker::world::{Running, UID, World, breathe, eventually, http, route};
use crate::worker::{one_agent, replies};

/// Memory that counts how often it was made durable.
#[derive(Debug)]
struct Counting {
    memory: InMemoryBackend,
    syncs: Arc<AtomicUsize>,
}

impl StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.memory.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)
    }
}

/// A world over memory that counts, an agent, and how often something was made durable.
async fn counted() -> (World, HttpAgent, Arc<AtomicUsize>) {
    let syncs = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&syncs);
    let agent = HttpAgent::start("stable").await;
    let store = async move |clock: Arc<AtomicU64>| {
        let storage =
            move || Counting { memory: InMemoryBackend::new(), syncs: Arc::clone(&counting) };
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        Store::Embedded(EmbeddedStore::over(storage, clock).unwrap())
    };
    (World::over(store, route(http(&agent.url))).await, agent, syncs)
}

/// Fills the first pages, so that the file does not grow while it counts: a commit is one sync then.
/// Gives how many there were.
async fn grown(world: &World, syncs: &AtomicUsize) -> usize {
    let text = "x".repeat(8_000);
    for number in 0..9 {
        world.admit_elsewhere("gone", 31, &format!("SMgone{number}"), text.clone()).await;
    }
    let before = syncs.load(Ordering::SeqCst);
    world.admit_elsewhere("gone", 31, "SMgone", text).await;
    assert_eq!(syncs.load(Ordering::SeqCst) - before, 1);
    before + 1
}

/// A world over a Redis server.
async fn on_redis(server: &RedisServer) -> (World, HttpAgent) {
    let agent = HttpAgent::start("stable").await;
    let url = server.url();
    let store = async move |clock| {
        let settings =
            Settings { beat: Duration::from_secs(20), clock: Some(clock), ..Settings::default() };
        Store::Redis(RedisStore::open(&url, settings).await.unwrap())
    };
    (World::over(store, route(http(&agent.url))).await, agent)
}

async fn command_stats(server: &RedisServer) -> String {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap()
}

/// Scripts that the server ran.
async fn scripts(server: &RedisServer) -> usize {
    let info = command_stats(server).await;
    let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

/// Starts a worker and waits until it takes what it is brought.
async fn working(world: &World) -> Running {
    let running = world.work().await;
    let is_open = || world.keep_place(&running, 0).map(KeptPlace::leave).is_some();
    eventually("its first place", is_open).await;
    running
}

async fn breathe_a_while() {
    for _ in 0..20 {
        breathe().await;
    }
}

#[tokio::test]
async fn a_message_that_comes_alone_costs_three_trips_to_redis() {
    let server = RedisServer::start_quick().await.unwrap();
    let (world, _agent) = on_redis(&server).await;
    let running = working(&world).await;
    // The server learns the scripts.
    assert_eq!(world.post(&running, 1, "SM1", "Hallo").await, 200);
    replies(&world, 1).await;
    breathe_a_while().await;
    let before = scripts(&server).await;
    for customer in 2..=8 {
        let sid = format!("SM{customer}");
        assert_eq!(world.post(&running, customer, &sid, "Hallo").await, 200);
        replies(&world, usize::from(customer)).await;
        breathe_a_while().await;
    }
    assert_eq!(scripts(&server).await - before, 3 * 7);
}

#[tokio::test]
async fn reports_of_what_this_replica_has_recorded_cost_no_trip_and_others_one() {
    let server = RedisServer::start_quick().await.unwrap();
    let (mut world, _agent) = on_redis(&server).await;
    let running = working(&world).await;
    assert_eq!(world.post(&running, 1, "SM1", "Hallo").await, 200);
    replies(&world, 1).await;
    breathe_a_while().await;
    let created = world.twilio.created()[0].clone();
    let before = scripts(&server).await;
    for status in ["sent", "delivered", "read"] {
        assert_eq!(world.post_report(&running, &created, status).await, 200);
    }
    assert_eq!(scripts(&server).await - before, 0);
    world.reports = Reports::default();
    for status in ["sent", "delivered", "read"] {
        assert_eq!(world.post_report(&running, &created, status).await, 200);
    }
    // The server learns the script with its first call.
    assert_eq!(scripts(&server).await - before, 2);
}

/// Lets one who tells the store hear twice of 64 replies, sent and not delivered.
async fn hear_of_sixty_four(world: &World) {
    let channel = route(http("")).channel;
    let (end, ending) = watch::channel(false);
    let tell = deliveries::tell(world.deliveries.clone(), Arc::clone(&world.store), ending);
    let telling = tokio::spawn(tell);
    for _ in 0..2 {
        for number in 0..32 {
            let conversation = ConversationId::from_bytes([number; 16]);
            let id = SegmentId { conversation, intent: "a1".parse().unwrap(), segment: 0 };
            world.deliveries.note(&channel, &id, "sent", None);
            world.deliveries.note(&channel, &id, "undelivered", Some(63_016));
        }
        breathe_a_while().await;
    }
    end.send_replace(true);
    telling.await.unwrap();
}

#[tokio::test]
async fn sixty_four_reports_cost_one_trip_to_redis_and_what_it_has_costs_none() {
    let server = RedisServer::start_quick().await.unwrap();
    let (world, _agent) = on_redis(&server).await;
    let before = scripts(&server).await;
    hear_of_sixty_four(&world).await;
    // It learns the script with its first call.
    assert_eq!(scripts(&server).await - before, 2);
    assert_eq!(world.store.run(SumUndelivered).await.unwrap()[0].count, 32);
}

#[tokio::test]
async fn sixty_four_reports_are_one_commit() {
    let (world, _agent, syncs) = counted().await;
    let before = grown(&world, &syncs).await;
    hear_of_sixty_four(&world).await;
    assert_eq!(syncs.load(Ordering::SeqCst) - before, 1);
}

#[tokio::test]
async fn a_message_that_comes_alone_costs_three_commits() {
    let (world, _agent, syncs) = counted().await;
    let running = working(&world).await;
    let before = grown(&world, &syncs).await;
    for customer in 1..=8 {
        assert!(world.bring(&running, customer, &format!("SM{customer}"), "Hallo").await);
        replies(&world, usize::from(customer)).await;
        breathe_a_while().await;
    }
    assert_eq!(syncs.load(Ordering::SeqCst) - before, 3 * 8);
}

#[tokio::test]
async fn a_backlog_costs_two_commits_a_message_for_the_end_of_one_claims_the_next() {
    let (world, _agent, syncs) = counted().await;
    for number in 0..7 {
        world.admit_for(None, 1, &format!("SM{number}"), &number.to_string()).await;
    }
    let before = grown(&world, &syncs).await;
    let running = working(&world).await;
    assert!(!world.bring(&running, 1, "SM7", "7").await, "it waits behind the others");
    let expected: Vec<_> = (0..8).map(|number| format!("stable: {number}")).collect();
    assert_eq!(replies(&world, 8).await, expected);
    breathe_a_while().await;
    assert_eq!(syncs.load(Ordering::SeqCst) - before, 2 + 2 * 8, "one admission and one claim");
}

#[tokio::test]
async fn without_a_free_place_a_turn_claims_three_more_heads_and_then_lets_others_in() {
    let (mut world, _agent, syncs) = counted().await;
    world.turns = 1;
    for number in 0..8 {
        world.admit_for(None, 1, &format!("SM{number}"), &number.to_string()).await;
    }
    let before = grown(&world, &syncs).await;
    let _running = world.work().await;
    assert_eq!(replies(&world, 8).await.len(), 8);
    // A claim for four of them; those of the other shard are claimed and given up one by one.
    let expected = before + 2 + 2 * 8 + 2 * 10;
    eventually("the end of both", || syncs.load(Ordering::SeqCst) >= expected).await;
    breathe_a_while().await;
    assert_eq!(syncs.load(Ordering::SeqCst), expected);
}

#[tokio::test]
async fn of_several_replicas_each_books_its_sends_with_the_store() {
    let server = RedisServer::start_quick().await.unwrap();
    let (world, _agent) = on_redis(&server).await;
    world.meet_another_replica().await;
    let running = working(&world).await;
    world.bring(&running, 1, "SM1", "Hallo").await;
    replies(&world, 1).await;
    breathe_a_while().await;
    let before = scripts(&server).await;
    // Time stands still: two are booked at once, then four, and one trip books them.
    for customer in 2..8 {
        world.bring(&running, customer, &format!("SM{customer}"), "Hallo").await;
        replies(&world, usize::from(customer)).await;
        breathe_a_while().await;
    }
    assert_eq!(scripts(&server).await - before, 3 * 6 + 2);
}

/// Commands that gateways sent: what a script calls is counted there as well.
async fn commands(server: &RedisServer) -> usize {
    let sent = ["evalsha", "ping", "publish", "subscribe", "script|load"];
    let calls = |line: &str| {
        let (command, calls) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        sent.contains(&command).then(|| calls.split(',').next()?.parse::<usize>().ok())?
    };
    command_stats(server).await.lines().filter_map(calls).sum()
}

#[tokio::test]
async fn a_fleet_of_three_at_rest_makes_less_than_ten_commands_a_second() {
    let server = RedisServer::start_quick().await.unwrap();
    let (world, _agent) = on_redis(&server).await;
    let _fleet = [world.work().await, world.work().await, world.work().await];
    eventually("a subscription", || world.store.hears()).await;
    // Each learns of the others with its next heartbeat, and finishes the looks that it has begun.
    world.pass(10).await;
    let before = commands(&server).await;
    world.pass(60).await;
    let commands = commands(&server).await - before;
    assert!(commands < 600, "{commands} in a minute");
}

#[tokio::test]
async fn what_a_replica_leaves_to_others_is_taken_at_once() {
    let server = RedisServer::start_quick().await.unwrap();
    let (world, _agent) = on_redis(&server).await;
    world.meet_another_replica().await;
    let _running = working(&world).await;
    eventually("its subscription", || world.store.hears()).await;
    // Until it has looked at all shards, as it does when it begins to listen.
    breathe_a_while().await;
    let message = world.message("whatsapp:+14010000005", "SM5", "Hallo");
    world.admit_elsewhere(UID, 5, "SM5", envelope::write(&message)).await;
    breathe_a_while().await;
    assert_eq!(world.twilio.posts(), 0, "nobody rang");
    world.store.call(&Hail::Shards(1 << 5)).await.unwrap();
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
}

#[tokio::test]
async fn a_webhook_is_answered_as_soon_as_its_message_is_durable() {
    let (world, agent) = one_agent().await;
    let running = working(&world).await;
    agent.next(Next::Hang);
    assert_eq!(world.post(&running, 1, "SM1", "Hallo").await, 200);
    eventually("the question", || agent.asked().len() == 1).await;
    assert_eq!(world.post(&running, 1, "SM1", "Hallo").await, 200, "a repetition");
    assert_eq!(world.post(&running, 1, "SM2", "Hoi").await, 200, "the next one waits");
    world.pass(6).await;
    assert_eq!(replies(&world, 2).await, ["stable: Hallo", "stable: Hoi"]);
}

#[tokio::test]
async fn a_refused_webhook_leaves_the_place_that_was_kept_for_it() {
    let (mut world, agent) = one_agent().await;
    world.turns = 2;
    let mut strict = route(http(&agent.url));
    strict.limits = RouteLimits { inbound_messages: 1, ..strict.limits };
    world.set_route(strict);
    let running = working(&world).await;
    assert_eq!(world.post(&running, 1, "SM1", "Hallo").await, 200);
    replies(&world, 1).await;
    for nth in 2..6 {
        assert_eq!(world.post(&running, 1, &format!("SM{nth}"), "Hallo").await, 429);
    }
    assert_eq!(world.post(&running, 2, "SM9", "Hoi").await, 200);
    assert_eq!(replies(&world, 2).await[1], "stable: Hoi");
}

#[tokio::test]
async fn a_message_whose_bringer_died_is_answered_when_its_lease_ends() {
    let (world, _agent) = one_agent().await;
    let running = working(&world).await;
    let place = world.keep_place(&running, 1).unwrap();
    let admission = world.admit_for(Some(place.lease()), 1, "SM1", "Hallo").await;
    assert!(matches!(admission, Admission::Leased(_)));
    // Its process is gone, and nobody gives anything back.
    place.leave();
    world.pass(3).await;
    assert_eq!(world.twilio.posts(), 0);
    world.skip(16_000);
    world.pass(9).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
}

#[tokio::test]
async fn a_lease_that_nobody_heard_of_is_given_back() {
    let (world, _agent) = one_agent().await;
    let running = working(&world).await;
    let place = world.keep_place(&running, 1).unwrap();
    world.admit_for(Some(place.lease()), 1, "SM1", "Hallo").await;
    drop(place);
    world.pass(1).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_keeps_no_place_and_waits_for_those_it_keeps() {
    let (world, _agent) = one_agent().await;
    let running = working(&world).await;
    let place = world.keep_place(&running, 1).unwrap();
    running.stop();
    breathe_a_while().await;
    assert!(world.keep_place(&running, 2).is_none());
    assert!(!running.worker.is_finished(), "a message may be on its way to its place");
    let admission = world.admit_for(Some(place.lease()), 1, "SM1", "Hallo").await;
    let Admission::Leased(head) = admission else { panic!("it comes alone") };
    place.begin(*head);
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    eventually("the end of the worker", || running.worker.is_finished()).await;
}

#[tokio::test]
async fn no_place_is_kept_while_every_turn_is_taken_or_the_channel_has_its_share() {
    let (mut world, agent) = one_agent().await;
    world.turns = 2;
    let running = working(&world).await;
    agent.next(Next::Hang);
    assert!(world.bring(&running, 1, "SM1", "Hallo").await);
    eventually("the question", || agent.asked().len() == 1).await;
    assert!(world.keep_place(&running, 2).is_none());
    assert!(!world.bring(&running, 2, "SM2", "Hallo").await);
    world.pass(15).await;
    assert_eq!(replies(&world, 2).await.len(), 2);
}

#[tokio::test]
async fn a_reply_that_was_marked_with_its_commit_is_settled_by_listings() {
    let (world, agent) = one_agent().await;
    world.admit(1, "SM1", "Hallo").await;
    let lease = world.claim(1).await;
    let body = r#"{"segments":["Dag"],"validitySeconds":600}"#.to_owned();
    let intent = Intent::fresh("reply".parse().unwrap(), 1, body);
    let mark = Some("dead".parse().unwrap());
    let commit = CommitReply { lease, intent, outcome: None, memo: Memo::default(), mark };
    world.store.run(commit).await.unwrap();
    world.skip(21_000);
    let _running = world.work().await;
    world.pass(30).await;
    assert_eq!((world.twilio.posts(), world.twilio.lists()), (0, 1), "it may have been sent");
    world.pass(70).await;
    assert_eq!(replies(&world, 1).await, ["Dag"]);
    assert_eq!((world.twilio.lists(), agent.asked().len()), (2, 0));
}

#[tokio::test]
async fn a_refused_first_segment_takes_the_mark_of_its_commit_back() {
    let (world, _agent) = one_agent().await;
    let running = working(&world).await;
    world.twilio.next(Send::Refuse(429, 20_429));
    world.bring(&running, 1, "SM1", "Hallo").await;
    eventually("the first POST", || world.twilio.posts() == 1).await;
    breathe_a_while().await;
    world.pass(2).await;
    assert_eq!(replies(&world, 1).await, ["stable: Hallo"]);
    assert_eq!(world.twilio.lists(), 0, "nothing was unknown");
}

#[tokio::test]
async fn a_reply_whose_pace_says_later_is_committed_at_once_and_sent_in_its_time() {
    let (world, agent) = one_agent().await;
    let mut slow = route(http(&agent.url));
    slow.limits = RouteLimits { outbound_per_second: 1, ..slow.limits };
    world.set_route(slow);
    let running = working(&world).await;
    for customer in 1..=9 {
        world.bring(&running, customer, &format!("SM{customer}"), "Hallo").await;
    }
    replies(&world, 8).await;
    breathe_a_while().await;
    assert_eq!((world.twilio.posts(), agent.asked().len()), (8, 9));
    world.pass(2).await;
    assert_eq!(replies(&world, 9).await.len(), 9);
}

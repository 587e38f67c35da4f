//! A store of layout 1, as an earlier version left it (`fixtures/layout1`): taken over with all that it
//! holds, or refused with a word of what to do; and a store of a newer layout is left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kanarie_fakes::redis_server::RedisServer;
use kanarie_gateway::store::Store;
use kanarie_gateway::store::embedded::EmbeddedStore;
use kanarie_gateway::store::redis::{RedisStore, Settings};
use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claim, Claimed, Head};
use kanarie_queue::dead::{DeadSum, Load, SumDead, SumLoads};
use kanarie_queue::evidence::{EndAttempt, ReadCounts};
use kanarie_queue::intent::{Memo, Sending};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::outcome::{Count, Evidence};
use kanarie_queue::send::{Complete, MarkSending, Marked};
use kanarie_queue::sweep::Sweep;
use kanarie_words::class::Class;
use kanarie_words::ids::{ConversationId, Epoch};
use kanarie_words::track::Track;
use redb::{ReadableDatabase as _, ReadableTable as _};
use redis::{Cmd, FromRedisValue, cmd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::store::stage::{id, lease_of, post};

/// The story's clock at its end, and when everything that waited was worked off.
const END: u64 = 1_767_315_683_317;
const DRAINED: u64 = 1_767_316_683_317;
const DAY: u64 = 86_400_000;
const KEY: &str = "b2c40cf2480379f6726bc83ecf09d33b3ed0f8225b6e88542c382149ead28eda";
const SHOP: &str = "6f1c2a9e-0f00-4000-8000-0000000000a1";
const CLINIC: &str = "6f1c2a9e-0f00-4000-8000-0000000000b2";
const ACCOUNT: &str = "AC000000000000000000000000000000a1";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layout1").join(name)
}

/// The file of layout 1 in a directory of its own.
fn old_file() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("queue.redb"), directory.path().join("queue.redb")).unwrap();
    directory
}

pub(crate) fn open(directory: &tempfile::TempDir, now: u64) -> Store {
    Store::Embedded(EmbeddedStore::open(directory.path(), Arc::new(move || now)).unwrap())
}

pub(crate) async fn claim(store: &Store, shard: u8, nonce: &str) -> Option<(Head, Lease)> {
    let claim = Claim { shard, nonce: id(nonce), lease_ms: 15_000 };
    match store.run(claim).await.unwrap() {
        Claimed::Head(head) => {
            let lease = lease_of(&head);
            Some((*head, lease))
        }
        Claimed::Nothing { .. } => None,
    }
}

pub(crate) async fn complete(store: &Store, lease: Lease) {
    assert_eq!(store.run(Complete { lease, outcome: None }).await.unwrap(), Owned::Done);
}

/// The number at the end of a SID of the story.
fn number_of(head: &Head) -> u64 {
    let envelope: serde_json::Value = serde_json::from_str(&head.envelope).unwrap();
    u64::from_str_radix(envelope["sid"].as_str().unwrap().trim_start_matches("SM"), 16).unwrap()
}

/// Everything that waits, by shard, in the order in which it is handed out.
async fn drained(store: &Store) -> Vec<(u8, Vec<u64>)> {
    let mut by_shard = Vec::new();
    for shard in 0..32 {
        let mut numbers = Vec::new();
        while let Some((head, lease)) = claim(store, shard, &format!("d{}", numbers.len())).await {
            numbers.push(number_of(&head));
            complete(store, lease).await;
        }
        if !numbers.is_empty() {
            by_shard.push((shard, numbers));
        }
    }
    by_shard
}

/// What waits at the end, once every lease and delay is over: by shard, in turn.
fn all_that_waits() -> Vec<(u8, Vec<u64>)> {
    vec![
        (5, vec![0x13, 0x16, 0x17, 0x18, 0x14, 0x15]),
        (7, vec![0x23, 0x25, 0x24]),
        (9, vec![0x1b, 0x19, 0x1a]),
        (11, vec![0x1c, 0x21, 0x1f, 0x20, 0x1e]),
    ]
}

/// A message of the shop as it came to the earlier version.
fn message(conversation: &str, number: u64, limit: u32) -> Admit {
    Admit {
        channel: id(SHOP),
        dedup_key: id(&format!("{ACCOUNT}:SM{number:032x}")),
        conversation: ConversationId::parse(conversation).unwrap(),
        envelope: "{}".to_owned(),
        limit,
        window_ms: 60_000,
        dedup_ms: DAY,
        lease: None,
    }
}

async fn counts(store: &Store) -> (Vec<String>, Vec<String>) {
    let read = store.run(ReadCounts { channels: vec![id(SHOP), id(CLINIC)] }).await.unwrap();
    let text = |count: &Count| format!("{} {}", count.evidence.field(), count.messages);
    assert!(read.counts.iter().all(|of| of.customers.is_empty()), "nobody told customers apart");
    let of = |at: usize| read.counts[at].messages.iter().map(text).collect();
    (of(0), of(1))
}

/// Evidence, dead letters, SIDs: what both stores remember of the story.
async fn remembers(store: &Store) {
    assert_eq!(store.key().await.unwrap().to_hex(), KEY);
    let shop = [
        "6:canary:invalid 1",
        "7:stable:slow 1",
        "7:canary:success 2",
        "7:canary:http 1",
        "8:stable:success 4",
        "8:canary:success 2",
        "8:canary:timeout 1",
        "8:canary:http 1",
        "8:canary:no-answer 1",
    ];
    let clinic = ["2:stable:timeout 1"];
    assert_eq!(
        counts(store).await,
        (shop.map(str::to_owned).into(), clinic.map(str::to_owned).into())
    );
    let letters = |channel: &str, count, oldest_at, class: &str| DeadSum {
        channel: id(channel),
        count,
        oldest_at,
        class: class.to_owned(),
    };
    let dead = [
        letters(SHOP, 4, 1_767_225_600_010, "opt-out"),
        letters(CLINIC, 1, 1_767_315_600_030, "timeout"),
    ];
    assert_eq!(store.run(SumDead).await.unwrap(), dead);
    // The shard of the shop's busiest customer, who was admitted with SM…13.
    let admit = message("05625347a0782d446c46e1dc3ef76092", 0x13, 50);
    assert_eq!(store.run(admit).await.unwrap(), Admission::Duplicate);
}

/// Rows of the file, and the version that stands in it.
pub(crate) fn rows_of(directory: &tempfile::TempDir) -> (BTreeMap<String, Vec<u8>>, u64) {
    let database = redb::Database::open(directory.path().join("queue.redb")).unwrap();
    let transaction = database.begin_read().unwrap();
    let rows = transaction.open_table(redb::TableDefinition::<&str, &[u8]>::new("rows")).unwrap();
    let rows = rows.iter().unwrap().map(Result::unwrap);
    let rows = rows.map(|(name, row)| (name.value().to_owned(), row.value().to_vec())).collect();
    let schema = redb::TableDefinition::<&str, u64>::new("schema");
    let version = transaction.open_table(schema).unwrap().get("version").unwrap().unwrap();
    (rows, version.value())
}

#[tokio::test]
async fn everything_that_waited_in_an_old_file_is_handed_out_in_its_turn() {
    let directory = old_file();
    let store = open(&directory, END + DAY);
    assert_eq!(drained(&store).await, all_that_waits());
}

#[tokio::test]
async fn what_an_old_file_remembers_is_remembered() {
    let directory = old_file();
    let store = open(&directory, END);
    remembers(&store).await;
    let forgotten = message("05625347a0782d446c46e1dc3ef76092", 0x01, 50);
    assert_eq!(store.run(forgotten).await.unwrap(), Admission::Queued);
}

#[tokio::test]
async fn the_limits_of_an_old_file_go_on() {
    let directory = old_file();
    let store = open(&directory, END);
    let fourth = message("05625347a0782d446c46e1dc3ef76092", 0x99, 3);
    let retry_after_ms = 1_767_315_647_159 + 60_000 - END;
    assert_eq!(store.run(fourth).await.unwrap(), Admission::Limited { retry_after_ms });
}

#[tokio::test]
async fn the_epochs_of_an_old_file_stay() {
    let directory = old_file();
    let text = std::fs::read_to_string(fixture("embedded.rows")).unwrap();
    let metas = text.lines().filter_map(|line| line.split_once(":meta\t"));
    let expected: Vec<Option<Epoch>> = metas
        .map(|(_, row)| {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            Some(id(row["epoch"].as_str().unwrap()))
        })
        .collect();
    assert_eq!(expected.len(), 32);
    let read = open(&directory, END).run(ReadCounts { channels: Vec::new() }).await.unwrap();
    assert_eq!(read.epochs, expected);
}

#[tokio::test]
async fn what_owners_in_an_old_file_had_done_stands() {
    let directory = old_file();
    let store = open(&directory, END);
    let (head, lease) = claim(&store, 11, "n-p1").await.unwrap();
    let intent = head.intent.unwrap();
    assert_eq!((head.tries, head.counted, head.crashed_alone), (2, true, false));
    assert_eq!((intent.id.as_str(), intent.segments, intent.resent), ("intent-p", 3, false));
    assert_eq!(intent.sent, ["SM5e00000000000000000000000000001d"]);
    let sending = Sending { attempt: id("attempt-p1"), at: 1_767_315_647_244, missed_at: None };
    assert_eq!(intent.sending, Some(sending.clone()));

    let other = MarkSending { lease, post: post("intent-p", 1, "attempt-p2"), refuted: None };
    let ambiguous = Marked::Ambiguous { sending, attributed: intent.sent, now: END };
    assert_eq!(store.run(other).await.unwrap(), ambiguous);
}

#[tokio::test]
async fn what_was_known_of_heads_in_an_old_file_is_known() {
    let directory = old_file();
    let store = open(&directory, END);
    // Whoever opens the file ends the leases of the process that had it: each a crash.
    let (crashed, lease) = claim(&store, 7, "a").await.unwrap();
    assert_eq!((crashed.tries, crashed.crashes, crashed.crashed_alone), (3, 2, false));
    let (asked, _) = claim(&store, 7, "b").await.unwrap();
    assert_eq!((asked.tries, asked.crashes, asked.counted), (2, 1, true));
    assert_eq!(asked.failed_on, Some(id("shop-7d9f")));
    assert!(asked.run.is_some_and(|run| run.contains("1f0e5c3a-0000-6000-8000-000000000001")));
    assert_eq!(asked.memo, Memo::default());
    complete(&store, lease).await;
    assert_eq!(number_of(&claim(&store, 7, "next").await.unwrap().0), 0x24);
}

#[tokio::test]
async fn the_load_of_channels_in_an_old_file_is_counted() {
    let directory = old_file();
    let text = std::fs::read_to_string(fixture("embedded.rows")).unwrap();
    let messages = text.lines().filter(|line| line.contains(":msg:")).count();
    let loads = open(&directory, END).run(SumLoads).await.unwrap();
    let of = |load: &Load| (load.messages, load.dead_letters);
    assert_eq!(loads.iter().map(of).collect::<Vec<_>>(), [(13, 4), (4, 1)]);
    assert_eq!(messages, 17);
    assert!(loads.iter().all(|load| load.bytes > 100 * load.messages));
}

#[tokio::test]
async fn an_old_file_is_rewritten_at_its_first_start_and_left_alone_at_the_next() {
    let directory = old_file();
    let (old, version) = rows_of(&directory);
    assert_eq!(version, 1);
    drop(open(&directory, END));
    let (new, version) = rows_of(&directory);
    assert_eq!(version, 3);
    assert!(old.keys().eq(new.keys()), "each row has its place in layout 3");
    for (name, row) in &new {
        let (old, new) = (json(&old[name]), json(row));
        let has = |field: &str| new.as_ref().is_some_and(|row| row.get(field).is_some());
        if name.contains(":dl:") {
            assert!(has("conversation") && has("admitted_at"), "{name}");
        }
        if old.is_some_and(|old| old["sending"].is_object()) {
            assert!(new.is_some_and(|new| new["sending"].get("missed_at").is_some()), "{name}");
        }
    }
    drop(open(&directory, END));
    assert!(rows_of(&directory).0 == new, "a second start writes nothing");
}

fn json(row: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(row).ok()
}

/// Runs the commands of a fixture, inline as they stand.
async fn tell(server: &RedisServer, name: &str) {
    let commands = std::fs::read_to_string(fixture(name)).unwrap();
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    for command in commands.lines() {
        socket.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    }
    socket.write_all(b"QUIT\r\n").await.unwrap();
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await.unwrap();
    assert!(!answers.lines().any(|line| line.starts_with('-')), "{answers}");
    assert!(answers.lines().count() > commands.lines().count());
}

async fn raw<T: FromRedisValue>(server: &RedisServer, command: &Cmd) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

/// The number that stands in the server.
async fn layout(server: &RedisServer) -> Option<String> {
    raw(server, cmd("GET").arg("{gw:sys}:layout")).await
}

async fn try_open(server: &RedisServer, now: u64) -> Result<Store, String> {
    let clock = Some(Arc::new(AtomicU64::new(now)));
    let settings = Settings { beat: Duration::from_secs(20), clock, ..Settings::default() };
    let store = RedisStore::open(&server.url(), settings).await;
    store.map(Store::Redis).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_in_which_old_messages_wait_is_refused_with_a_word_of_what_to_do() {
    let server = RedisServer::start_quick().await.unwrap();
    tell(&server, "redis-waiting.txt").await;
    let before: u64 = raw(&server, &cmd("DBSIZE")).await;
    let error = try_open(&server, END).await.err().unwrap();
    assert!(error.contains("rows of layout 1 still wait"), "{error}");
    assert!(error.contains("let the gateways that wrote them answer them"), "{error}");
    assert_eq!(raw::<u64>(&server, &cmd("DBSIZE")).await, before);
    assert_eq!(layout(&server).await, None);
}

#[tokio::test]
async fn a_conversation_that_waits_in_any_shard_is_enough() {
    for shard in ["{gw:00}:conv", "{gw:17}:conv", "{gw:31}:conv"] {
        let server = RedisServer::start_quick().await.unwrap();
        raw::<String>(&server, cmd("SET").arg("{gw:sys}:key").arg(KEY)).await;
        raw::<u64>(&server, cmd("HSET").arg(shard).arg("05").arg("{}")).await;
        assert!(try_open(&server, END).await.is_err(), "{shard}");
        raw::<u64>(&server, cmd("DEL").arg(shard)).await;
        assert!(try_open(&server, END).await.is_ok(), "{shard}");
        assert_eq!(layout(&server).await.as_deref(), Some("2"), "{shard}");
    }
}

#[tokio::test]
async fn a_drained_server_is_taken_over_with_all_that_it_remembers() {
    let server = RedisServer::start_quick().await.unwrap();
    tell(&server, "redis-drained.txt").await;
    let store = try_open(&server, DRAINED).await.unwrap();
    assert_eq!(layout(&server).await.as_deref(), Some("2"));
    remembers(&store).await;
    assert_eq!(drained(&store).await, []);
    let epoch: String = raw(&server, cmd("HGET").arg("{gw:00}:meta").arg("epoch")).await;
    let read = store.run(ReadCounts { channels: Vec::new() }).await.unwrap();
    assert_eq!(read.epochs[0], Some(id(&epoch)));
}

#[tokio::test]
async fn a_server_that_was_taken_over_counts_and_forgets_as_its_own() {
    let server = RedisServer::start_quick().await.unwrap();
    tell(&server, "redis-drained.txt").await;
    let store = try_open(&server, DRAINED).await.unwrap();
    let admit = message("05625347a0782d446c46e1dc3ef76092", 0x99, 50);
    assert_eq!(store.run(admit).await.unwrap(), Admission::Queued);
    let (_, lease) = claim(&store, 5, "a").await.unwrap();
    let evidence = Some(Evidence { serving: 8, track: Track::Canary, class: Class::Http });
    store.run(EndAttempt { lease: lease.clone(), evidence, failed_on: None }).await.unwrap();
    complete(&store, lease).await;
    let read = store.run(ReadCounts { channels: vec![id(SHOP)] }).await.unwrap();
    let counted = read.counts[0].customers.iter().map(|of| (of.conversations, of.failed));
    assert_eq!(counted.collect::<Vec<_>>(), [(1, 1)]);

    let later = try_open(&server, DRAINED + 14 * DAY).await.unwrap();
    for shard in 0..32 {
        later.run(Sweep { shard }).await.unwrap();
    }
    assert_eq!(later.run(SumDead).await.unwrap(), []);
}

#[tokio::test]
async fn rows_that_an_old_gateway_wrote_after_the_take_over_are_handed_out_too() {
    let server = RedisServer::start_quick().await.unwrap();
    raw::<String>(&server, cmd("SET").arg("{gw:sys}:layout").arg(2)).await;
    tell(&server, "redis-waiting.txt").await;
    let store = try_open(&server, END + DAY).await.unwrap();
    assert_eq!(drained(&store).await, all_that_waits());
    for shard in [5, 7, 9, 11] {
        let meta = cmd("HMGET").arg(format!("{{gw:{shard:02}}}:meta")).arg("messages").clone();
        let left: (i64,) = raw(&server, &meta).await;
        assert_eq!(left, (0,), "shard {shard}");
    }
}

#[tokio::test]
async fn a_new_server_is_of_this_layout_from_the_start() {
    let server = RedisServer::start_quick().await.unwrap();
    try_open(&server, END).await.unwrap();
    assert_eq!(layout(&server).await.as_deref(), Some("2"));
    try_open(&server, END).await.unwrap();
    assert_eq!(layout(&server).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_server_of_a_newer_version_is_refused_with_a_sentence_and_left_alone() {
    for newer in ["3", "17", "not a number"] {
        let server = RedisServer::start_quick().await.unwrap();
        raw::<String>(&server, cmd("SET").arg("{gw:sys}:layout").arg(newer)).await;
        let error = try_open(&server, END).await.err().unwrap();
        assert!(error.contains("written by a newer version"), "{error}");
        assert_eq!(layout(&server).await.as_deref(), Some(newer));
        assert_eq!(raw::<u64>(&server, &cmd("DBSIZE")).await, 1);
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_is_looked_at_key_by_key() {
    let server = RedisServer::start_as_cluster().await.unwrap();
    tell(&server, "redis-waiting.txt").await;
    let error = try_open(&server, END).await.err().unwrap();
    assert!(error.contains("still wait"), "{error}");

    let server = RedisServer::start_as_cluster().await.unwrap();
    tell(&server, "redis-drained.txt").await;
    remembers(&try_open(&server, DRAINED).await.unwrap()).await;
}

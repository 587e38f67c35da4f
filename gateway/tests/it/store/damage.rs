//! Rows in Redis that make no sense: each must stay its own trouble, and stop nobody else's message.
//!
//! A test writes raw rows into shard 0, as a bug, a bad restore or a careless hand would, and then
//! expects the other conversations of the shard to be answered.

use kanarie_gateway::admin::state;
use kanarie_gateway::admin::unsynced::Unsynced;
use kanarie_queue::admit::Admission;
use kanarie_queue::claim::Claimed;
use kanarie_queue::dead::{Buried, SumDead};
use kanarie_queue::deliveries::{NoteDeliveries, SumUndelivered};
use kanarie_queue::delivery::{Delivery, SegmentReport};
use kanarie_queue::expire::ExpireLeases;
use kanarie_queue::lease::Owned;
use kanarie_queue::send::{Committed, Marked};
use kanarie_words::class::Class;
use kanarie_words::ids::{Holder, Nonce};
use redis::{Cmd, FromRedisValue, cmd};

use crate::store::stage::{LEASE_MS, START, Stage, canary, conversation, id, lease_of};

/// Rows of a conversation that cannot be read, each in its own way.
const BAD_ROWS: [&str; 18] = [
    "",
    "never",
    "null",
    "[]",
    "7",
    "{}",
    "{\"ch\":\"shop\"}",
    "{\"ch\":null,\"lo\":0,\"hi\":1}",
    "{\"ch\":7,\"lo\":0,\"hi\":1}",
    "{\"ch\":\"shop\",\"lo\":null,\"hi\":1}",
    "{\"ch\":\"shop\",\"lo\":\"a\",\"hi\":1}",
    "{\"ch\":\"shop\",\"lo\":0,\"hi\":1}",
    "{\"ch\":\"shop\",\"lo\":0,\"hi\":1,\"tries\":\"x\",\"crashes\":null,\"score\":[],\"b\":{}}",
    "{\"ch\":\"\",\"lo\":0,\"hi\":1,\"b\":3,\"score\":0,\"tries\":0,\"crashes\":0,\"counted\":false,\"lease_ms\":0}",
    "{\"ch\":\"shop\",\"lo\":0,\"hi\":1000000000,\"b\":3,\"score\":0,\"tries\":0,\"crashes\":0,\"counted\":false,\"lease_ms\":0}",
    "{\"ch\":\"shop\",\"lo\":0,\"hi\":1,\"b\":3,\"score\":0,\"tries\":0.5,\"crashes\":0,\"counted\":false,\"lease_ms\":0}",
    "{\"ch\":\"shop\",\"lo\":0,\"hi\":1,\"b\":3,\"score\":0,\"tries\":0,\"crashes\":0,\"counted\":false,\"lease_ms\":0,\"park\":\"r\"}",
    "{\"ch\":\"shop\",\"lo\":1e300,\"hi\":-1,\"tries\":0,\"crashes\":0,\"counted\":false}",
];

/// A key of shard 0.
fn key(name: &str) -> String {
    format!("{{gw:00}}:{name}")
}

/// The id of conversation `number`, as it stands in fields and members.
fn field(number: u8) -> String {
    conversation(number).to_string()
}

async fn raw<T: FromRedisValue>(stage: &Stage, command: &Cmd) -> T {
    let server = stage.server.as_ref().expect("a stage over Redis");
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

async fn set_field(stage: &Stage, hash: &str, field: &str, value: &str) {
    raw::<i64>(stage, cmd("HSET").arg(key(hash)).arg(field).arg(value)).await;
}

async fn add_member(stage: &Stage, set: &str, score: u64, member: &str) {
    raw::<i64>(stage, cmd("ZADD").arg(key(set)).arg(score).arg(member)).await;
}

/// Claims and completes until nothing is left, a lease later again; gives the texts.
async fn drained(stage: &Stage) -> Vec<String> {
    let mut texts = Vec::new();
    for round in 0..4 {
        while let Claimed::Head(head) = stage.claimed(&format!("{round}-{}", texts.len())).await {
            stage.complete(&lease_of(&head)).await;
            texts.push(head.envelope);
        }
        stage.pass(4 * LEASE_MS);
    }
    texts.sort();
    texts
}

/// What the counters of the shard and of channel `shop` say: messages and bytes, of each.
async fn counters(stage: &Stage) -> [i64; 4] {
    let meta = cmd("HMGET").arg(key("meta")).arg(["messages", "bytes"].as_slice()).clone();
    let (messages, bytes): (Option<i64>, Option<i64>) = raw(stage, &meta).await;
    let load = cmd("HMGET").arg(key("load")).arg(["shop m", "shop b"].as_slice()).clone();
    let (of_shop, bytes_of_shop): (Option<i64>, Option<i64>) = raw(stage, &load).await;
    [messages, bytes, of_shop, bytes_of_shop].map(Option::unwrap_or_default)
}

#[tokio::test]
async fn a_time_that_is_no_number_is_none() {
    let stage = Stage::redis().await;
    for field in ["now", "bytes", "messages", "stripped", "entered"] {
        set_field(&stage, "meta", field, "never").await;
    }
    for field in ["clock", "shop"] {
        set_field(&stage, "vt", field, "never").await;
    }
    stage.queue(1, "SM1").await;
    stage.sweep().await;
    assert_eq!(drained(&stage).await, ["SM1"]);
}

#[tokio::test]
async fn damaged_statistics_of_deliveries_leave_the_rest_of_the_control_state() {
    let undelivered = SegmentReport {
        channel: id("shop"),
        conversation: conversation(1),
        intent: id("a1"),
        segment: 0,
        delivery: Delivery::reported("undelivered", None).unwrap(),
    };
    for time in [
        cmd("SET").arg("{gw:dlv}:now").arg("never").clone(),
        cmd("HSET").arg("{gw:dlv}:now").arg("never").arg(1).clone(),
    ] {
        let stage = Stage::redis().await;
        raw::<redis::Value>(&stage, &time).await;
        assert_eq!(stage.run(SumUndelivered).await, []);
        let noted = stage.run(NoteDeliveries { reports: vec![undelivered.clone()] }).await;
        assert_eq!(noted, [true]);
        assert_eq!(stage.run(SumUndelivered).await.len(), 1);
    }
    let stage = Stage::redis().await;
    raw::<redis::Value>(&stage, cmd("SET").arg("{gw:dlv}:un").arg("never")).await;
    let state =
        state::read(&stage.store, &Unsynced::default(), Vec::new(), Vec::new()).await.unwrap();
    assert!(state.undelivered.is_none() && state.observed_at_ms == START);
}

#[tokio::test]
async fn an_index_entry_without_its_row_is_dropped() {
    for set in ["rdy", "lse", "dly"] {
        let stage = Stage::redis().await;
        stage.queue(2, "SM2").await;
        add_member(&stage, set, 0, &field(1)).await;
        assert_eq!(stage.claim("a").await.0.envelope, "SM2", "{set}");
        let left: i64 = raw(&stage, cmd("ZCARD").arg(key(set))).await;
        assert_eq!(left, i64::from(set == "lse"), "{set}");
    }
}

#[tokio::test]
async fn entries_that_name_no_conversation_are_dropped() {
    for set in ["rdy", "lse", "dly", "prb", "prk"] {
        let stage = Stage::redis().await;
        stage.queue(2, "SM2").await;
        add_member(&stage, set, 0, "no such thing").await;
        add_member(&stage, "prb", 0, "no such thing").await;
        assert_eq!(drained(&stage).await, ["SM2"], "{set}");
        for set in [set, "prb"] {
            let left: i64 = raw(&stage, cmd("ZCARD").arg(key(set))).await;
            assert_eq!(left, i64::from(set == "prk"), "{set}");
        }
    }
}

#[tokio::test]
async fn a_shard_full_of_entries_without_rows_gives_what_waits_behind_them() {
    let stage = Stage::redis().await;
    for number in 0..100 {
        add_member(&stage, "rdy", 0, &field(100 + number)).await;
    }
    stage.queue(250, "SM1").await;
    assert_eq!(stage.claim("a").await.0.envelope, "SM1");
}

#[tokio::test]
async fn a_row_without_its_message_is_passed_over() {
    let stage = Stage::redis().await;
    for (number, sid) in [(1, "SM1"), (1, "SM1b"), (2, "SM2")] {
        stage.queue(number, sid).await;
    }
    raw::<i64>(&stage, cmd("HDEL").arg(key("msg")).arg(format!("{}:0", field(1)))).await;
    assert_eq!(drained(&stage).await, ["SM1b", "SM2"]);
    assert_eq!(counters(&stage).await, [0; 4]);
}

#[tokio::test]
async fn a_message_that_is_no_message_is_passed_over() {
    for text in ["", "never", "7:", "1:2", "x:3:abc", "5:999:short", ":::"] {
        let stage = Stage::redis().await;
        stage.queue(1, "SM1").await;
        stage.queue(2, "SM2").await;
        set_field(&stage, "msg", &format!("{}:0", field(1)), text).await;
        assert_eq!(drained(&stage).await, ["SM2"], "{text}");
        assert_eq!(counters(&stage).await, [0; 4], "{text}");
    }
}

#[tokio::test]
async fn a_damaged_row_of_a_conversation_stops_nobody_wherever_it_waits() {
    for bad in BAD_ROWS {
        for place in ["ready", "leased", "delayed", "parked"] {
            let stage = Stage::redis().await;
            stage.queue(1, "SM1").await;
            match place {
                "ready" => {}
                "leased" => drop(stage.claim("a").await),
                "delayed" => drop(stage.retry(&stage.claim("a").await.1, 5_000, true).await),
                _ => drop(stage.park(&stage.claim("a").await.1, "r", 900_000, 5_000).await),
            }
            set_field(&stage, "conv", &field(1), bad).await;
            stage.queue(2, "SM2").await;
            let drained = drained(&stage).await;
            let others = drained.iter().filter(|text| *text != "SM1").collect::<Vec<_>>();
            assert_eq!(others, ["SM2"], "{place}: {bad}");
        }
    }
}

#[tokio::test]
async fn a_customer_whose_row_is_damaged_is_served_again_with_his_next_message() {
    for bad in BAD_ROWS {
        let stage = Stage::redis().await;
        stage.queue(1, "SM1").await;
        let (_, lease) = stage.claim("a").await;
        stage.commit(&lease, "old", 1).await;
        set_field(&stage, "conv", &field(1), bad).await;
        assert_eq!(stage.admit(1, "SM2").await, Admission::Queued, "{bad}");
        let mut texts = Vec::new();
        for round in 0..4 {
            while let Claimed::Head(head) = stage.claimed(&format!("{round}-{}", texts.len())).await
            {
                // The reply of a head that was lost is nobody else's.
                if head.envelope == "SM2" {
                    assert_eq!(head.intent, None, "{bad}");
                }
                stage.complete(&lease_of(&head)).await;
                texts.push(head.envelope);
            }
            stage.pass(4 * LEASE_MS);
        }
        assert_eq!(texts.last().map(String::as_str), Some("SM2"), "{bad}");
        assert_eq!(texts.iter().filter(|text| *text == "SM2").count(), 1, "{bad}");
    }
}

#[tokio::test]
async fn a_damaged_row_is_leased_to_one_owner_at_a_time_once_it_is_begun_anew() {
    let stage = Stage::redis().await;
    let former = stage.lease(1, "SM1", "a").await;
    stage.retry(&former, 1_000, true).await;
    set_field(&stage, "conv", &field(1), "never").await;
    stage.queue(1, "SM2").await;
    let (_, lease) = stage.claim("b").await;
    // The delay of the row that was lost ends while the new one is leased.
    stage.pass(2_000);
    assert!(matches!(stage.claimed("c").await, Claimed::Nothing { .. }));
    assert_eq!(stage.complete(&lease).await, Owned::Done);
}

#[tokio::test]
async fn verbs_of_an_owner_whose_row_is_damaged_are_stale() {
    for bad in BAD_ROWS {
        let stage = Stage::redis().await;
        let lease = stage.lease(1, "SM1", "a").await;
        set_field(&stage, "conv", &field(1), bad).await;
        assert_eq!(stage.commit(&lease, "i", 1).await, Committed::Stale, "{bad}");
        assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Stale, "{bad}");
        assert_eq!(stage.bury(&lease, "agent").await, Buried::Stale, "{bad}");
        for owned in [
            stage.complete(&lease).await,
            stage.release(&lease).await,
            stage.retry(&lease, 1, true).await,
            stage.park(&lease, "r", 1, 1).await,
            stage.isolate(&lease).await,
            stage.end(&lease, canary(1, Class::Http), None).await,
            stage.missed(&lease, "i", 0, "p").await,
        ] {
            assert_eq!(owned, Owned::Stale, "{bad}");
        }
        assert_eq!(stage.extend(&[lease], LEASE_MS).await, [conversation(1)], "{bad}");
    }
}

/// Replies that cannot be read, each in its own way.
const BAD_INTENTS: [&str; 9] = [
    "",
    "never",
    "null",
    "[]",
    "{}",
    "{\"id\":7,\"segments\":1,\"resent\":false}",
    "{\"id\":\"i\",\"segments\":-1,\"resent\":false}",
    "{\"id\":\"i\",\"segments\":1,\"resent\":false,\"sent\":[7]}",
    "{\"id\":\"i\",\"segments\":1,\"resent\":false,\"attempt\":\"p\"}",
];

/// Claims the head whose reply was damaged and gives it up, as its owner does who finds no reply in
/// the one that he is given.
async fn give_up(stage: &Stage, nonce: &str) {
    let (head, lease) = stage.claim(nonce).await;
    let reply = head.intent.expect("no agent is asked again");
    assert_eq!((reply.body.as_str(), reply.segments, reply.sent.len()), ("", 0, 0));
    let marked = stage.mark(&lease, reply.id.as_str(), 0, "p").await;
    assert_eq!(marked, Marked::Stale, "nothing may be sent");
    assert_eq!(stage.bury(&lease, "unreadable").await, Buried::Done);
}

#[tokio::test]
async fn a_head_whose_reply_cannot_be_read_is_given_up_and_the_next_message_follows() {
    for bad in BAD_INTENTS {
        let stage = Stage::redis().await;
        let lease = stage.lease(1, "SM1", "a").await;
        stage.queue(1, "SM1b").await;
        stage.commit(&lease, "i", 1).await;
        stage.release(&lease).await;
        set_field(&stage, "int", &field(1), bad).await;
        stage.queue(2, "SM2").await;
        give_up(&stage, "b").await;
        assert_eq!(drained(&stage).await, ["SM1b", "SM2"], "{bad}");
        let letters = stage.run(SumDead).await;
        assert_eq!((letters[0].count, letters[0].class.as_str()), (1, "unreadable"), "{bad}");
        assert_eq!(counters(&stage).await, [0; 4], "{bad}");
    }
}

#[tokio::test]
async fn a_reply_without_its_body_is_given_up_too() {
    let stage = Stage::redis().await;
    let lease = stage.lease(1, "SM1", "a").await;
    stage.commit(&lease, "i", 1).await;
    stage.release(&lease).await;
    raw::<i64>(&stage, cmd("HDEL").arg(key("bod")).arg(field(1))).await;
    stage.queue(2, "SM2").await;
    give_up(&stage, "b").await;
    assert_eq!(drained(&stage).await, ["SM2"]);
    assert_eq!(stage.run(SumDead).await[0].count, 1);
}

#[tokio::test]
async fn a_reply_that_was_damaged_while_it_was_sent_is_neither_sent_nor_made_again() {
    for bad in BAD_INTENTS {
        let stage = Stage::redis().await;
        let lease = stage.lease(1, "SM1", "a").await;
        stage.commit(&lease, "i", 1).await;
        set_field(&stage, "int", &field(1), bad).await;
        assert_eq!(stage.commit(&lease, "i", 1).await, Committed::Stale, "{bad}");
        assert_eq!(stage.mark(&lease, "i", 0, "p").await, Marked::Stale, "{bad}");
        assert_eq!(stage.missed(&lease, "i", 0, "p").await, Owned::Stale, "{bad}");
        assert_eq!(stage.unmark(&lease, "i", 0, "p").await, Owned::Stale, "{bad}");
        assert!(!stage.sent(&lease, "i", 0, "SMout").await, "{bad}");
        // Whoever asks again with the same nonce can end it.
        stage.queue(2, "SM2").await;
        give_up(&stage, "a").await;
        assert_eq!(stage.claim("b").await.0.envelope, "SM2", "{bad}");
    }
}

#[tokio::test]
async fn a_memo_that_is_no_memo_does_not_keep_its_head_back() {
    for bad in ["", "never", "5", "99999999999999 never", "99999999999999 {\"question\":7}"] {
        let stage = Stage::redis().await;
        stage.queue(1, "SM1").await;
        set_field(&stage, "me", &field(1), bad).await;
        assert_eq!(stage.claim("a").await.0.envelope, "SM1", "{bad}");
    }
}

#[tokio::test]
async fn parked_entries_without_their_rows_are_dropped_and_the_next_one_is_let_try() {
    let stage = Stage::redis().await;
    for (number, sid) in [(1, "SM1"), (2, "SM2")] {
        let lease = stage.lease(number, sid, sid).await;
        stage.park(&lease, "r", 900_000 + u64::from(number), 1_000).await;
    }
    raw::<i64>(&stage, cmd("HDEL").arg(key("conv")).arg(field(1))).await;
    stage.pass(1_000);
    let mut texts = Vec::new();
    for _ in 0..4 {
        texts.extend(stage.ready().await);
        stage.pass(1);
    }
    assert_eq!(texts, ["SM2"]);
    assert_eq!(stage.wake("shop", "r").await, 0);
}

#[tokio::test]
async fn a_wake_passes_over_entries_without_their_rows() {
    let stage = Stage::redis().await;
    for (number, sid) in [(1, "SM1"), (2, "SM2")] {
        let lease = stage.lease(number, sid, sid).await;
        stage.park(&lease, "r", 900_000, 900_000).await;
    }
    set_field(&stage, "conv", &field(1), "never").await;
    stage.wake("shop", "r").await;
    assert_eq!(stage.ready().await, ["SM2"]);
    let left: i64 = raw(&stage, cmd("ZCARD").arg(key("prk"))).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_expired_lease_whose_nonce_is_gone_is_taken_over() {
    let stage = Stage::redis().await;
    stage.lease(1, "SM1", "a").await;
    raw::<i64>(&stage, cmd("DEL").arg(key("own"))).await;
    stage.pass(LEASE_MS);
    assert_eq!(stage.claim("b").await.0.envelope, "SM1");
}

#[tokio::test]
async fn an_entry_of_a_process_that_died_ends_nobody_else_s_lease() {
    let stage = Stage::redis().await;
    let lease = stage.lease(1, "SM1", "a").await;
    let dead = Holder::from_bytes([7; 8]);
    let stale = Nonce::held_by(&dead, [1; 16]);
    set_field(&stage, "own", stale.as_str(), lease.conversation.as_str()).await;
    assert_eq!(stage.run(ExpireLeases { holder: Some(dead) }).await, 0);
    assert_eq!(stage.keep_run(&lease, None).await, Owned::Done);
    let left: Vec<String> = raw(&stage, cmd("HKEYS").arg(key("own"))).await;
    assert_eq!(left, ["a"]);
}

#[tokio::test]
async fn a_dead_letter_that_is_no_letter_does_not_stop_the_sweep() {
    let stage = Stage::redis().await;
    let lease = stage.lease(1, "SM1", "a").await;
    stage.bury(&lease, "agent").await;
    let names: Vec<String> = raw(&stage, cmd("HKEYS").arg(key("dl"))).await;
    set_field(&stage, "dl", &names[0], "never").await;
    add_member(&stage, "dlz", START, "no such letter").await;
    stage.pass(86_400_000);
    stage.sweep().await;
    let text: Option<String> = raw(&stage, cmd("HGET").arg(key("dl")).arg(&names[0])).await;
    assert_eq!(text, None, "it may hold somebody's words");
    stage.pass(13 * 86_400_000);
    stage.sweep().await;
    assert_eq!(stage.run(SumDead).await, []);
}

//! Dead letters read page by page, replayed at the tail, erased; and a customer erased.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;
use kanarie_queue::dead::{Buried, SumDead};
use kanarie_queue::intent::Memo;
use kanarie_queue::lease::Owned;
use kanarie_queue::letters::{DeadLetterFilter, LOOKED};
use kanarie_queue::replay::Replayed;
use kanarie_queue::send::{Committed, Marked};
use kanarie_words::class::Class;
use redis::{Cmd, FromRedisValue, cmd};

use crate::store::stage::{START, Stage, canary, conversation, id, message};

const DAY_MS: u64 = 86_400_000;

on_both_stores!(
    a_letter_tells_all_that_is_known_of_it,
    a_page_goes_on_where_the_last_one_ended_while_letters_come_and_go,
    a_page_shows_one_channel_one_class_or_one_conversation,
    a_replayed_letter_waits_once_behind_all_that_waits,
    a_replayed_letter_has_its_patience_anew_and_is_recognised_on,
    what_counted_before_it_was_buried_counts_no_more,
    a_replayed_letter_goes_to_whom_its_conversation_waits_for,
    a_letter_whose_message_was_admitted_again_is_not_doubled,
    a_letter_without_room_stays,
    a_letter_without_text_stays,
    an_erased_letter_leaves_the_sums_right,
    letters_are_swept_by_age_whatever_was_erased_between,
    an_erased_conversation_leaves_counts_and_keys_and_nothing_else,
    whoever_worked_on_an_erased_conversation_does_nothing_more,
    an_erased_conversation_that_waits_for_an_agent_wakes_nobody,
);

async fn a_letter_tells_all_that_is_known_of_it(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Http), None).await;
    stage.at(7);
    stage.bury(&lease, "http").await;
    let read = stage.read_letters(0, &DeadLetterFilter::default(), 9).await;
    assert_eq!((read.letters.len(), read.next, read.last), (1, None, 1));
    let letter = &read.letters[0];
    assert_eq!((letter.id.to_string().as_str(), letter.class.as_str()), ("00-1", "http"));
    assert_eq!((&letter.channel, &letter.conversation), (&id("shop"), &Some(conversation(1))));
    assert_eq!((letter.admitted_at, letter.at), (Some(START), START + 7));
    assert_eq!(
        (letter.counted, letter.bytes, letter.text.as_deref()),
        (true, Some(3), Some("SM1"))
    );
    assert_eq!(letter.dedup_key, Some(id("AC1:SM1")));
    stage.at(7 + DAY_MS);
    stage.sweep().await;
    let letter = stage.letters().await.remove(0);
    assert_eq!((letter.bytes, letter.text), (None, None));
}

async fn a_page_goes_on_where_the_last_one_ended_while_letters_come_and_go(stage: &Stage) {
    for number in 1..=5 {
        bury(stage, number, "http").await;
    }
    let page = stage.read_letters(0, &DeadLetterFilter::default(), 2).await;
    assert_eq!((page.letters.len(), page.next, page.last), (2, Some(2), 5));
    assert_eq!(stage.erase_letters(&[1, 3]).await, 2);
    bury(stage, 6, "http").await;
    let page = stage.read_letters(2, &DeadLetterFilter::default(), 9).await;
    let numbers: Vec<u64> = page.letters.iter().map(|letter| letter.id.number).collect();
    assert_eq!((numbers, page.next), (vec![4, 5, 6], None));
}

async fn a_page_shows_one_channel_one_class_or_one_conversation(stage: &Stage) {
    for (number, channel, class) in [(1, "shop", "http"), (2, "bar", "http"), (3, "shop", "late")] {
        let of = Admit { channel: id(channel), ..message(number, &format!("SM{number}")) };
        stage.run(of).await;
        let (_, lease) = stage.claim(&format!("n{number}")).await;
        stage.bury(&lease, class).await;
    }
    let numbers = async |wanted: DeadLetterFilter| -> Vec<u64> {
        let read = stage.read_letters(0, &wanted, 9).await;
        read.letters.iter().map(|letter| letter.id.number).collect()
    };
    let any = DeadLetterFilter::default;
    assert_eq!(numbers(DeadLetterFilter { channel: Some(id("shop")), ..any() }).await, [1, 3]);
    assert_eq!(numbers(DeadLetterFilter { class: Some("http".to_owned()), ..any() }).await, [1, 2]);
    assert_eq!(
        numbers(DeadLetterFilter { conversation: Some(conversation(3)), ..any() }).await,
        [3]
    );
    assert_eq!(
        numbers(DeadLetterFilter { channel: Some(id("sho")), ..any() }).await,
        [] as [u64; 0]
    );
}

async fn a_replayed_letter_waits_once_behind_all_that_waits(stage: &Stage) {
    bury(stage, 1, "http").await;
    stage.queue(1, "SM2").await;
    let letters = stage.letters().await;
    assert_eq!(stage.replay(&letters).await, [Replayed::Done]);
    assert_eq!(stage.replay(&letters).await, [Replayed::Gone]);
    assert_eq!((stage.letters().await, stage.run(SumDead).await), (vec![], vec![]));
    assert_eq!(stage.loads().await, ["shop=2/6/0"]);
    let (head, lease) = stage.claim("a").await;
    assert_eq!(head.envelope, "SM2");
    stage.complete(&lease).await;
    assert_eq!(stage.claim("b").await.0.envelope, "SM1");
}

async fn a_replayed_letter_has_its_patience_anew_and_is_recognised_on(stage: &Stage) {
    bury(stage, 1, "http").await;
    let letters = stage.letters().await;
    stage.at(DAY_MS - 1);
    stage.replay(&letters).await;
    let (head, lease) = stage.claim("a").await;
    assert_eq!((head.admitted_at, head.tries), (START + DAY_MS - 1, 1));
    assert_eq!(head.channel, "again");
    stage.complete(&lease).await;
    stage.at(DAY_MS + 5);
    assert_eq!(stage.admit(1, "SM1").await, Admission::Duplicate);
}

async fn what_counted_before_it_was_buried_counts_no_more(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.end(&lease, canary(3, Class::Http), None).await;
    stage.bury(&lease, "http").await;
    stage.queue(1, "SM2").await;
    stage.replay(&stage.letters().await).await;
    stage.queue(1, "SM3").await;
    for (nonce, counted) in [("b", false), ("c", true), ("d", false)] {
        let (head, lease) = stage.claim(nonce).await;
        assert_eq!(head.counted, counted, "{}", head.envelope);
        stage.complete_with(&lease, Some(canary(3, Class::Success))).await;
    }
    assert_eq!(stage.counted("shop").await, ["3:canary:success=2", "3:canary:http=1"]);
}

async fn a_replayed_letter_goes_to_whom_its_conversation_waits_for(stage: &Stage) {
    bury(stage, 1, "http").await;
    stage.run(Admit { channel: id("new"), ..message(1, "SM2") }).await;
    stage.replay(&stage.letters().await).await;
    assert_eq!(stage.loads().await, ["new=2/6/0"]);
}

async fn a_letter_whose_message_was_admitted_again_is_not_doubled(stage: &Stage) {
    bury(stage, 1, "http").await;
    stage.at(DAY_MS);
    stage.queue(1, "SM1").await;
    assert_eq!(stage.replay(&stage.letters().await).await, [Replayed::Waits]);
    assert_eq!(stage.letters().await, []);
    assert_eq!(stage.loads().await, ["shop=1/3/0"]);
}

async fn a_letter_without_room_stays(stage: &Stage) {
    bury(stage, 1, "http").await;
    for number in 0..200 {
        let message = message(1, &format!("SMmore{number}"));
        stage.run(Admit { limit: u32::MAX, window_ms: 1, ..message }).await;
    }
    assert_eq!(stage.replay(&stage.letters().await).await, [Replayed::Full]);
    assert_eq!(stage.letters().await.len(), 1);
}

async fn a_letter_without_text_stays(stage: &Stage) {
    bury(stage, 1, "http").await;
    stage.at(DAY_MS);
    stage.sweep().await;
    assert_eq!(stage.replay(&stage.letters().await).await, [Replayed::NoText]);
    assert_eq!(stage.letters().await.len(), 1);
}

async fn an_erased_letter_leaves_the_sums_right(stage: &Stage) {
    for (number, class) in [(1, "one"), (2, "two"), (3, "three")] {
        stage.at(u64::from(number));
        bury(stage, number, class).await;
    }
    stage.erase_letters(&[3, 1, 1, 9]).await;
    let sums = stage.run(SumDead).await;
    assert_eq!((sums[0].count, sums[0].oldest_at, sums[0].class.as_str()), (1, START + 2, "two"));
    assert_eq!(stage.loads().await, ["shop=0/0/1"]);
    assert_eq!(stage.erase_letters(&[2]).await, 1);
    assert_eq!(stage.run(SumDead).await, []);
}

async fn letters_are_swept_by_age_whatever_was_erased_between(stage: &Stage) {
    bury(stage, 1, "http").await;
    bury(stage, 2, "http").await;
    stage.at(DAY_MS);
    stage.sweep().await;
    bury(stage, 3, "http").await;
    bury(stage, 4, "http").await;
    stage.erase_letters(&[1, 4]).await;
    stage.at(2 * DAY_MS);
    stage.sweep().await;
    let kept: Vec<Option<u64>> = stage.letters().await.iter().map(|letter| letter.bytes).collect();
    assert_eq!(kept, [None, None]);
    stage.at(15 * DAY_MS);
    stage.sweep().await;
    assert_eq!(stage.letters().await, []);
}

async fn an_erased_conversation_leaves_counts_and_keys_and_nothing_else(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.queue(1, "SM2").await;
    stage.end(&lease, canary(3, Class::Http), None).await;
    stage.keep_run(&lease, Some("run")).await;
    let memo = Memo { question: Some("q".to_owned()), apologised: false };
    stage.commit_memo(&lease, "i", &memo).await;
    stage.mark(&lease, "i", 0, "x").await;
    stage.sent(&lease, "i", 0, "SMout").await;
    let erased = stage.erase(1).await;
    assert_eq!((erased.messages, erased.was_leased, erased.channel), (2, true, Some(id("shop"))));
    assert_eq!(keys_that_name(stage, conversation(1).as_str()).await, [] as [String; 0]);
    let again = stage.erase(1).await;
    assert_eq!((again.messages, again.was_leased, again.channel), (0, false, None));
    assert_eq!(stage.customers("shop").await, ["3:canary=1/1"]);
    assert_eq!(stage.admit(1, "SM1").await, Admission::Duplicate);
    assert_eq!(stage.loads().await, [] as [String; 0]);
}

async fn whoever_worked_on_an_erased_conversation_does_nothing_more(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.erase(1).await;
    stage.queue(1, "SM2").await;
    assert_eq!(stage.commit(&lease, "i", 1).await, Committed::Stale);
    assert_eq!(stage.mark(&lease, "i", 0, "x").await, Marked::Stale);
    assert_eq!(stage.bury(&lease, "http").await, Buried::Stale);
    assert_eq!(stage.complete(&lease).await, Owned::Stale);
    assert_eq!(stage.extend(&[lease], 15_000).await, [conversation(1)]);
    assert_eq!(stage.claim("b").await.0.envelope, "SM2");
}

async fn an_erased_conversation_that_waits_for_an_agent_wakes_nobody(stage: &Stage) {
    let lease = stage.lease(1, "SM1", "a").await;
    stage.park(&lease, "r", 60_000, 1_000).await;
    let erased = stage.erase(1).await;
    assert_eq!((erased.messages, erased.was_leased), (1, false));
    assert_eq!(stage.wake("shop", "r").await, 0);
    stage.pass(120_000);
    assert_eq!(stage.claimed("b").await, Claimed::Nothing { next_in_ms: None });
}

#[tokio::test]
async fn letters_that_an_older_replica_buried_or_dropped_are_summed_and_found_in_redis() {
    let stage = Stage::redis().await;
    for number in 1..=3 {
        stage.at(u64::from(number));
        bury(&stage, number, &format!("class-{number}")).await;
    }
    assert_eq!(stage.run(SumDead).await[0].count, 3);
    // Dropped without a word to the index.
    let names: Vec<String> = raw(&stage, cmd("ZRANGE").arg("{gw:00}:dlz").arg(0).arg(0)).await;
    let _: i64 = raw(&stage, cmd("HDEL").arg("{gw:00}:dl").arg(&names[0])).await;
    let _: i64 = raw(&stage, cmd("ZREM").arg("{gw:00}:dlz").arg(&names[0])).await;
    let _: i64 = raw(&stage, cmd("HINCRBY").arg("{gw:00}:dlc").arg("shop").arg(-1)).await;
    bury(&stage, 4, "class-4").await;
    let sums = stage.run(SumDead).await;
    assert_eq!((sums[0].count, sums[0].oldest_at), (3, START + 2));
    assert_eq!(sums[0].class, "class-4");
    let numbers: Vec<u64> = stage.letters().await.iter().map(|letter| letter.id.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
}

#[tokio::test]
async fn letters_that_make_no_sense_in_redis_are_told_without_what_cannot_be_read() {
    let stage = Stage::redis().await;
    bury(&stage, 1, "http").await;
    bury(&stage, 2, "http").await;
    let names: Vec<String> = raw(&stage, cmd("ZRANGE").arg("{gw:00}:dlz").arg(0).arg(-1)).await;
    let _: i64 = raw(&stage, cmd("HSET").arg("{gw:00}:dl").arg(&names[0]).arg("[]")).await;
    for name in ["no such letter", "000000000009 \u{fc} http", "", "7"] {
        let _: i64 = raw(&stage, cmd("ZADD").arg("{gw:00}:dlz").arg(START).arg(name)).await;
    }
    let letters = stage.letters().await;
    let told: Vec<_> = letters.iter().map(|of| (of.id.number, of.text.as_deref())).collect();
    assert_eq!(told, [(1, None), (2, Some("SM2"))]);
    assert_eq!(letters[0].dedup_key, None);
    assert_eq!(stage.run(SumDead).await[0].count, 2);
    assert_eq!(stage.replay(&letters).await, [Replayed::Done]);
    assert_eq!(stage.erase_letters(&[1, 2]).await, 1);
    assert_eq!(stage.run(SumDead).await, []);
}

#[tokio::test]
async fn a_conversation_whose_row_makes_no_sense_in_redis_is_erased_with_its_messages() {
    let stage = Stage::redis().await;
    stage.queue(1, "SM1").await;
    stage.queue(2, "SM2").await;
    let field = conversation(1).to_string();
    let _: i64 = raw(&stage, cmd("HSET").arg("{gw:00}:conv").arg(field).arg("never")).await;
    stage.erase(1).await;
    assert_eq!(keys_that_name(&stage, conversation(1).as_str()).await, [] as [String; 0]);
    assert_eq!(stage.claim("a").await.0.envelope, "SM2");
}

/// 10,000 letters of a channel lie there, and one of another in their midst.
#[tokio::test]
async fn a_sum_of_many_letters_in_redis_reads_what_changed_and_no_more() {
    let stage = Stage::redis().await;
    let mut fill = redis::pipe();
    for number in 1..=10_000_u64 {
        let channel = if number == 5_000 { "bar" } else { "shop" };
        let name = format!("{number:012} {channel} http");
        fill.cmd("ZADD").arg("{gw:00}:dlz").arg(START).arg(&name).ignore();
        fill.cmd("HSET").arg("{gw:00}:dl").arg(&name).arg("{}").ignore();
    }
    fill.cmd("HSET").arg("{gw:00}:dlc").arg("shop").arg(9_999).ignore();
    fill.cmd("HSET").arg("{gw:00}:dlc").arg("bar").arg(1).ignore();
    fill.cmd("HSET").arg("{gw:00}:meta").arg("dead").arg(10_000).ignore();
    let server = stage.server.as_ref().unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: () = fill.query_async(&mut connection).await.unwrap();
    let counts = async || -> Vec<u64> {
        stage.run(SumDead).await.into_iter().map(|sum| sum.count).collect()
    };
    assert_eq!(counts().await, [1, 9_999]);
    let _: () = raw(&stage, cmd("CONFIG").arg("RESETSTAT")).await;
    assert_eq!(counts().await, [1, 9_999]);
    let calls: String = raw(&stage, cmd("INFO").arg("commandstats")).await;
    let ranges: u64 = calls
        .lines()
        .filter(|line| line.starts_with("cmdstat_z") && line.contains("range"))
        .filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(ranges, 4, "the first and the last entry of each channel");
}

async fn bury(stage: &Stage, number: u8, class: &str) {
    let lease = stage.lease(number, &format!("SM{number}"), &format!("b{number}-{class}")).await;
    assert_eq!(stage.bury(&lease, class).await, Buried::Done);
}

/// Everything in Redis that names this: keys, fields, members and values. Nothing of the other store,
/// whose rows the queue's own tests look at.
async fn keys_that_name(stage: &Stage, what: &str) -> Vec<String> {
    if stage.server.is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for key in raw::<Vec<String>>(stage, cmd("KEYS").arg("*")).await {
        let kind: String = raw(stage, cmd("TYPE").arg(&key)).await;
        let content: Vec<String> = match kind.as_str() {
            "hash" => raw(stage, cmd("HGETALL").arg(&key)).await,
            "zset" => raw(stage, cmd("ZRANGE").arg(&key).arg(0).arg(-1)).await,
            "list" => raw(stage, cmd("LRANGE").arg(&key).arg(0).arg(-1)).await,
            _ => vec![raw(stage, cmd("GET").arg(&key)).await],
        };
        if key.contains(what) || content.iter().any(|text| text.contains(what)) {
            found.push(key);
        }
    }
    found
}

async fn raw<T: FromRedisValue>(stage: &Stage, command: &Cmd) -> T {
    let server = stage.server.as_ref().expect("a stage over Redis");
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_page_looks_at_so_many_letters_in_redis_as_in_the_machine() {
    let stage = Stage::redis().await;
    let mut fill = redis::pipe();
    for number in 1..=(LOOKED as u64 + 1) {
        let name = format!("{number:012} shop http");
        fill.cmd("ZADD").arg("{gw:00}:dlz").arg(START).arg(&name).ignore();
    }
    let server = stage.server.as_ref().unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: () = fill.query_async(&mut connection).await.unwrap();
    let wanted = DeadLetterFilter { class: Some("late".to_owned()), ..DeadLetterFilter::default() };
    let page = stage.read_letters(0, &wanted, 9).await;
    assert_eq!((page.letters.len(), page.next), (0, Some(LOOKED as u64)));
}

//! Customers whom the canary failed and stable answered after that: each once a serving.

use kanarie_queue::admit::Admit;
use kanarie_queue::claim::Claimed;
use kanarie_queue::lease::Lease;
use kanarie_queue::outcome::{Evidence, Outcome};
use kanarie_words::class::Class;
use kanarie_words::ids::ConversationId;
use kanarie_words::track::Track;
use redis::{Cmd, FromRedisValue, cmd};

use crate::store::stage::{LEASE_MS, Stage, canary, conversation, intent, lease_of, message};

const WEEK_MS: u64 = 7 * 86_400_000;

on_both_stores!(
    a_customer_whose_every_message_is_rescued_is_one_rescued_customer,
    a_rescue_that_failed_rescues_nobody_and_a_later_one_does_once,
    a_takeover_that_goes_straight_to_stable_rescues,
    only_whom_the_canary_of_this_serving_is_known_to_have_failed_is_rescued,
    a_rescue_without_a_first_attempt_before_it_ends_none,
    whom_a_canary_failed_is_known_for_seven_days,
    the_rescued_of_all_shards_are_summed,
    the_rescued_go_with_their_serving,
    who_is_erased_was_rescued_and_is_met_anew,
);

/// A message of customer `number` that the canary of a serving fails.
async fn fails(stage: &Stage, number: u8, sid: &str, serving: u64) -> Lease {
    let lease = stage.lease(number, sid, sid).await;
    stage.end(&lease, canary(serving, Class::Http), Some("r2")).await;
    lease
}

async fn a_customer_whose_every_message_is_rescued_is_one_rescued_customer(stage: &Stage) {
    for sid in ["SM1", "SM2", "SM3"] {
        let lease = fails(stage, 1, sid, 3).await;
        if sid != "SM2" {
            let outcome = Some(Outcome::Rescued { serving: 3 });
            stage.commit_outcome(&lease, intent("i", 1), outcome.clone()).await;
            stage.commit_outcome(&lease, intent("i", 1), outcome).await;
        }
        stage.rescue(&lease, 3).await;
        stage.rescue(&lease, 3).await;
        assert_eq!(stage.rescued("shop").await, ["3=1/1"]);
    }
    assert_eq!(stage.counted("shop").await, ["3:canary:http=3"]);
    assert_eq!(stage.customers("shop").await, ["3:canary=1/1"]);
}

async fn a_rescue_that_failed_rescues_nobody_and_a_later_one_does_once(stage: &Stage) {
    for (sid, is_rescued, told) in
        [("SM1", false, "3=1/0"), ("SM2", true, "3=1/1"), ("SM3", false, "3=1/1")]
    {
        let lease = fails(stage, 1, sid, 3).await;
        if is_rescued {
            stage.rescue(&lease, 3).await;
        } else {
            stage.bury(&lease, "http").await;
        }
        assert_eq!(stage.rescued("shop").await, [told], "{sid}");
    }
}

async fn a_takeover_that_goes_straight_to_stable_rescues(stage: &Stage) {
    fails(stage, 1, "SM1", 3).await;
    stage.pass(LEASE_MS);
    let (head, lease) = stage.claim("b").await;
    assert!(head.counted);
    let outcome = Some(Outcome::Rescued { serving: 3 });
    stage.commit_outcome(&lease, intent("i", 1), outcome).await;
    assert_eq!(stage.rescued("shop").await, ["3=1/1"]);
}

async fn only_whom_the_canary_of_this_serving_is_known_to_have_failed_is_rescued(stage: &Stage) {
    let answered = stage.lease(1, "SM1", "a").await;
    stage.complete_with(&answered, Some(canary(3, Class::Success))).await;
    let by_stable = stage.lease(2, "SM2", "b").await;
    let failure = Evidence { track: Track::Stable, ..canary(3, Class::Http) };
    stage.complete_with(&by_stable, Some(failure)).await;
    for number in [1, 2, 3] {
        let sid = format!("SM1{number}");
        stage.rescue(&stage.lease(number, &sid, &sid).await, 3).await;
    }
    stage.rescue(&fails(stage, 4, "SM4", 3).await, 4).await;
    assert_eq!(stage.rescued("shop").await, ["3=1/0"]);
    assert_eq!(stage.customers("shop").await, ["3:stable=1/1", "3:canary=2/1"]);
}

async fn a_rescue_without_a_first_attempt_before_it_ends_none(stage: &Stage) {
    stage.rescue(&fails(stage, 1, "SM1", 3).await, 3).await;
    let lease = stage.lease(1, "SM2", "a").await;
    let outcome = Some(Outcome::Rescued { serving: 3 });
    stage.commit_outcome(&lease, intent("i", 1), outcome).await;
    assert!(!stage.claim("a").await.0.counted);
}

async fn whom_a_canary_failed_is_known_for_seven_days(stage: &Stage) {
    let lease = fails(stage, 1, "SM1", 3).await;
    stage.at(WEEK_MS);
    stage.rescue(&lease, 3).await;
    assert_eq!(stage.rescued("shop").await, ["3=1/0"]);
    let lease = fails(stage, 2, "SM2", 3).await;
    stage.at(2 * WEEK_MS - 1);
    stage.rescue(&lease, 3).await;
    assert_eq!(stage.rescued("shop").await, ["3=2/1"]);
}

async fn the_rescued_of_all_shards_are_summed(stage: &Stage) {
    for shard in [0_u8, 7, 31] {
        let conversation = ConversationId::from_bytes([shard; 16]);
        stage.run(Admit { conversation, ..message(1, &format!("SM{shard}")) }).await;
        let claimed = stage.claimed_in(shard, "n").await;
        let Claimed::Head(head) = claimed else { panic!("nothing to claim") };
        let lease = lease_of(&head);
        stage.end(&lease, canary(3, Class::Http), Some("r2")).await;
        stage.rescue(&lease, 3).await;
    }
    assert_eq!(stage.rescued("shop").await, ["3=3/3"]);
}

async fn the_rescued_go_with_their_serving(stage: &Stage) {
    for serving in 3..=7 {
        let lease = fails(stage, 1, &format!("SM{serving}"), serving).await;
        stage.rescue(&lease, serving).await;
    }
    assert_eq!(stage.rescued("shop").await, ["5=1/1", "6=1/1", "7=1/1"]);
    let lease = stage.lease(1, "SM8", "a").await;
    stage.complete_with(&lease, Some(canary(8, Class::Success))).await;
    assert_eq!(stage.rescued("shop").await, ["6=1/1", "7=1/1"]);
}

async fn who_is_erased_was_rescued_and_is_met_anew(stage: &Stage) {
    stage.rescue(&fails(stage, 1, "SM1", 3).await, 3).await;
    stage.erase(1).await;
    assert_eq!(stage.rescued("shop").await, ["3=1/1"]);
    stage.rescue(&fails(stage, 1, "SM2", 3).await, 3).await;
    assert_eq!(stage.rescued("shop").await, ["3=2/2"]);
}

async fn raw<T: FromRedisValue>(stage: &Stage, command: &Cmd) -> T {
    let server = stage.server.as_ref().expect("a stage over Redis");
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

/// The fields of a hash of the first shard, in order.
async fn fields(stage: &Stage, hash: &str) -> Vec<String> {
    let mut fields: Vec<String> = raw(stage, cmd("HKEYS").arg(format!("{{gw:00}}:{hash}"))).await;
    fields.sort();
    fields
}

#[tokio::test]
async fn a_gateway_that_knows_no_rescue_reads_what_it_would_have_written() {
    let stage = Stage::redis().await;
    let rows = async || {
        let customer = format!("3:canary:{}", conversation(1));
        let customer = cmd("HGET").arg("{gw:00}:cu:shop").arg(customer).clone();
        (fields(&stage, "ev:shop").await, raw::<String>(&stage, &customer).await)
    };
    let lease = fails(&stage, 1, "SM1", 3).await;
    let before = rows().await;
    stage.rescue(&lease, 3).await;
    assert_eq!(stage.rescued("shop").await, ["3=1/1"]);
    assert_eq!(rows().await, before);
}

#[tokio::test]
async fn the_rows_of_rescues_end_in_redis_as_those_beside_them_do() {
    let stage = Stage::redis().await;
    for serving in 3..=7 {
        let lease = fails(&stage, 1, &format!("SM{serving}"), serving).await;
        stage.rescue(&lease, serving).await;
    }
    let servings = [5, 6, 7].map(|serving| format!("{serving}:canary:rescued"));
    assert_eq!(fields(&stage, "re:shop").await, servings);
    let left: i64 = raw(&stage, cmd("PTTL").arg("{gw:00}:re:shop")).await;
    assert!(left > 0, "{left}");
    stage.erase(1).await;
    assert_eq!(fields(&stage, "cu:shop").await, ["until"]);
    // As one that knows no rescue forgets a serving: here only.
    for field in fields(&stage, "ev:shop").await.iter().filter(|field| field.starts_with("5:")) {
        raw::<u64>(&stage, cmd("HDEL").arg("{gw:00}:ev:shop").arg(field)).await;
    }
    assert_eq!(stage.rescued("shop").await, ["6=1/1", "7=1/1"]);
}

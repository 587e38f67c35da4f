//! The board of what the gateways said: what is due, what is news, what a view tells.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeSet;
use std::time::Duration;

use kanarie_crds::control::{
    Acknowledged, ChannelState, ChannelUndelivered, ClassCount, ControlState,
    MAX_CHANNELS_PER_REQUEST, Replica,
};
use kanarie_operator::cluster::key::ChannelKey;
use kanarie_operator::gateways::board::{Board, Interest, Presence, View};
use kanarie_words::class::Class;
use kanarie_words::ids::ChannelUid;
use kanarie_words::track::Track;
use tokio::time::Instant;

fn interest(hash: &str, rolling: bool) -> Interest {
    Interest {
        key: ChannelKey { namespace: "shop".into(), name: "a".into() },
        uid: "u".parse().unwrap(),
        hash: hash.parse().unwrap(),
        rolling,
        interval: Duration::from_secs(5),
        next: Duration::from_secs(5),
    }
}

fn state(replicas: &[&str], acknowledged: &[(&str, &str)]) -> ControlState {
    let replica = |id: &&str| Replica { id: id.parse().unwrap(), age_ms: 10 };
    let ack = |(replica, hash): &(&str, &str)| Acknowledged {
        replica: replica.parse().unwrap(),
        serving: 1,
        hash: hash.parse().unwrap(),
        cut: false,
    };
    ControlState {
        observed_at_ms: 1_000,
        epoch: "e".parse().unwrap(),
        replicas: replicas.iter().map(replica).collect(),
        channels: vec![ChannelState {
            uid: "u".parse().unwrap(),
            acknowledged: acknowledged.iter().map(ack).collect(),
            counts: Vec::new(),
            customers: None,
        }],
        unsynced: Vec::new(),
        dead_letters: Vec::new(),
        undelivered: Some(Vec::new()),
        digest: None,
    }
}

fn uids() -> Vec<ChannelUid> {
    vec!["u".parse().unwrap()]
}

/// Scenario 49: what the gateways have and what status says are compared to the byte.
#[test]
fn scenario_49_a_route_is_in_force_when_every_live_replica_acknowledges_its_bytes() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    board.take(&uids(), state(&["a", "b"], &[("a", "h"), ("b", "old")]), now);
    assert!(!board.look(interest("h", false), now).in_force());
    board.take(&uids(), state(&["a", "b"], &[("a", "h"), ("b", "h")]), now);
    assert!(board.look(interest("h", false), now).in_force());
}

#[test]
fn an_acknowledgement_of_a_replica_that_is_gone_counts_for_nothing() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    board.take(&uids(), state(&["b"], &[("a", "h")]), now);
    assert_eq!(board.look(interest("h", false), now).synced, 0);
}

#[test]
fn a_new_hash_must_be_acknowledged_anew() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    board.take(&uids(), state(&["a"], &[("a", "h")]), now);
    assert!(!board.look(interest("i", false), now).in_force());
    assert_eq!(board.due(now), uids(), "a route just written is asked for at once");
}

#[test]
fn an_acknowledged_route_at_rest_costs_no_request_of_its_own() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    board.take(&uids(), state(&["a"], &[("a", "h")]), now);
    let later = now + Duration::from_secs(25);
    assert!(board.due(later).is_empty());
    board.take(&[], ControlState { channels: vec![], ..state(&["a"], &[]) }, later);
    assert!(board.look(interest("h", false), later).in_force());
}

#[test]
fn whom_a_question_without_an_answer_was_about_waits_while_others_are_asked_about() {
    let (board, now) = (Board::default(), Instant::now());
    let uid = |number: usize| -> ChannelUid { format!("u{number:03}").parse().unwrap() };
    let all: Vec<ChannelUid> = (0..2 * MAX_CHANNELS_PER_REQUEST).map(uid).collect();
    for uid in &all {
        board.look(Interest { uid: uid.clone(), ..interest("h", true) }, now);
    }
    board.take(&[], ControlState { channels: vec![], ..state(&["a"], &[]) }, now);
    let due = board.due(now);
    let (first, others) = due.split_at(MAX_CHANNELS_PER_REQUEST);
    board.put_off(first, now);
    assert_eq!(board.due(now), others);
    let later = now + Duration::from_secs(5);
    assert_eq!(board.due(later).len(), all.len(), "and they are not forgotten");
}

#[test]
fn an_exception_in_the_summary_makes_a_route_ask_again() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    board.take(&uids(), state(&["a"], &[("a", "h")]), now);
    let later = now + Duration::from_secs(25);
    let exception = ControlState { unsynced: uids(), channels: vec![], ..state(&["a", "b"], &[]) };
    let news = board.take(&[], exception, later);
    assert_eq!(news.len(), 1, "a route that is no longer in force is news");
    assert!(!board.look(interest("h", false), later).in_force());
    assert_eq!(board.due(later), uids());
}

#[test]
fn silence_is_no_evidence_and_is_told_once() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", true), now);
    board.take(&uids(), state(&["a"], &[("a", "h")]), now);
    let later = now + Duration::from_secs(31);
    assert_eq!(board.silence(later).len(), 1);
    assert!(board.silence(later).is_empty());
    let silent = View { presence: Presence::Silent, ..View::default() };
    assert_eq!(board.look(interest("h", true), later), silent);
}

#[test]
fn what_was_not_asked_about_yet_is_no_silence_until_the_wait_is_one() {
    let (board, now) = (Board::default(), Instant::now());
    assert_eq!(board.look(interest("h", false), now).presence, Presence::NotAsked);
    board.take(&[], ControlState { channels: vec![], ..state(&["a"], &[]) }, now);
    let summary = board.look(interest("h", false), now);
    assert_eq!(summary.presence, Presence::NotAsked, "nothing was said of this channel");
    assert!(board.silence(now).is_empty());
    board.take(&uids(), state(&["a"], &[("a", "h")]), now);
    assert!(board.look(interest("h", false), now).in_force());
    let unanswered = Board::default();
    unanswered.look(interest("h", false), now);
    let later = now + Duration::from_secs(31);
    assert_eq!(unanswered.silence(later).len(), 1);
    assert!(unanswered.silence(later).is_empty());
    assert_eq!(unanswered.look(interest("h", false), later).presence, Presence::Silent);
}

#[test]
fn without_a_live_replica_nobody_waits_for_what_it_says() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    board.take(&[], ControlState { channels: vec![], ..state(&[], &[]) }, now);
    assert_eq!(board.look(interest("h", false), now).presence, Presence::Alive(Vec::new()));
}

#[test]
fn a_replica_that_holds_no_route_at_all_has_half_a_minute_to_get_one() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    let told = |acknowledged: &[(&str, &str)], seconds| {
        let now = now + Duration::from_secs(seconds);
        board.take(&uids(), state(&["a", "b"], acknowledged), now);
        board.look(interest("h", false), now).unserved
    };
    assert!(told(&[("a", "h")], 0).is_empty(), "it has just come, or the store has");
    assert!(told(&[("a", "h")], 20).is_empty());
    assert_eq!(told(&[("a", "h")], 31), ["b"]);
    assert!(told(&[("a", "h"), ("b", "old")], 40).is_empty(), "it serves by the route before");
    assert!(told(&[("a", "h")], 60).is_empty());
}

#[test]
fn a_rolling_channel_is_asked_for_every_interval_and_reconciled_each_time() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", true), now);
    let first = board.take(&uids(), state(&["a"], &[("a", "h")]), now);
    assert_eq!(first.len(), 1);
    assert!(board.due(now + Duration::from_secs(2)).is_empty());
    assert_eq!(board.due(now + Duration::from_secs(5)), uids());
    let again = board.take(&uids(), state(&["a"], &[("a", "h")]), now + Duration::from_secs(5));
    assert_eq!(again.len(), 1);
}

#[test]
fn what_is_told_unasked_is_news_once_and_puts_no_look_off() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", true), now);
    board.take(&uids(), state(&["a"], &[("a", "h")]), now);
    assert!(board.hear(&uids(), state(&["a"], &[("a", "h")]), now).is_empty());
    let mut failed = state(&["a"], &[("a", "h")]);
    failed.channels[0].counts.push(ClassCount {
        serving: 1,
        track: Track::Canary,
        class: Class::Http,
        messages: 1,
    });
    let later = now + Duration::from_secs(5);
    assert_eq!(board.hear(&uids(), failed.clone(), later).len(), 1);
    assert!(board.hear(&uids(), failed.clone(), later).is_empty());
    assert_eq!(board.due(later), uids());
    let overtaken = ControlState { observed_at_ms: 900, ..state(&["a"], &[("a", "h")]) };
    board.take(&uids(), overtaken, later);
    let counts = board.look(interest("h", true), later).details.unwrap().channel.unwrap();
    assert_eq!(counts.counts, failed.channels[0].counts, "an older answer came later");
}

#[test]
fn the_reader_is_told_when_others_roll() {
    let (board, now) = (Board::default(), Instant::now());
    let mut rollouts = board.rollouts();
    board.look(interest("h", false), now);
    assert!(!rollouts.has_changed().unwrap());
    board.look(interest("h", true), now);
    assert!(rollouts.has_changed().unwrap());
    rollouts.mark_unchanged();
    board.look(interest("i", true), now);
    assert!(!rollouts.has_changed().unwrap());
    assert_eq!(board.rolling(), uids());
    board.look(interest("i", false), now);
    assert!(rollouts.has_changed().unwrap());
    assert!(board.rolling().is_empty());
}

#[test]
fn undelivered_replies_are_news_when_they_begin_and_end_and_no_other_number_or_code_is() {
    let (board, now) = (Board::default(), Instant::now());
    board.look(interest("h", false), now);
    let told = |undelivered: Option<&[(u64, u32)]>| {
        let of = |(count, code): &(u64, u32)| ChannelUndelivered {
            uid: "u".parse().unwrap(),
            count: *count,
            last_code: Some(*code),
            last_at_ms: *count,
        };
        let undelivered = undelivered.map(|all| all.iter().map(of).collect());
        let state = ControlState { undelivered, ..state(&["a"], &[("a", "h")]) };
        board.take(&uids(), state, now).len()
    };
    told(Some(&[]));
    let looks = [&[(1, 63_016)][..], &[(9, 63_024)], &[(10, 63_016)], &[(11, 63_024)]];
    assert_eq!(looks.map(|look| told(Some(look))), [1, 0, 0, 0]);
    assert_eq!(told(None), 0, "a gateway that does not keep them says nothing of them");
    assert_eq!(board.look(interest("h", false), now).undelivered.unwrap().count, 11);
    assert_eq!(told(Some(&[])), 1);
    assert_eq!(board.look(interest("h", false), now).undelivered, None);
}

/// Scenario 44: of a thousand channels that roll at once each is asked about in every interval and looked at
/// with each answer, in a question for two hundred of them.
#[test]
fn scenario_44_a_thousand_rollouts_are_looked_at_in_every_interval_with_five_questions() {
    let (board, now) = (Board::default(), Instant::now());
    let uid = |number: usize| -> ChannelUid { format!("u{number}").parse().unwrap() };
    for number in 0..1_000 {
        let key = ChannelKey { namespace: "shop".into(), name: format!("c{number}") };
        board.look(Interest { key, uid: uid(number), ..interest("h", true) }, now);
    }
    board.take(&[], ControlState { channels: vec![], ..state(&["a"], &[]) }, now);
    for round in 0..3 {
        let now = now + round * Duration::from_secs(5);
        let due = board.due(now);
        let mut news = BTreeSet::new();
        for uids in due.chunks(MAX_CHANNELS_PER_REQUEST) {
            let one = &state(&["a"], &[("a", "h")]).channels[0];
            let channels = uids.iter().map(|uid| ChannelState { uid: uid.clone(), ..one.clone() });
            let told = ControlState { channels: channels.collect(), ..state(&["a"], &[]) };
            news.extend(board.take(uids, told, now).into_iter().map(|key| key.name));
        }
        assert_eq!((due.len(), due.len().div_ceil(MAX_CHANNELS_PER_REQUEST)), (1_000, 5));
        assert_eq!(news.len(), 1_000, "each is reconciled with the answer about it");
        assert!(board.due(now).is_empty(), "and asked about once");
    }
}

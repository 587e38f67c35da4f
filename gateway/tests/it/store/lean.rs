//! What a message, a claim and an extension cost the server, in commands that the scripts call.

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::Claimed;
use kanarie_queue::finish::Finish;
use kanarie_queue::intent::Memo;
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::send::{CommitReply, Committed};
use redis::cmd;

use crate::store::stage::{LEASE_MS, Stage, id, intent, lease_of, message, new_lease};

/// Commands inside scripts since the count began anew; the count begins anew.
async fn commands(stage: &Stage) -> u64 {
    let server = stage.server.as_ref().expect("a stage over Redis");
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let info: String = cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let () = cmd("CONFIG").arg("RESETSTAT").query_async(&mut connection).await.unwrap();
    let of_scripts = info.lines().filter_map(|line| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        // What the test itself and the lanes of the store say.
        let others = ["config", "info", "client", "hello", "ping", "command", "evalsha", "script"];
        let is_other = others.iter().any(|other| command.starts_with(other));
        if is_other { None } else { rest.split(',').next()?.parse::<u64>().ok() }
    });
    of_scripts.sum()
}

/// The three trips of a message that meets no obstacle; what each of them cost.
async fn trips(stage: &Stage, sid: &str) -> [u64; 3] {
    commands(stage).await;
    let wanted = Admit { lease: Some(new_lease(id(sid))), ..message(1, sid) };
    let Admission::Leased(head) = stage.run(wanted).await else { panic!("no lease") };
    let admitted = commands(stage).await;
    let lease: Lease = lease_of(&head);
    let reply = CommitReply {
        lease: lease.clone(),
        intent: intent(sid, 1),
        outcome: None,
        memo: Memo::default(),
        mark: Some(id("attempt")),
    };
    assert_eq!(stage.run(reply).await, Committed::Done);
    let committed = commands(stage).await;
    let next = Some(new_lease(id("next")));
    let finish = Finish { lease, intent: id(sid), segment: 0, sid: id("SMout"), next };
    let finished = stage.run(finish).await;
    assert_eq!(finished.completed, Owned::Done);
    assert_eq!(finished.next, Some(Claimed::Nothing { next_in_ms: None }));
    [admitted, committed, commands(stage).await]
}

#[tokio::test]
async fn a_message_costs_the_server_less_than_fifty_commands() {
    let stage = Stage::redis().await;
    // The first message of a shard also gives it its epoch, and a server the scripts.
    trips(&stage, "SM1").await;
    stage.pass(1);
    let [admitted, committed, finished] = trips(&stage, "SM2").await;
    let whole = admitted + committed + finished;
    assert!(whole < 50, "{admitted} + {committed} + {finished}");
}

#[tokio::test]
async fn an_extension_writes_the_end_of_the_lease_and_no_row() {
    let stage = Stage::redis().await;
    let leases: Vec<Lease> =
        [stage.lease(1, "SM1", "a").await, stage.lease(2, "SM2", "b").await].into();
    commands(&stage).await;
    assert_eq!(stage.extend(&leases, LEASE_MS).await, []);
    // What the shard knows and its time, and for each lease its row and its end, read, and the new end.
    let cost = commands(&stage).await;
    assert!(cost <= 2 + 3 * leases.len() as u64, "{cost}");
}

#[tokio::test]
async fn a_claim_that_finds_nothing_costs_four_commands_at_most() {
    let stage = Stage::redis().await;
    stage.claimed("a").await;
    commands(&stage).await;
    stage.claimed("b").await;
    let cost = commands(&stage).await;
    assert!(cost <= 4, "{cost}");
}

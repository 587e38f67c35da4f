//! A gateway whose store's memory is small: what it keeps, what it refuses, and what it knows after
//! `kill -9`. The short form of `make bench-memory`, over the same files and the same process.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use kanarie_fakes::customer::{customer, message_sid};
use kanarie_fakes::process;
use kanarie_fakes::twilio::http_client;
use kanarie_tests::memory::file::{write_known, write_sids, write_waiting};
use kanarie_tests::memory::{FORGOTTEN_EARLY, Receiver, account};

/// The least that a store may be given.
const STORE_MEMORY: &str = "16Mi";
const STORE_BYTES: u64 = 16 << 20;
/// What each SID counts, and so how many fit into half of that.
const A_SID: u64 = 32;
const FIT: u64 = STORE_BYTES / 2 / A_SID;
/// SIDs in the file, from the last twenty hours: more than fit.
const SIDS: u64 = 300_000;
/// Messages in the file that wait: most of the other half.
const WAITING: u64 = 3_000;
/// SIDs that a customer uses again, of each age.
const KNOWN: u32 = 10;
/// MiB that a gateway of this build takes beside an empty store's and its store's memory: what the
/// database keeps of its file, what reading leaves behind. Generous, for it is not what is tested.
const BESIDE: f64 = 96.0;

/// A SID, and the number of the customer who writes with it.
type Said = (String, u32);

/// New SIDs of as many customers.
fn new_sids(count: u32) -> Vec<Said> {
    static WRITER: AtomicU32 = AtomicU32::new(1);
    (0..count).map(|_| (message_sid(), WRITER.fetch_add(1, Ordering::Relaxed))).collect()
}

/// Posts a message with each of these SIDs and counts the answers.
async fn say(gateway: &Receiver, said: &[Said], text: &str) -> BTreeMap<u16, usize> {
    let (account, client) = (account(), http_client().unwrap());
    let mut answers = BTreeMap::new();
    for (sid, writer) in said {
        let form = account.text(sid, &customer(*writer), text);
        let answer = account.post(&client, gateway.authority(), &form).await.unwrap();
        *answers.entry(answer.status).or_default() += 1;
    }
    answers
}

/// All of them are known: each is answered as a repetition.
async fn knows(gateway: &Receiver, said: &[Said]) {
    let before = webhooks(gateway, "duplicate").await;
    assert_eq!(say(gateway, said, "again").await, BTreeMap::from([(200, said.len())]));
    assert_eq!(webhooks(gateway, "duplicate").await, before + said.len() as u64);
}

async fn number(gateway: &Receiver, metric: &str) -> u64 {
    gateway.metric(metric).await.unwrap().parse().unwrap()
}

async fn webhooks(gateway: &Receiver, outcome: &str) -> u64 {
    let metric = "kanarie_webhooks_total{endpoint=\"message\",outcome=\"";
    number(gateway, &format!("{metric}{outcome}\"}}")).await
}

/// SIDs went before their time, and no more than had to; they go by the minute of their admission.
async fn has_forgotten_the_fewest(gateway: &Receiver) {
    let forgotten = number(gateway, FORGOTTEN_EARLY).await;
    let known = 32 * u64::from(KNOWN);
    let fewest = SIDS + WAITING + 2 * known - FIT;
    let a_minute = SIDS / (20 * 60) + known;
    assert!((fewest..=fewest + 2 * a_minute).contains(&forgotten), "{forgotten}, not {fewest}");
}

#[tokio::test]
async fn a_gateway_with_little_memory_stays_in_it_and_knows_after_a_kill_what_it_promised() {
    let folder = process::folder("memory").unwrap();
    let store = folder.path().join("store");
    let base = Receiver::start(&folder.path().join("empty"), STORE_MEMORY).await.unwrap();
    let most = base.peak().unwrap() + (STORE_BYTES >> 20) as f64 + BESIDE;
    drop(base);
    let [old, young] = [(); 2].map(|()| new_sids(KNOWN));
    write_sids(&store, 0..SIDS).unwrap();
    write_waiting(&store, WAITING).unwrap();
    write_known(&store, old.iter().map(|(sid, _)| sid.as_str()), 20 * 3_600).unwrap();
    write_known(&store, young.iter().map(|(sid, _)| sid.as_str()), 0).unwrap();

    let gateway = Receiver::start(&store, STORE_MEMORY).await.unwrap();
    has_forgotten_the_fewest(&gateway).await;
    knows(&gateway, &young).await;
    assert_eq!(say(&gateway, &old, "a day later").await, BTreeMap::from([(200, old.len())]));
    assert_eq!(webhooks(&gateway, "queued").await, old.len() as u64, "they were forgotten");
    // What is promised from here on is all that fits.
    let mut promised = old;
    loop {
        let next = new_sids(1);
        let answers = say(&gateway, &next, &"x".repeat(4_000)).await;
        if answers != BTreeMap::from([(200, 1)]) {
            assert_eq!(answers, BTreeMap::from([(503, 1)]));
            break;
        }
        promised.extend(next);
    }
    assert_eq!(webhooks(&gateway, "full").await, 1);
    let peak = gateway.peak().unwrap();
    assert!(peak < most, "{peak} of {most} MiB");

    // As by a loss of power.
    drop(gateway);
    let gateway = Receiver::start(&store, STORE_MEMORY).await.unwrap();
    let peak = gateway.peak().unwrap();
    assert!(peak < most, "{peak} of {most} MiB");
    knows(&gateway, &promised).await;
    knows(&gateway, &young).await;
    assert!(number(&gateway, FORGOTTEN_EARLY).await > 0, "it begins to count anew");
    let waiting = number(&gateway, "kanarie_waiting_messages{channel=\"gone\"}").await;
    assert_eq!(waiting, WAITING);
}

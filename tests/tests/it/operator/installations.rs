//! Two installations that see the same channels: each has its own, or one says so.

use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use kanarie_crds::channel::WhatsAppChannel;
use kanarie_operator::process::config::Config;
use kanarie_tests::audit::AuditedRequests;
use kanarie_tests::bench::Bench;
use kanarie_tests::world::condition;
use kube::api::{Patch, PatchParams, WatchParams};
use kube::core::WatchEvent;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::operator::care::{NEW, OLD, said, served, with_port};

/// How often the channels are written within some seconds.
async fn writes_within(bench: &Bench, seconds: u64) -> usize {
    let api = bench.channels();
    let since = api.list(&Default::default()).await.unwrap().metadata.resource_version.unwrap();
    let events = api.watch(&WatchParams::default(), &since).await.unwrap();
    let mut events = pin!(events.try_filter(|event| {
        std::future::ready(matches!(event, WatchEvent::<WhatsAppChannel>::Modified(_)))
    }));
    let mut writes = 0;
    let count = async {
        while events.next().await.is_some() {
            writes += 1;
        }
    };
    let _ = timeout(Duration::from_secs(seconds), count).await;
    writes
}

/// A second installation sees the same namespace, and has a class of its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_installations_of_two_classes_each_serve_their_own_channels_and_touch_no_other() {
    let first = Bench::start().await.unwrap();
    served(&first).await;
    let mut second = first.beside().await.unwrap();
    let config = Config { channel_class: "shop".to_owned(), ..second.config() };
    let config = with_port(config);
    second.start_with(config.clone(), second.operator_client().await.unwrap());
    let mut theirs = second.manifest("theirs", OLD);
    theirs.class = "shop".to_owned();
    second.apply(&theirs).await.unwrap();
    let ready = |channel: &Value| condition(channel, "Ready") == Some("True");
    second.until("theirs", ready).await.unwrap();
    // One of a shared sender is no conflict either: each has gateways of its own.
    let mut copy = first.manifest("copy", OLD);
    copy.class = "shop".to_owned();
    first.apply(&copy).await.unwrap();
    second.until("copy", ready).await.unwrap();
    assert_eq!(writes_within(&first, 5).await, 0, "nobody writes what is not his");
    let own = |bench: &Bench| bench.route_name();
    assert!(first.routes().get_opt(&own(&second)).await.unwrap().is_none());
    let copied = second.route_of(&own(&first)).await.unwrap().0;
    assert_eq!(copied.channel.name, "copy");
    let metrics = said(&config, "metrics").await;
    assert!(metrics.contains("channel=\"theirs\"") && !metrics.contains("channel=\"care\""));
}

/// Somebody has given the installation another class than the channels that it serves have.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_whose_channel_is_of_another_class_is_no_orphan_until_that_is_gone() {
    let mut bench = Bench::start().await.unwrap();
    let before = served(&bench).await;
    let other = {
        bench.stop_operators().await.unwrap();
        Config { channel_class: "shop".to_owned(), ..bench.config() }
    };
    bench.start_with(other, bench.operator_client().await.unwrap());
    let mut requests = AuditedRequests::of(bench.plane, &bench.places.system, "kanarie-operator");
    // A sweep, and then four more.
    sleep(Duration::from_secs(6)).await;
    requests.since().await.unwrap();
    sleep(Duration::from_secs(20)).await;
    let asked = requests.since().await.unwrap();
    assert!(asked.all() <= 2, "{asked}");
    assert!(bench.route().await.is_ok());
    let now = bench.until("care", |_| true).await.unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    bench.channels().delete("care", &Default::default()).await.unwrap();
    bench.until_gone(&bench.route_name()).await.unwrap();
}

/// As `mode: Cluster` beside a release for one namespace, of which nobody has said which is whose.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_installations_of_one_class_the_first_serves_until_its_name_is_taken_away() {
    let mut first = Bench::start().await.unwrap();
    served(&first).await;
    let mut second = first.beside().await.unwrap();
    second.start_operator().await.unwrap();
    let says_so = async {
        while !first.events("care").await.unwrap().contains(&"OtherInstallation".to_owned()) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(40), says_so).await.expect("the second one says so");
    let writes = writes_within(&first, 10).await;
    assert!(writes <= 1, "{writes} writes");
    // Away or not, it is the first one's, whose gateways the webhook leads to.
    first.stop_operators().await.unwrap();
    first.start_operator().await.unwrap();
    first.apply(&first.manifest("care", NEW)).await.unwrap();
    first.until_route(|route| route.weight.percent() == 10).await.unwrap();
    assert!(second.routes().get_opt(&first.route_name()).await.unwrap().is_none());
    // It is uninstalled, and a person says so.
    first.stop_operators().await.unwrap();
    let unnamed = Patch::Merge(json!({"status": {"installation": null}}));
    let channels = first.channels();
    channels.patch_status("care", &PatchParams::default(), &unnamed).await.unwrap();
    let named = |channel: &Value| channel["status"]["installation"] == *second.places.routes;
    second.until("care", named).await.unwrap();
    assert!(second.routes().get_opt(&first.route_name()).await.unwrap().is_some());
}

/// Nobody is named in the status of a new one.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_new_channel_that_two_installations_meet_one_route_is_left() {
    let first = Bench::start().await.unwrap();
    let mut second = first.beside().await.unwrap();
    second.start_operator().await.unwrap();
    served(&first).await;
    let name = first.route_name();
    let both = || async {
        let (one, other) = (first.routes(), second.routes());
        (one.get_opt(&name).await.unwrap(), other.get_opt(&name).await.unwrap())
    };
    let one_is_left = async {
        while let (Some(_), Some(_)) = both().await {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(30), one_is_left).await.expect("one gives way");
    sleep(Duration::from_secs(6)).await;
    let channel = first.until("care", |_| true).await.unwrap();
    let own = channel["status"]["installation"] == *first.places.routes;
    let (one, other) = both().await;
    assert_eq!((one.is_some(), other.is_some()), (own, !own), "the one that is named has it");
}

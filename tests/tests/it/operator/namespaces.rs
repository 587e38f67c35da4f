//! Several namespaces, and many channels: one that cannot be read, one that rolls among those at rest.

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kanarie_fakes::customer::Account;
use kanarie_operator::cluster::route_note::NOTE_ANNOTATION;
use kanarie_tests::bench::Bench;
use kanarie_tests::manifest::ChannelManifest;
use kanarie_tests::world::condition;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use crate::operator::care::{OLD, count, rolling, said, served, with_port};

/// The operator may read the channels of its namespace and of no other, as with `watchNamespaces`.
async fn here_only(bench: &Bench) {
    let (system, here) = (&bench.places.system, &bench.places.channels);
    let name = format!("{system}-kanarie-system-kanarie-operator");
    let everywhere: kube::Api<ClusterRoleBinding> = kube::Api::all(bench.plane.client());
    let binding = everywhere.get(&name).await.unwrap();
    everywhere.delete(&name, &DeleteParams::default()).await.unwrap();
    let here_only = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "kanarie-operator"},
        "roleRef": binding.role_ref, "subjects": binding.subjects,
    });
    bench.plane.apply_yaml(here, &here_only.to_string()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_cannot_be_read_blocks_no_other_and_is_named() {
    let mut bench = Bench::without_operator().await.unwrap();
    let dark = bench.plane.namespace("dark").await.unwrap();
    let mut config = with_port(bench.config());
    config.watch_namespaces.insert(0, dark.clone());
    here_only(&bench).await;
    let client = bench.operator_client().await.unwrap();
    bench.start_with(config.clone(), client);
    served(&bench).await;
    let ready = said(&config, "readyz").await;
    assert!(ready.starts_with("200") && ready.contains(&dark), "{ready}");
    let metrics = said(&config, "metrics").await;
    let unseen =
        metrics.lines().find(|line| line.starts_with("kanarie_operator_namespaces_unseen"));
    assert!(unseen.is_some_and(|line| line.ends_with(" 1")), "{unseen:?}");
    let mut touched = bench.routes().get(&bench.route_name()).await.unwrap();
    let version = touched.metadata.resource_version.clone();
    touched.data.as_mut().unwrap().get_mut("route").unwrap().0 = b"{}".to_vec();
    bench.routes().replace(&bench.route_name(), &Default::default(), &touched).await.unwrap();
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    let again = bench.routes().get(&bench.route_name()).await.unwrap();
    assert_ne!(again.metadata.resource_version, version);
    bench.channels().delete("care", &DeleteParams::default()).await.unwrap();
    bench.until_gone(&bench.route_name()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_failed_while_nobody_looked_is_taken_back_before_those_at_rest_are_looked_at()
{
    const AT_REST: usize = 200;
    let mut bench = Bench::start().await.unwrap();
    let serving = rolling(&bench).await;
    for number in 0..AT_REST {
        let account = Account::new(u32::try_from(number).unwrap() + 70_000);
        let name = format!("rest-{number}");
        let manifest = ChannelManifest::new(&name, &account, OLD);
        bench.apply(&manifest).await.unwrap();
    }
    for number in 0..AT_REST {
        let is_served = |channel: &_| condition(channel, "Ready") == Some("True");
        bench.until(&format!("rest-{number}"), is_served).await.unwrap();
    }
    bench.stop_operators().await.unwrap();
    // Of those whose route has no note each is looked at in full; else that takes no time.
    let unnoted = Patch::Merge(json!({"metadata": {"annotations": {NOTE_ANNOTATION: null}}}));
    let routes = bench.routes();
    for route in routes.list_metadata(&ListParams::default()).await.unwrap().items {
        routes.patch_metadata(&route.name_any(), &PatchParams::default(), &unnoted).await.unwrap();
    }
    count(&bench, serving, (0, 8), 500);
    let config = with_port(bench.config());
    let client = bench.operator_client().await.unwrap();
    let started = Instant::now();
    bench.start_with(config.clone(), client);
    bench.until_route(|route| route.weight.percent() == 0).await.unwrap();
    let took = started.elapsed();
    let metrics = said(&config, "metrics").await;
    let count = "kanarie_operator_reconcile_duration_seconds_count";
    let line = metrics.lines().find(|line| line.starts_with(count)).unwrap();
    let looks: usize = line.split(' ').next_back().unwrap().parse().unwrap();
    println!("beside {AT_REST} channels: weight 0 after {} ms, {looks} looks", took.as_millis());
    assert!(looks <= AT_REST, "{looks} looks");
}

//! The charts, rendered and linted by Helm, and their objects shown to a real API server.
//!
//! Takes the charts of this repository; never installs anything.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kanarie_fakes::golden;
use kanarie_fakes::samples::manifests;
use kanarie_tests::control_plane::ControlPlane;
use kanarie_tests::tools::{Tool, find};
use kanarie_tests::yaml;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

const BUNDLE_HEADER: &str = "\
# The whole of Kanarie for `kubectl apply --server-side -f`: the definition, the operator and the
# gateway with the embedded store, in kanarie-system, for the channels of every namespace.
# Rendered from the charts by `make generated`; for anything else, install the charts with Helm.
apiVersion: v1
kind: Namespace
metadata:
  name: kanarie-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

/// Values of the three ways to install that a user meets.
const VARIANTS: [&[&str]; 3] = [
    &["mode=Cluster"],
    &["watchNamespaces={shop,care}"],
    &[
        "mode=Cluster",
        "gateway.store.type=Redis",
        "gateway.store.urlSecretRef.name=redis",
        "operator.replicas=2",
        "gateway.agentAllow={127.0.0.0/8}",
        "gateway.twilioApiUrl=http://fake-twilio",
        "imagePullSecrets[0].name=pull",
        "gateway.nodeSelector.disk=fast",
    ],
];

#[test]
fn helm_lints_both_charts_strictly() {
    for (chart, sets) in [("kanarie-crds", &[][..]), ("kanarie", VARIANTS[0])] {
        let output = helm(&["lint", "--strict"], chart, sets);
        assert!(output.status.success(), "{chart}: {}", text(&output));
    }
}

#[test]
fn each_guard_fails_with_a_sentence_that_names_the_value() {
    let cases: [(&[&str], &str); 6] = [
        (&[], "set watchNamespaces"),
        (&["mode=Cluster", "watchNamespaces={shop}"], "leave watchNamespaces empty"),
        (&["watchNamespaces={kanarie-system-routes}"], "must not name the routes namespace"),
        (&["mode=Cluster", "gateway.store.type=Redis"], "needs gateway.store.urlSecretRef.name"),
        (&["mode=Cluster", "gateway.autoscaling.minReplicas=4"], "must not be over maxReplicas"),
        (
            &["mode=Cluster", "gateway.shutdown.endpointSeconds=60"],
            "graceSeconds must be over endpointSeconds",
        ),
    ];
    for (sets, sentence) in cases {
        let output = template("kanarie", sets);
        assert!(!output.status.success(), "{sets:?} rendered");
        assert!(text(&output).contains(sentence), "{sets:?}: {}", text(&output));
    }
}

#[test]
fn an_unknown_value_is_refused_by_the_schema() {
    let output = template("kanarie", &["mode=Cluster", "gateway.replicas=3"]);
    assert!(!output.status.success());
    assert!(text(&output).contains("replicas"), "{}", text(&output));
}

#[test]
fn turns_are_taken_by_their_former_name_too() {
    let arguments = |sets: &[&str]| {
        let objects = render(sets);
        let gateway = one(&objects, "StatefulSet", "kanarie-gateway");
        strings(&gateway.data["spec"]["template"]["spec"]["containers"][0]["args"])
    };
    assert!(arguments(&["mode=Cluster"]).contains(&"--turns=2000".to_owned()));
    let former = arguments(&["mode=Cluster", "gateway.workers=64"]);
    assert!(former.contains(&"--workers=64".to_owned()), "{former:?}");
    assert!(!former.iter().any(|argument| argument.starts_with("--turns")), "{former:?}");
}

#[test]
fn the_bounds_of_a_channel_are_written_as_the_gateway_reads_them() {
    let sets = ["mode=Cluster", "gateway.channel.messages=5000000", "gateway.channel.bytes=2Gi"];
    let objects = render(&sets);
    let gateway = one(&objects, "StatefulSet", "kanarie-gateway");
    let arguments = strings(&gateway.data["spec"]["template"]["spec"]["containers"][0]["args"]);
    for argument in ["--channel-messages=5000000", "--channel-bytes=2Gi"] {
        assert!(arguments.contains(&argument.to_owned()), "{arguments:?}");
    }
}

#[test]
fn an_installation_serves_the_class_that_it_is_given() {
    let class = |sets: &[&str]| {
        let objects = render(sets);
        let operator = one(&objects, "Deployment", "kanarie-operator");
        let arguments = &operator.data["spec"]["template"]["spec"]["containers"][0]["args"];
        strings(arguments).into_iter().find(|it| it.starts_with("--channel-class")).unwrap()
    };
    assert_eq!(class(&["mode=Cluster"]), "--channel-class=kanarie");
    assert_eq!(class(&["mode=Cluster", "channelClass=shop"]), "--channel-class=shop");
    assert!(!template("kanarie", &["mode=Cluster", "channelClass=Shop"]).status.success());
}

#[test]
fn the_embedded_store_gets_half_of_the_memory_limit() {
    let cases = [
        ("gateway.turns=2000", Some("268435456")),
        ("gateway.resources.limits.memory=1Gi", Some("536870912")),
        ("gateway.resources.limits.memory=1500M", Some("750000000")),
        ("gateway.resources.limits.memory=1.5Gi", Some("805306368")),
        ("gateway.resources.limits.memory=536870912", Some("268435456")),
        ("gateway.store.memory=300Mi", Some("300Mi")),
        ("gateway.resources.limits=null", None),
    ];
    for (set, expected) in cases {
        let objects = render(&["mode=Cluster", set]);
        let gateway = one(&objects, "StatefulSet", "kanarie-gateway");
        let arguments = strings(&gateway.data["spec"]["template"]["spec"]["containers"][0]["args"]);
        let found = arguments.iter().find_map(|argument| argument.strip_prefix("--store-memory="));
        assert_eq!(found, expected, "{set}");
    }
}

#[test]
fn every_port_listens_on_both_families_and_outlasts_the_balancers() {
    let objects = render(&["mode=Cluster"]);
    let arguments = |kind: &str, name: &str| {
        let object = one(&objects, kind, name);
        strings(&object.data["spec"]["template"]["spec"]["containers"][0]["args"])
    };
    let gateway = arguments("StatefulSet", "kanarie-gateway");
    for argument in ["--listen=[::]:8080", "--admin-listen=[::]:9090", "--idle-seconds=620"] {
        assert!(gateway.contains(&argument.to_owned()), "{gateway:?}");
    }
    let operator = arguments("Deployment", "kanarie-operator");
    assert!(operator.contains(&"--admin-listen=[::]:9090".to_owned()), "{operator:?}");
    let unbounded = template("kanarie", &["mode=Cluster", "gateway.idleSeconds=0"]);
    assert!(!unbounded.status.success());
}

#[test]
fn a_redis_that_may_lose_messages_is_used_only_where_somebody_says_so() {
    let asked = |more: &[&str]| {
        let redis =
            ["mode=Cluster", "gateway.store.type=Redis", "gateway.store.urlSecretRef.name=r"];
        let objects = render(&[&redis, more].concat());
        let gateway = one(&objects, "Deployment", "kanarie-gateway");
        let arguments = strings(&gateway.data["spec"]["template"]["spec"]["containers"][0]["args"]);
        let of =
            |argument: &String| argument.strip_prefix("--store-durability=").map(str::to_owned);
        arguments.iter().find_map(of)
    };
    assert_eq!(asked(&[]).as_deref(), Some("strict"));
    assert_eq!(asked(&["gateway.store.durability=Relaxed"]).as_deref(), Some("relaxed"));
    assert!(!template("kanarie", &["gateway.store.durability=Sometimes"]).status.success());
}

#[test]
fn urls_of_agents_may_be_private_only_where_one_namespace_is_served_or_somebody_says_so() {
    let policy = |sets: &[&str]| {
        let objects = render(sets);
        let gateway = one(&objects, "StatefulSet", "kanarie-gateway");
        let arguments = strings(&gateway.data["spec"]["template"]["spec"]["containers"][0]["args"]);
        arguments
            .iter()
            .find_map(|argument| argument.strip_prefix("--agent-private="))
            .map(str::to_owned)
    };
    assert_eq!(policy(&["mode=Cluster"]).as_deref(), Some("deny"));
    assert_eq!(policy(&["watchNamespaces={shop}"]).as_deref(), Some("allow"));
    assert_eq!(policy(&["mode=Cluster", "gateway.agentPrivate=Allow"]).as_deref(), Some("allow"));
    assert_eq!(
        policy(&["watchNamespaces={shop}", "gateway.agentPrivate=Deny"]).as_deref(),
        Some("deny")
    );
}

#[test]
fn the_chart_of_the_definition_ships_the_generated_one() {
    let generated = fs::read_to_string(root().join("crds/whatsappchannels.yaml")).unwrap();
    golden::compare("charts/kanarie-crds/whatsappchannels.yaml", &generated);
}

#[test]
fn the_bundle_is_what_the_charts_render() {
    let rendered = format!(
        "{BUNDLE_HEADER}{}{}",
        stdout(&template("kanarie-crds", &[])),
        stdout(&template("kanarie", VARIANTS[0]))
    );
    golden::compare("charts/install.yaml", &rendered);
}

#[test]
fn an_autoscaled_deployment_leaves_its_replicas_to_the_autoscaler() {
    let objects = render(VARIANTS[2]);
    let gateway = one(&objects, "Deployment", "kanarie-gateway");
    assert!(gateway.data["spec"].get("replicas").is_none());
    let scaler = one(&objects, "HorizontalPodAutoscaler", "kanarie-gateway");
    assert_eq!(scaler.data["spec"]["minReplicas"], 1);
    assert_eq!(scaler.data["spec"]["maxReplicas"], 3);
}

#[test]
fn the_embedded_store_is_one_replica_with_a_volume() {
    let objects = render(VARIANTS[0]);
    let gateway = one(&objects, "StatefulSet", "kanarie-gateway");
    assert_eq!(gateway.data["spec"]["replicas"], 1);
    assert_eq!(gateway.data["spec"]["volumeClaimTemplates"][0]["metadata"]["name"], "data");
}

#[test]
fn the_gateway_may_read_the_routes_and_nothing_else() {
    for sets in VARIANTS {
        let rights = rights(&render(sets), "kanarie-gateway");
        assert_eq!(rights, ["kanarie-system-routes core/secrets get,list,watch"], "{sets:?}");
    }
}

#[test]
fn the_operator_has_exactly_these_rights_in_the_namespaces_that_it_watches() {
    let rights = rights(&render(VARIANTS[1]), "kanarie-operator");
    let expected = [
        "* apiextensions.k8s.io/customresourcedefinitions[whatsappchannels.kanarie.dev] get",
        "care apps/controllerrevisions get,list,create,patch,delete",
        "care core/secrets get,list,watch",
        "care events.k8s.io/events create",
        "care kanarie.dev/whatsappchannels get,list,watch",
        "care kanarie.dev/whatsappchannels/finalizers update",
        "care kanarie.dev/whatsappchannels/status patch",
        "kanarie-system coordination.k8s.io/leases create",
        "kanarie-system coordination.k8s.io/leases[kanarie-operator] get,update",
        "kanarie-system-routes core/secrets get,list,watch,create,update,delete",
        "shop apps/controllerrevisions get,list,create,patch,delete",
        "shop core/secrets get,list,watch",
        "shop events.k8s.io/events create",
        "shop kanarie.dev/whatsappchannels get,list,watch",
        "shop kanarie.dev/whatsappchannels/finalizers update",
        "shop kanarie.dev/whatsappchannels/status patch",
    ];
    assert_eq!(rights, expected);
}

#[tokio::test]
async fn the_api_server_accepts_every_object_and_every_pod_as_restricted() {
    let plane = ControlPlane::start().await.unwrap();
    plane.install_crd().await.unwrap();
    let client = plane.client();
    for namespace in ["kanarie-system", "kanarie-system-routes", "shop", "care"] {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": labels}});
        plane.apply_yaml("default", &object.to_string()).await.unwrap();
    }
    for account in ["kanarie-operator", "kanarie-gateway"] {
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": "kanarie-system"}});
        plane.apply_yaml("default", &object.to_string()).await.unwrap();
    }
    for sets in VARIANTS {
        let rendered = stdout(&template("kanarie", sets));
        yaml::dry_run(&client, "kanarie-system", &rendered).await.unwrap();
        for pod in render(sets).iter().filter_map(pod_of) {
            yaml::dry_run(&client, "kanarie-system", &pod.to_string()).await.unwrap();
        }
    }
    let bundle = fs::read_to_string(root().join("charts/install.yaml")).unwrap();
    yaml::dry_run(&client, "kanarie-system", &bundle).await.unwrap();
    for (_, text) in manifests("examples").unwrap() {
        yaml::dry_run(&client, "shop", &text).await.unwrap();
    }
}

/// The pod that a workload makes, cut out of its template.
fn pod_of(object: &DynamicObject) -> Option<Value> {
    let mut pod = object.data.get("spec")?.get("template")?.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!(format!("{}-pod", object.name_any()));
    pod["metadata"]["namespace"] = json!("kanarie-system");
    if let Some(mounts) = pod["spec"]["containers"][0].get("volumeMounts") {
        // The claim's volume is added by the StatefulSet's controller.
        let name = mounts[0]["name"].clone();
        pod["spec"]["volumes"] = json!([{"name": name, "emptyDir": {}}]);
    }
    Some(pod)
}

/// Every right of a service account, as `namespace group/resource[name] verbs`, sorted.
fn rights(objects: &[DynamicObject], account: &str) -> Vec<String> {
    let mut rights = BTreeSet::new();
    let bindings = objects.iter().filter(|object| {
        kind(object).ends_with("Binding")
            && object.data["subjects"]
                .as_array()
                .is_some_and(|all| all.iter().any(|subject| subject["name"] == account))
    });
    for binding in bindings {
        let role = binding.data["roleRef"]["name"].as_str().unwrap();
        let namespace = binding.namespace().unwrap_or_else(|| "*".to_owned());
        let role = objects
            .iter()
            .find(|object| {
                kind(object) == binding.data["roleRef"]["kind"]
                    && object.name_any() == role
                    && object.namespace() == binding.namespace()
            })
            .unwrap();
        for rule in role.data["rules"].as_array().unwrap() {
            for resource in strings(&rule["resources"]) {
                let group = strings(&rule["apiGroups"]).remove(0);
                let group = if group.is_empty() { "core" } else { &group };
                let names = strings(&rule["resourceNames"]);
                let names =
                    if names.is_empty() { String::new() } else { format!("[{}]", names.join(",")) };
                let verbs = strings(&rule["verbs"]).join(",");
                rights.insert(format!("{namespace} {group}/{resource}{names} {verbs}"));
            }
        }
    }
    rights.into_iter().collect()
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn one<'a>(objects: &'a [DynamicObject], of_kind: &str, name: &str) -> &'a DynamicObject {
    objects.iter().find(|object| kind(object) == of_kind && object.name_any() == name).unwrap()
}

fn kind(object: &DynamicObject) -> &str {
    &object.types.as_ref().unwrap().kind
}

fn render(sets: &[&str]) -> Vec<DynamicObject> {
    yaml::parse(&stdout(&template("kanarie", sets))).unwrap()
}

fn template(chart: &str, sets: &[&str]) -> Output {
    helm(&["template", "kanarie", "--namespace", "kanarie-system"], chart, sets)
}

fn helm(arguments: &[&str], chart: &str, sets: &[&str]) -> Output {
    let mut command = Command::new(find(Tool::Helm).unwrap());
    command.args(arguments).arg(root().join("charts").join(chart));
    for set in sets {
        command.args(["--set", set]);
    }
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

//! The control plane of the tests is a real one: it checks tokens, roles and manifests.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kanarie_tests::control_plane::ControlPlane;
use kube::api::{Api, ListParams};

const READER: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: NAMESPACE}]
";

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_nothing_else() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("roles").await.unwrap();
    plane.apply_yaml(&namespace, &READER.replace("NAMESPACE", &namespace)).await.unwrap();
    let client = plane.client_for_service_account(&namespace, "reader").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    maps.list(&ListParams::default()).await.unwrap();
    let refused = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));
}

#[tokio::test]
async fn kubectl_works_with_the_administrators_kubeconfig() {
    let plane = ControlPlane::shared().await;
    let output = plane.kubectl().unwrap().args(["get", "namespaces"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("kube-system"), "{text}");
}

#[tokio::test]
async fn two_control_planes_run_side_by_side() {
    let plane = ControlPlane::shared().await;
    let other = ControlPlane::start().await.unwrap();
    let namespace = plane.namespace("alone").await.unwrap();
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(other.client());
    assert!(api.get_opt(&namespace).await.unwrap().is_none());
}

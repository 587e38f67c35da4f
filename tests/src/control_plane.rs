//! A real Kubernetes control plane for tests and the demo: etcd and kube-apiserver.
//!
//! Starts both on free ports of the loopback interface, with RBAC and ServiceAccount admission,
//! and gives clients and kubeconfig files. There are no controllers: nothing collects garbage,
//! finishes the deletion of a namespace or makes default service accounts. Several run at once;
//! each is gone when it is dropped or when the test process ends.
//!
//! CEL rules, server-side apply, conflicts, RBAC and watches are where an operator goes wrong, and
//! an imitation of them agrees with whoever wrote it. The binaries are found (`KUBEBUILDER_ASSETS`,
//! `PATH`, our cache folder) or built once with `go build` from `tests/tools`, where versions and
//! checksums are pinned; downloading them would tie the tests to one host. No controllers keep the
//! start at three to ten seconds, and no test needs one. Tests share one API server for each
//! process and keep apart by namespaces. Operator and gateway run under their own service accounts,
//! with tokens from TokenRequest and the roles of `charts/install.yaml`, moved to the namespaces of
//! the test: a right that the chart forgets fails one. The server signs its own certificate, the
//! administrator has a static token, the key of the service accounts is made anew each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kanarie_fakes::process::{self, Process};
use kanarie_fakes::server::free_port;
use kube::api::{Api, DynamicObject, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Config, ResourceExt as _};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::tools::{self, Tool};
use crate::yaml;

/// File of the requests that are written down.
const AUDIT: &str = "audit.log";
/// What of them: who asked for what, when it is answered; of watches not the end either.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: None, verbs: [watch]}
- {level: Metadata, userGroups: ['system:serviceaccounts']}
- {level: None}
";

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    url: String,
    config: Config,
    certificate: String,
    apiserver: Process,
    etcd: Process,
    folder: TempDir,
}

impl ControlPlane {
    /// The one that all tests of a process share: start it once, keep apart by namespaces.
    ///
    /// # Panics
    /// It cannot be started; nothing can be tested then.
    #[expect(clippy::panic, reason = "without a control plane there is nothing to test")]
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        let start = || async {
            Self::start().await.unwrap_or_else(|error| panic!("start a control plane: {error:#}"))
        };
        SHARED.get_or_init(start).await
    }

    /// Starts one and waits until it answers, three to ten seconds.
    ///
    /// # Errors
    /// The programs cannot be had, or do not come up.
    pub async fn start() -> Result<Self> {
        // Whoever was first has installed the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (etcd, apiserver) = tokio::task::spawn_blocking(|| {
            anyhow::Ok((tools::find(Tool::Etcd)?, tools::find(Tool::KubeApiserver)?))
        })
        .await??;
        let mut attempt = 1;
        loop {
            // A port that was free may be taken a moment later by somebody else.
            match Self::start_programs(&etcd, &apiserver).await {
                Err(error) if attempt == 3 => return Err(error),
                Err(_) => attempt += 1,
                started => return started,
            }
        }
    }

    async fn start_programs(etcd: &Path, apiserver: &Path) -> Result<Self> {
        let folder = process::folder("control-plane")?;
        let (client, peer, secure) = (free_port()?, free_port()?, free_port()?);
        let token = random_hex()?;
        write_keys(folder.path(), &token)?;
        fs::write(folder.path().join("audit.yaml"), AUDIT_POLICY)?;
        let mut etcd = start_etcd(etcd, folder.path(), client, peer)?;
        let mut apiserver = start_apiserver(apiserver, folder.path(), client, secure)?;
        let url = format!("https://127.0.0.1:{secure}");
        let crt = folder.path().join("certs/apiserver.crt");
        let deadline = Instant::now() + Duration::from_secs(90);
        let (certificate, config) = loop {
            alive(&mut etcd)?;
            alive(&mut apiserver)?;
            if let Some(ready) = connect(&url, &crt, &token).await {
                break ready;
            }
            if Instant::now() > deadline {
                bail!("kube-apiserver is not ready after 90 s:\n{}", apiserver.log_tail());
            }
            sleep(Duration::from_millis(100)).await;
        };
        let plane = Self { url, config, certificate, apiserver, etcd, folder };
        let kubeconfig = kubeconfig(&plane.url, &plane.certificate, &token, "default");
        fs::write(plane.kubeconfig(), kubeconfig)?;
        Ok(plane)
    }

    /// Kubeconfig file of the administrator, for kubectl and for `KUBECONFIG`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// The requests of service accounts, one JSON object a line.
    pub fn audit(&self) -> PathBuf {
        self.folder.path().join(AUDIT)
    }

    /// A client of the administrator. It belongs to the runtime that asks for it.
    ///
    /// # Panics
    /// The configuration makes no client; it made one at the start.
    pub fn client(&self) -> Client {
        Client::try_from(self.config.clone()).expect("this configuration made a client before")
    }

    /// A client that may do what the service account may do.
    ///
    /// # Errors
    /// The account does not exist.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        let token = self.token(namespace, name).await?;
        let text = kubeconfig(&self.url, &self.certificate, &token, namespace);
        Ok(Client::try_from(config(&text).await?)?)
    }

    /// A kubeconfig file of a service account, for a process that is to run as it.
    ///
    /// # Errors
    /// The account does not exist.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf> {
        let token = self.token(namespace, name).await?;
        let path = self.folder.path().join(format!("{namespace}.{name}.kubeconfig"));
        fs::write(&path, kubeconfig(&self.url, &self.certificate, &token, namespace))?;
        Ok(path)
    }

    /// Makes a namespace of its own for a test and gives its name.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let namespace = Namespace {
            metadata: ObjectMeta {
                generate_name: Some(format!("{prefix}-")),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let api: Api<Namespace> = Api::all(self.client());
        Ok(api.create(&PostParams::default(), &namespace).await?.name_any())
    }

    /// Applies manifests by server-side apply. `namespace` is for those that name none.
    ///
    /// # Errors
    /// A document is no object, or the server refuses it.
    pub async fn apply_yaml(&self, namespace: &str, text: &str) -> Result<Vec<DynamicObject>> {
        yaml::apply(&self.client(), namespace, text).await
    }

    /// Applies `crds/whatsappchannels.yaml` and waits until it is served; again is harmless.
    ///
    /// # Errors
    /// The file is missing or refused.
    pub async fn install_crd(&self) -> Result<()> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/whatsappchannels.yaml");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("read {}: it is generated", file.display()))?;
        let applied = self.apply_yaml("default", &text).await?;
        let api: Api<CustomResourceDefinition> = Api::all(self.client());
        for crd in applied {
            let name = crd.name_any();
            let served = await_condition(api.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(Duration::from_secs(30), served).await??;
        }
        Ok(())
    }

    /// A kubectl command as the administrator, ready for its arguments.
    ///
    /// # Errors
    /// kubectl cannot be had.
    pub fn kubectl(&self) -> Result<Command> {
        let mut command = Command::new(tools::find(Tool::Kubectl)?);
        command.env("KUBECONFIG", self.kubeconfig());
        Ok(command)
    }

    /// What both programs have logged, for a test that fails.
    pub fn logs(&self) -> String {
        format!("etcd:\n{}\nkube-apiserver:\n{}", self.etcd.log(), self.apiserver.log())
    }

    async fn token(&self, namespace: &str, name: &str) -> Result<String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(24 * 3600),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let answer = api
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("a token of the service account {namespace}/{name}"))?;
        answer.status.and_then(|status| status.token).context("the server gave no token")
    }
}

fn start_etcd(program: &Path, folder: &Path, client: u16, peer: u16) -> Result<Process> {
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let mut command = Command::new(program);
    command
        .args(["--name=test", "--log-level=warn", "--unsafe-no-fsync"])
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=test={peer}"));
    Process::spawn("etcd", &mut command, &folder.join("etcd.log"))
}

fn start_apiserver(program: &Path, folder: &Path, etcd: u16, secure: u16) -> Result<Process> {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(program);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
        .arg(format!("--secure-port={secure}"))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg(format!("--cert-dir={}", file("certs")))
        .arg(format!("--token-auth-file={}", file("tokens.csv")))
        .args(["--authorization-mode=RBAC", "--enable-admission-plugins=ServiceAccount"])
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-signing-key-file={}", file("accounts.key")))
        .arg(format!("--service-account-key-file={}", file("accounts.pub")))
        .arg("--service-cluster-ip-range=10.0.0.0/24")
        .arg(format!("--audit-policy-file={}", file("audit.yaml")))
        .arg(format!("--audit-log-path={}", file(AUDIT)))
        .args(["--audit-log-mode=batch", "--audit-log-maxsize=100000"])
        .args(["--endpoint-reconciler-type=none", "--profiling=false", "--v=1"]);
    Process::spawn("kube-apiserver", &mut command, &folder.join("apiserver.log"))
}

fn alive(process: &mut Process) -> Result<()> {
    match process.ended()? {
        None => Ok(()),
        Some(status) => {
            bail!("{} ended with {status}:\n{}", process.name(), process.log_tail())
        }
    }
}

/// The self-signed certificate of the server and a working configuration, once it is ready.
async fn connect(url: &str, crt: &Path, token: &str) -> Option<(String, Config)> {
    let certificate = fs::read_to_string(crt).ok()?;
    let config = config(&kubeconfig(url, &certificate, token, "default")).await.ok()?;
    let client = Client::try_from(config.clone()).ok()?;
    let ready = http::Request::get("/readyz").body(vec![]).ok()?;
    client.request_text(ready).await.ok()?;
    Some((certificate, config))
}

async fn config(kubeconfig: &str) -> Result<Config> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

/// JSON, which every reader of YAML takes.
fn kubeconfig(url: &str, certificate: &str, token: &str, namespace: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kanarie", "cluster": {
            "server": url,
            "certificate-authority-data": STANDARD.encode(certificate),
        }}],
        "users": [{"name": "kanarie", "user": {"token": token}}],
        "contexts": [{"name": "kanarie", "context": {
            "cluster": "kanarie", "user": "kanarie", "namespace": namespace,
        }}],
        "current-context": "kanarie",
    })
    .to_string()
}

/// The administrator's token and the key pair that signs service account tokens.
fn write_keys(folder: &Path, token: &str) -> Result<()> {
    fs::write(folder.join("tokens.csv"), format!("{token},admin,admin,system:masters\n"))?;
    let failed = |_| anyhow::anyhow!("make the key of the service accounts");
    let random = SystemRandom::new();
    let private =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(failed)?;
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref(), &random)
            .map_err(|_| anyhow::anyhow!("read back the key of the service accounts"))?;
    // SubjectPublicKeyInfo of RFC 5480 for id-ecPublicKey on prime256v1, up to the point itself.
    let mut public = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    public.extend_from_slice(pair.public_key().as_ref());
    fs::write(folder.join("accounts.key"), pem("PRIVATE KEY", private.as_ref()))?;
    fs::write(folder.join("accounts.pub"), pem("PUBLIC KEY", &public))?;
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn random_hex() -> Result<String> {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0u8; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("no randomness"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

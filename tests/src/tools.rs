//! The programs that tests and demo need: found where people keep them, else built once.
//!
//! Looks in `KUBEBUILDER_ASSETS`, then `PATH`, then our cache folder; what is nowhere is built
//! from the pinned Go modules of `tests/tools`, by one process while the others wait.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kanarie_fakes::programs::{installed, progress};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// A program that can be built from `tests/tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The database of the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The command line.
    Kubectl,
    /// Lints and renders the charts.
    Helm,
    /// Evaluates the Tiltfile.
    Starlark,
}

impl Tool {
    /// All of them, in the order in which they are built.
    pub const ALL: [Self; 5] =
        [Self::Etcd, Self::KubeApiserver, Self::Kubectl, Self::Helm, Self::Starlark];

    /// File name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Starlark => "starlark-recorder",
        }
    }

    /// The package and, below `tests/tools`, the module that pins it.
    fn package(self) -> (&'static str, &'static str) {
        match self {
            Self::Etcd => ("go.etcd.io/etcd/server/v3", ""),
            Self::KubeApiserver => ("k8s.io/kubernetes/cmd/kube-apiserver", ""),
            Self::Kubectl => ("k8s.io/kubernetes/cmd/kubectl", ""),
            Self::Helm => ("helm.sh/helm/v4/cmd/helm", "helm"),
            Self::Starlark => (".", "starlark"),
        }
    }

    /// A Helm or an etcd of another major version is not the one that we test with.
    fn is_usable(self, program: &Path) -> bool {
        let expected = match self {
            Self::Helm => "v4.",
            Self::Etcd | Self::KubeApiserver | Self::Kubectl | Self::Starlark => return true,
        };
        let output = Command::new(program).args(["version", "--short"]).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).starts_with(expected))
    }
}

/// Path of a program, building it when there is none.
///
/// # Errors
/// Go is missing, or the build fails.
pub fn find(tool: Tool) -> Result<PathBuf> {
    if let Some(found) = installed(tool.name()).filter(|found| tool.is_usable(found)) {
        return Ok(found);
    }
    let bin = cache_folder()?.join("bin").join(modules_digest(tool)?);
    fs::create_dir_all(&bin)?;
    let program = bin.join(tool.name());
    let lock = File::create(bin.join(format!("{}.lock", tool.name())))?;
    lock.lock().context("wait for whoever builds it")?;
    if !program.exists() {
        build(tool, &program)?;
    }
    Ok(program)
}

/// Where downloads and builds are kept between runs: `$XDG_CACHE_HOME/kanarie`.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_folder() -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => bail!("set HOME or XDG_CACHE_HOME: the built programs are kept there"),
    };
    let folder = base.join("kanarie");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn modules(tool: Tool) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(tool.package().1)
}

fn modules_digest(tool: Tool) -> Result<String> {
    let mut digest = Sha256::new();
    digest.update(fs::read(modules(tool).join("go.sum")).context("read the tool's go.sum")?);
    if let Ok(program) = fs::read(modules(tool).join("main.go")) {
        digest.update(program);
    }
    let digest = digest.finalize();
    Ok(digest[..6].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn build(tool: Tool, program: &Path) -> Result<()> {
    let name = tool.name();
    progress(&format!(
        "building {name} from its Go module, once (all take about ten minutes on two cores)"
    ));
    let unfinished = program.with_extension("new");
    let mut go = Command::new("go")
        .current_dir(modules(tool))
        .env("CGO_ENABLED", "0")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(linker_flags(tool)?)
        .arg("-o")
        .arg(&unfinished)
        .arg(tool.package().0)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| {
            format!("building {name} needs Go 1.26 or newer in PATH; or put {name} into PATH")
        })?;
    let begun = Instant::now();
    let (ended, end) = sync_channel(1);
    thread::spawn(move || ended.send(go.wait()));
    let status = loop {
        match end.recv_timeout(Duration::from_secs(15)) {
            Ok(status) => break status?,
            Err(_) => {
                progress(&format!("  still building {name}, {} s", begun.elapsed().as_secs()))
            }
        }
    };
    if !status.success() {
        bail!("go build of {name} ended with {status}");
    }
    fs::rename(&unfinished, program)?;
    progress(&format!("  built {name} in {} s", begun.elapsed().as_secs()));
    Ok(())
}

fn linker_flags(tool: Tool) -> Result<String> {
    let variable = match tool {
        Tool::Etcd | Tool::Starlark => return Ok("-s -w".to_owned()),
        Tool::KubeApiserver | Tool::Kubectl => "k8s.io/component-base/version.gitVersion",
        Tool::Helm => "helm.sh/helm/v4/internal/version.version",
    };
    let module = if tool == Tool::Helm { "helm.sh/helm/v4" } else { "k8s.io/kubernetes" };
    Ok(format!("-s -w -X={variable}={}", module_version(tool, module)?))
}

fn module_version(tool: Tool, module: &str) -> Result<String> {
    let text =
        fs::read_to_string(modules(tool).join("go.mod")).context("read the tool's go.mod")?;
    text.lines()
        .map(|line| line.trim().trim_start_matches("require "))
        .filter_map(|line| line.strip_prefix(module)?.strip_prefix(' ')?.split(' ').next())
        .map(str::to_owned)
        .next()
        .with_context(|| format!("the go.mod of {} does not name {module}", tool.name()))
}

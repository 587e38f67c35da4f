//! A control plane with Kanarie's objects on it, for the local loop.
//!
//! Takes a folder; puts the kubeconfig files of the administrator, the operator and the gateway
//! there, then a file `ready`, and serves until it is stopped. Starts no operator and no gateway.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use kanarie_tests::control_plane::ControlPlane;

/// Serves etcd and kube-apiserver with the objects of charts/install.yaml.
#[derive(Parser)]
struct Options {
    /// Where the kubeconfig files go.
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let ready = options.folder.join("ready");
    fs::create_dir_all(&options.folder)?;
    let _ = fs::remove_file(&ready);
    let plane = ControlPlane::start().await?;
    plane.install_crd().await?;
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/install.yaml");
    let bundle = fs::read_to_string(&bundle).context("read charts/install.yaml")?;
    plane.apply_yaml("default", &bundle).await?;
    for component in ["operator", "gateway"] {
        let account = format!("kanarie-{component}");
        let file = plane.kubeconfig_for_service_account("kanarie-system", &account).await?;
        fs::copy(file, options.folder.join(format!("{component}.kubeconfig")))?;
    }
    fs::copy(plane.kubeconfig(), options.folder.join("admin.kubeconfig"))?;
    fs::write(&ready, "")?;
    println!("KUBECONFIG={}", options.folder.join("admin.kubeconfig").display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}

//! Programs of this machine: where they are, and what is said while one is being made.
//!
//! Takes a name, looks in `KUBEBUILDER_ASSETS` and then in `PATH`. Never installs anything.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// A program in `KUBEBUILDER_ASSETS` or `PATH`.
pub fn installed(name: &str) -> Option<PathBuf> {
    let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    assets.into_iter().chain(env::split_paths(&path)).map(|f| f.join(name)).find(|p| p.is_file())
}

/// Writes a line of progress past the test runner's capture: builds take minutes.
pub fn progress(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

//! `make demo`: the whole story of Kanarie on this machine.
//!
//! Takes `KEEP=1` to leave everything running; ends with 0 only if all that it showed was true.

use std::process::ExitCode;

use kanarie_tests::demo;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    demo::run(keep).await
}

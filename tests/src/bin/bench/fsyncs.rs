//! How often a process makes its writes durable.
//!
//! Takes a process; counts its fsyncs with strace while something runs. That slows the process
//! down, so nothing else is measured meanwhile. Without strace nobody knows, and no harm is done.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kanarie_fakes::process::{self, Process};
use kanarie_fakes::programs::installed;
use rustix::process::Signal;
use tokio::time::sleep;

/// How often the process synced while `during` ran.
pub(crate) async fn count(
    pid: u32,
    during: impl Future<Output = Result<()>>,
) -> Result<Option<f64>> {
    let Some(strace) = installed("strace") else {
        during.await?;
        return Ok(None);
    };
    let folder = process::folder("strace")?;
    let (counts, log) = (folder.path().join("counts"), folder.path().join("log"));
    let mut command = Command::new(strace);
    command.args(["-f", "-c", "-e", "trace=fsync,fdatasync", "-o"]);
    command.arg(&counts).args(["-p", &pid.to_string()]);
    let mut tracer = Process::spawn("strace", &mut command, &log)?;
    sleep(Duration::from_secs(1)).await; // it is attached
    during.await?;
    tracer.signal(Signal::INT);
    tracer.wait()?;
    let table = fs::read_to_string(&counts).context("what strace counted")?;
    Ok(Some(table.lines().filter_map(calls).sum()))
}

/// `% time, seconds, usecs/call, calls, [errors,] syscall` of a line that names a call.
fn calls(line: &str) -> Option<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_call = words.last().is_some_and(|name| name.contains("sync"));
    if is_call { words.get(3)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn only_lines_of_calls_are_counted() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ------------------\n\
                     100.00    0.012345          41       300           fdatasync\n\
                     100.00    0.012345          41       300           total\n";
        assert_eq!(table.lines().filter_map(calls).sum::<f64>(), 300.0);
    }
}

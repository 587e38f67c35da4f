//! What a process has used so far, as the system counts it.
//!
//! Takes process ids; reads /proc and nothing else. CPU is user and system time of all its threads.

use std::fs;

use anyhow::{Context as _, Result};

/// User and system time of a process so far, in microseconds.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    let after_name = stat.rsplit(')').next().context("the name in /proc/PID/stat ends")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> Result<f64> { Ok(fields.get(at).context("a time")?.parse()?) };
    // Linux counts in hundredths of a second for every program.
    Ok((ticks(11)? + ticks(12)?) * 10_000.0)
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    memory(pid, "VmRSS:")
}

/// The most that it ever was.
pub(crate) fn peak(pid: u32) -> Result<f64> {
    memory(pid, "VmHWM:")
}

/// Bytes that a process sent to the disk so far.
pub(crate) fn written(pid: u32) -> Result<f64> {
    number(&read(pid, "io")?, "write_bytes:")
}

fn memory(pid: u32, name: &str) -> Result<f64> {
    Ok(number(&read(pid, "status")?, name)? / 1024.0)
}

fn number(text: &str, name: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next());
    number.with_context(|| format!("no {name}"))?.parse().context("a number of /proc")
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("read {path}"))
}

//! Amounts as flags write them: seconds and bytes.
//!
//! Takes the text of a flag; gives the amount, or notes what must stand there instead. Never shows a
//! value that was refused.

use std::time::Duration;

/// No balancer keeps a connection for longer than a day.
const MAX_IDLE_SECONDS: u64 = 86_400;

/// Less would not hold what runs.
const LEAST_STORE_MEMORY: u64 = 16 << 20;

/// How long an idle connection is kept.
pub(super) fn idle(text: &str, problems: &mut Vec<String>) -> Option<Duration> {
    let seconds = text.parse().ok().filter(|seconds| (1..=MAX_IDLE_SECONDS).contains(seconds));
    if seconds.is_none() {
        problems.push(format!(
            "--idle-seconds (KANARIE_IDLE_SECONDS) must be a number from 1 to {MAX_IDLE_SECONDS}"
        ));
    }
    seconds.map(Duration::from_secs)
}

/// Bytes of memory for an embedded store.
pub(super) fn store_memory(text: &str, problems: &mut Vec<String>) -> Option<u64> {
    let bytes = quantity(text).filter(|bytes| *bytes >= LEAST_STORE_MEMORY);
    if bytes.is_none() {
        problems.push(
            "--store-memory (KANARIE_STORE_MEMORY) must be 16Mi or more: a number, or one with Ki, Mi or Gi"
                .to_owned(),
        );
    }
    bytes
}

/// A number, or one with a binary suffix as Kubernetes writes it.
pub(super) fn quantity(text: &str) -> Option<u64> {
    let suffixes = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
    let suffixed =
        suffixes.into_iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)));
    let (digits, unit) = suffixed.unwrap_or((text, 1));
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(unit)
}

//! The scripts as Redis gets them: a line of flags, what several share, and the file of the verb.
//!
//! Takes and gives nothing; holds text. A script that may not run when Redis is out of memory is
//! `admit` alone: all others drain, or are needed while it drains.

use std::sync::LazyLock;

use redis::Script;

/// Joins files to one script.
macro_rules! script {
    ($flags:literal, $($file:literal),+) => {
        LazyLock::new(|| Script::new(concat!("#!lua", $flags, "\n", $(include_str!($file)),+)))
    };
}

pub(super) static ADMIT: LazyLock<Script> = script!("", "scripts/shard.lua", "scripts/admit.lua");
pub(super) static CLAIM: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/claim.lua");
pub(super) static EXTEND: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/extend.lua");
pub(super) static KEEP_RUN: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/keep_run.lua");
pub(super) static END_ATTEMPT: LazyLock<Script> = script!(
    " flags=allow-oom",
    "scripts/shard.lua",
    "scripts/evidence.lua",
    "scripts/end_attempt.lua"
);
pub(super) static COMMIT_REPLY: LazyLock<Script> = script!(
    " flags=allow-oom",
    "scripts/shard.lua",
    "scripts/evidence.lua",
    "scripts/commit_reply.lua"
);
pub(super) static MARK_SENDING: LazyLock<Script> = script!(
    " flags=allow-oom",
    "scripts/shard.lua",
    "scripts/intent.lua",
    "scripts/mark_sending.lua"
);
pub(super) static UNMARK: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/intent.lua", "scripts/unmark.lua");
pub(super) static MARK_SENT: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/intent.lua", "scripts/mark_sent.lua");
pub(super) static COMPLETE: LazyLock<Script> = script!(
    " flags=allow-oom",
    "scripts/shard.lua",
    "scripts/evidence.lua",
    "scripts/complete.lua"
);
pub(super) static RETRY: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/retry.lua");
pub(super) static RELEASE: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/release.lua");
pub(super) static BURY: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/bury.lua");
pub(super) static SWEEP: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/sweep.lua");
pub(super) static COUNTS: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/shard.lua", "scripts/counts.lua");
pub(super) static DEAD_LETTERS: LazyLock<Script> =
    script!(" flags=no-writes", "scripts/shard.lua", "scripts/dead_letters.lua");
pub(super) static RESERVE: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/time.lua", "scripts/reserve.lua");
pub(super) static HEARTBEAT: LazyLock<Script> =
    script!(" flags=allow-oom", "scripts/time.lua", "scripts/heartbeat.lua");
pub(super) static REPLICAS: LazyLock<Script> =
    script!(" flags=no-writes", "scripts/time.lua", "scripts/replicas.lua");
pub(super) static ACKNOWLEDGED: LazyLock<Script> =
    script!(" flags=no-writes", "scripts/time.lua", "scripts/acknowledged.lua");

/// Every script, for the tests.
#[cfg(test)]
pub(super) static ALL: [&LazyLock<Script>; 20] = [
    &ADMIT,
    &CLAIM,
    &EXTEND,
    &KEEP_RUN,
    &END_ATTEMPT,
    &COMMIT_REPLY,
    &MARK_SENDING,
    &UNMARK,
    &MARK_SENT,
    &COMPLETE,
    &RETRY,
    &RELEASE,
    &BURY,
    &SWEEP,
    &COUNTS,
    &DEAD_LETTERS,
    &RESERVE,
    &HEARTBEAT,
    &REPLICAS,
    &ACKNOWLEDGED,
];

#[cfg(test)]
mod tests {
    /// The files, as they stand.
    const FILES: [(&str, &str); 24] = [
        ("acknowledged", include_str!("scripts/acknowledged.lua")),
        ("admit", include_str!("scripts/admit.lua")),
        ("bury", include_str!("scripts/bury.lua")),
        ("claim", include_str!("scripts/claim.lua")),
        ("commit_reply", include_str!("scripts/commit_reply.lua")),
        ("complete", include_str!("scripts/complete.lua")),
        ("counts", include_str!("scripts/counts.lua")),
        ("dead_letters", include_str!("scripts/dead_letters.lua")),
        ("end_attempt", include_str!("scripts/end_attempt.lua")),
        ("evidence", include_str!("scripts/evidence.lua")),
        ("extend", include_str!("scripts/extend.lua")),
        ("heartbeat", include_str!("scripts/heartbeat.lua")),
        ("intent", include_str!("scripts/intent.lua")),
        ("keep_run", include_str!("scripts/keep_run.lua")),
        ("mark_sending", include_str!("scripts/mark_sending.lua")),
        ("mark_sent", include_str!("scripts/mark_sent.lua")),
        ("release", include_str!("scripts/release.lua")),
        ("replicas", include_str!("scripts/replicas.lua")),
        ("reserve", include_str!("scripts/reserve.lua")),
        ("retry", include_str!("scripts/retry.lua")),
        ("shard", include_str!("scripts/shard.lua")),
        ("sweep", include_str!("scripts/sweep.lua")),
        ("time", include_str!("scripts/time.lua")),
        ("unmark", include_str!("scripts/unmark.lua")),
    ];

    #[test]
    fn every_command_names_a_declared_key_and_nothing_else() {
        for (file, text) in FILES {
            for call in text.split("redis.call(").skip(1) {
                let mut words = call.split([',', ')']);
                let command = words.next().unwrap_or_default().trim();
                let key = words.next().unwrap_or_default().trim();
                let declared =
                    key.chars().all(|c| c.is_ascii_uppercase()) && key.chars().count() > 1;
                assert!(declared || command == "\"TIME\"", "{file}: {command} {key}");
            }
        }
    }

    #[test]
    fn a_name_in_capitals_comes_from_the_keys() {
        for (file, text) in FILES {
            for line in text.lines().filter(|line| line.trim_start().starts_with("local ")) {
                let Some((names, value)) = line.split_once('=') else { continue };
                let is_key = names
                    .trim_start()
                    .trim_start_matches("local ")
                    .chars()
                    .next()
                    .is_some_and(|c| c.is_ascii_uppercase());
                assert!(!is_key || value.contains("KEYS"), "{file}: {line}");
            }
        }
    }
}

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

pub(super) static ADMIT: LazyLock<Script> = script!("", "../shard.lua", "../admit.lua");
pub(super) static CLAIM: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../claim.lua");
pub(super) static EXTEND: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../extend.lua");
pub(super) static KEEP_RUN: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../keep_run.lua");
pub(super) static END_ATTEMPT: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../evidence.lua", "../end_attempt.lua");
pub(super) static COMMIT_REPLY: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../evidence.lua", "../commit_reply.lua");
pub(super) static MARK_SENDING: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../intent.lua", "../mark_sending.lua");
pub(super) static UNMARK: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../intent.lua", "../unmark.lua");
pub(super) static MARK_SENT: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../intent.lua", "../mark_sent.lua");
pub(super) static COMPLETE: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../evidence.lua", "../complete.lua");
pub(super) static RETRY: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../retry.lua");
pub(super) static RELEASE: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../release.lua");
pub(super) static BURY: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../bury.lua");
pub(super) static SWEEP: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../sweep.lua");
pub(super) static COUNTS: LazyLock<Script> =
    script!(" flags=allow-oom", "../shard.lua", "../counts.lua");
pub(super) static DEAD_LETTERS: LazyLock<Script> =
    script!(" flags=no-writes", "../shard.lua", "../dead_letters.lua");
pub(super) static RESERVE: LazyLock<Script> =
    script!(" flags=allow-oom", "../time.lua", "../reserve.lua");
pub(super) static HEARTBEAT: LazyLock<Script> =
    script!(" flags=allow-oom", "../time.lua", "../heartbeat.lua");
pub(super) static REPLICAS: LazyLock<Script> =
    script!(" flags=no-writes", "../time.lua", "../replicas.lua");
pub(super) static ACKNOWLEDGED: LazyLock<Script> =
    script!(" flags=no-writes", "../time.lua", "../acknowledged.lua");

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
        ("acknowledged", include_str!("../acknowledged.lua")),
        ("admit", include_str!("../admit.lua")),
        ("bury", include_str!("../bury.lua")),
        ("claim", include_str!("../claim.lua")),
        ("commit_reply", include_str!("../commit_reply.lua")),
        ("complete", include_str!("../complete.lua")),
        ("counts", include_str!("../counts.lua")),
        ("dead_letters", include_str!("../dead_letters.lua")),
        ("end_attempt", include_str!("../end_attempt.lua")),
        ("evidence", include_str!("../evidence.lua")),
        ("extend", include_str!("../extend.lua")),
        ("heartbeat", include_str!("../heartbeat.lua")),
        ("intent", include_str!("../intent.lua")),
        ("keep_run", include_str!("../keep_run.lua")),
        ("mark_sending", include_str!("../mark_sending.lua")),
        ("mark_sent", include_str!("../mark_sent.lua")),
        ("release", include_str!("../release.lua")),
        ("replicas", include_str!("../replicas.lua")),
        ("reserve", include_str!("../reserve.lua")),
        ("retry", include_str!("../retry.lua")),
        ("shard", include_str!("../shard.lua")),
        ("sweep", include_str!("../sweep.lua")),
        ("time", include_str!("../time.lua")),
        ("unmark", include_str!("../unmark.lua")),
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

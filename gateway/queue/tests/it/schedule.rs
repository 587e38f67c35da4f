//! Random schedules: what workers, customers, Twilio and time may do, in any order.

use kanarie_queue::outcome::Evidence;
use kanarie_words::class::Class;
use kanarie_words::track::Track;
use proptest::prelude::{Just, Strategy, prop_oneof};

use crate::words::LEASE_MS;

pub(crate) const WINDOW_MS: u64 = 60_000;
/// How long after a mark a listing may first miss its POST.
pub(crate) const SETTLE_MS: u64 = 20_000;
/// How long after that a second one refutes it.
pub(crate) const RELIST_MS: u64 = 60_000;

/// One step of a schedule; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A worker that brings the message wants its lease at once.
    Admit {
        sid: u32,
        anew: bool,
        worker: Option<usize>,
    },
    Claim {
        worker: usize,
        shard: u8,
    },
    /// In a hurry, it marks with the commit and claims with the end.
    Work {
        worker: usize,
        luck: Luck,
        hurry: bool,
    },
    Retry {
        worker: usize,
        delay_ms: u64,
        counted: bool,
    },
    Release {
        worker: usize,
    },
    Park {
        worker: usize,
        until_ms: u64,
        probe_ms: u64,
    },
    Wake {
        number: usize,
    },
    Isolate {
        worker: usize,
    },
    EndAttempt {
        worker: usize,
        evidence: Option<Evidence>,
    },
    /// The canary of a serving fails, and stable wants no reply.
    Rescue {
        worker: usize,
        serving: u64,
    },
    Bury {
        worker: usize,
    },
    /// The dead letters of a shard, from the nth on.
    Replay {
        shard: u8,
        nth: usize,
    },
    EraseLetter {
        shard: u8,
        nth: usize,
    },
    EraseConversation {
        number: usize,
    },
    Extend {
        worker: usize,
    },
    Crash {
        worker: usize,
    },
    Callback {
        post: usize,
    },
    Pass {
        ms: u64,
    },
    /// The clock is set a day ahead, or put back again.
    Jump,
    Restart,
    Sweep,
}

/// What happens to a POST.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Luck {
    Answered,
    AnswerLost,
    NeverLeft,
    DiedAfter,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let luck = prop_oneof![
        4 => Just(Luck::Answered),
        1 => Just(Luck::AnswerLost),
        1 => Just(Luck::NeverLeft),
        1 => Just(Luck::DiedAfter),
    ];
    let pass = prop_oneof![0..3_000_u64, Just(LEASE_MS), Just(SETTLE_MS), Just(WINDOW_MS)];
    let worker = || 0..3_usize;
    prop_oneof![
        6 => (0..12_u32, proptest::bool::weighted(0.2), proptest::option::of(worker()))
            .prop_map(|(sid, anew, worker)| Step::Admit { sid, anew, worker }),
        6 => (worker(), 1..3_u8).prop_map(|(worker, shard)| Step::Claim { worker, shard }),
        12 => (worker(), luck, proptest::bool::ANY)
            .prop_map(|(worker, luck, hurry)| Step::Work { worker, luck, hurry }),
        1 => (worker(), 0..30_000_u64, proptest::bool::ANY)
            .prop_map(|(worker, delay_ms, counted)| Step::Retry { worker, delay_ms, counted }),
        1 => worker().prop_map(|worker| Step::Release { worker }),
        2 => (worker(), 0..100_000_u64, 0..30_000_u64)
            .prop_map(|(worker, until_ms, probe_ms)| Step::Park { worker, until_ms, probe_ms }),
        1 => (0..3_usize).prop_map(|number| Step::Wake { number }),
        1 => worker().prop_map(|worker| Step::Isolate { worker }),
        2 => (worker(), proptest::option::weighted(0.8, evidence()))
            .prop_map(|(worker, evidence)| Step::EndAttempt { worker, evidence }),
        6 => (worker(), 3..5_u64).prop_map(|(worker, serving)| Step::Rescue { worker, serving }),
        3 => worker().prop_map(|worker| Step::Bury { worker }),
        3 => (1..3_u8, 0..3_usize).prop_map(|(shard, nth)| Step::Replay { shard, nth }),
        1 => (1..3_u8, 0..3_usize).prop_map(|(shard, nth)| Step::EraseLetter { shard, nth }),
        1 => (0..3_usize).prop_map(|number| Step::EraseConversation { number }),
        1 => worker().prop_map(|worker| Step::Extend { worker }),
        1 => worker().prop_map(|worker| Step::Crash { worker }),
        2 => (0..8_usize).prop_map(|post| Step::Callback { post }),
        5 => pass.prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Jump),
        1 => Just(Step::Restart),
        1 => Just(Step::Sweep),
    ]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    let track = prop_oneof![Just(Track::Stable), Just(Track::Canary)];
    let class = prop_oneof![Just(Class::Success), Just(Class::Http)];
    (1..6_u64, track, class).prop_map(|(serving, track, class)| Evidence { serving, track, class })
}

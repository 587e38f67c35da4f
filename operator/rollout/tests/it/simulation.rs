//! How often the verdict is wrong, and how soon it is right: whole rollouts with drawn traffic
//! through the real `decide`, bake included. The seeds are fixed, so the figures are too.
//!
//! Messages arrive one by one (exponential gaps), fall on the canary with the probability of the
//! weight and fail with the probability of their track. `decide` looks after every failure and
//! once a minute: more often than this no verdict can change, so it is the strictest reading of a
//! test that may be looked at as often as one likes. `cargo test … -- --nocapture` shows the figures.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use kanarie_rollout::decide::decide;
use kanarie_rollout::observation::{LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::policy::Policy;
use kanarie_rollout::state::State;
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::ServingTally;
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;

const REPLICATES: usize = 2_000;
const DAY_MS: f64 = 86_400_000.0;
const DEFAULT_STEPS: [(u8, u32); 3] = [(10, 3600), (50, 7200), (100, 3600)];

/// Error rates of a drawn world, by time in milliseconds and present weight.
struct Rates {
    stable: fn(f64) -> f64,
    canary: fn(f64, u8) -> f64,
}

/// How a rollout ended.
struct Ending {
    /// Whether the canary became stable, was rolled back, or neither within the time given.
    word: &'static str,
    /// Failed canary messages of the last step, the one that was rolled back.
    failures: u64,
}

#[test]
fn a_healthy_canary_is_rolled_back_in_at_most_one_rollout_of_a_hundred() {
    let healthy = Rates { stable: |_| 0.005, canary: |_, _| 0.005 };
    for per_minute in [20.0, 60.0] {
        let endings = simulate(per_minute, &DEFAULT_STEPS, &healthy, DAY_MS);
        let [rolled_back, promoted] = count(&endings);
        println!(
            "healthy, 0.5 % on both tracks, {per_minute} a minute: {rolled_back} rolled back, \
             {promoted} promoted of {REPLICATES}"
        );
        assert!(rolled_back <= 20, "{rolled_back} false rollbacks at {per_minute} a minute");
        assert!(promoted >= REPLICATES * 9 / 10, "only {promoted} promoted");
    }
}

#[test]
fn a_canary_exactly_at_the_limit_meets_both_tests_and_stays_within_both_bounds() {
    let at_limit = Rates { stable: |_| 0.01, canary: |_, _| 0.01 };
    for per_minute in [20.0, 60.0] {
        let [rolled_back, promoted] =
            count(&simulate(per_minute, &DEFAULT_STEPS, &at_limit, DAY_MS / 4.0));
        println!(
            "1 % on both tracks, {per_minute} a minute: {rolled_back} rolled back, {promoted} \
             promoted of {REPLICATES}"
        );
        assert!(rolled_back <= REPLICATES / 50, "{rolled_back} at {per_minute} a minute");
    }
}

#[test]
fn an_outage_of_both_tracks_does_not_take_a_healthy_canary_back() {
    let shared = Rates {
        stable: |at| if (360_000.0..660_000.0).contains(&at) { 0.3 } else { 0.005 },
        canary: |at, _| if (360_000.0..660_000.0).contains(&at) { 0.3 } else { 0.005 },
    };
    for per_minute in [20.0, 60.0] {
        let [rolled_back, _] = count(&simulate(per_minute, &DEFAULT_STEPS, &shared, DAY_MS));
        println!("shared outage, {per_minute} a minute: {rolled_back} rolled back of {REPLICATES}");
        assert!(rolled_back <= 20, "{rolled_back} false rollbacks at {per_minute} a minute");
    }
}

#[test]
fn a_canary_with_five_percent_errors_is_hardly_ever_promoted() {
    let bad = Rates { stable: |_| 0.005, canary: |_, _| 0.05 };
    for per_minute in [20.0, 60.0] {
        let [rolled_back, promoted] = count(&simulate(per_minute, &DEFAULT_STEPS, &bad, DAY_MS));
        println!(
            "5 % against 0.5 %, {per_minute} a minute: {rolled_back} rolled back, {promoted} \
             promoted of {REPLICATES}"
        );
        assert!(promoted <= REPLICATES / 200, "{promoted} missed at {per_minute} a minute");
    }
}

#[test]
fn a_dead_canary_is_gone_after_a_few_judged_failures() {
    let dead = Rates { stable: |_| 0.005, canary: |_, _| 1.0 };
    let dead_from_50 =
        Rates { stable: |_| 0.005, canary: |_, weight| if weight < 50 { 0.005 } else { 1.0 } };
    for per_minute in [20.0, 60.0] {
        let at_10 = failures(&simulate(per_minute, &DEFAULT_STEPS, &dead, DAY_MS));
        let first_50 = failures(&simulate(per_minute, &DEFAULT_STEPS[1..], &dead, DAY_MS));
        let later_50 = failures(&simulate(per_minute, &DEFAULT_STEPS, &dead_from_50, DAY_MS));
        for (what, failures) in [
            ("at 10 %", &at_10),
            ("at 50 % as the first step", &first_50),
            ("at 50 % after a good step at 10 %", &later_50),
        ] {
            println!(
                "dead {what}, {per_minute} a minute: gone after a median of {} judged failures, \
                 99 of 100 after at most {}",
                quantile(failures, 0.5),
                quantile(failures, 0.99),
            );
        }
        assert!((3..=6).contains(&quantile(&at_10, 0.5)));
        assert!(quantile(&first_50, 0.5) <= 12);
        assert!(quantile(&later_50, 0.5) <= 12);
    }
}

#[test]
fn a_canary_that_dies_in_the_middle_of_a_step_is_gone_too() {
    let dies =
        Rates { stable: |_| 0.005, canary: |at, _| if at < 1_800_000.0 { 0.005 } else { 1.0 } };
    for per_minute in [20.0, 60.0] {
        for (steps, limit) in [(&DEFAULT_STEPS[..], 15), (&DEFAULT_STEPS[1..], 30)] {
            let failures = failures(&simulate(per_minute, steps, &dies, DAY_MS));
            println!(
                "dead after 30 min at {} %, {per_minute} a minute: gone after a median of {}",
                steps[0].0,
                quantile(&failures, 0.5),
            );
            assert!(quantile(&failures, 0.5) <= limit);
        }
    }
}

#[test]
fn a_canary_that_dies_in_its_bake_is_gone_after_a_few_judged_failures() {
    let dies =
        Rates { stable: |_| 0.005, canary: |_, weight| if weight < 100 { 0.005 } else { 1.0 } };
    let failures = failures(&simulate(20.0, &DEFAULT_STEPS, &dies, DAY_MS));
    println!(
        "dead in the bake: gone after a median of {} judged failures",
        quantile(&failures, 0.5)
    );
    assert!(quantile(&failures, 0.5) <= 6);
}

fn simulate(per_minute: f64, steps: &[(u8, u32)], rates: &Rates, until_ms: f64) -> Vec<Ending> {
    let mut seeds = Draws(0x006b_616e_6172_6965);
    (0..REPLICATES)
        .map(|_| rollout(Draws(seeds.next()), per_minute, steps, rates, until_ms))
        .collect()
}

fn rollout(
    mut draws: Draws,
    per_minute: f64,
    steps: &[(u8, u32)],
    rates: &Rates,
    until_ms: f64,
) -> Ending {
    let mut world = World::new(steps);
    let (mut at, mut next_look) = (0.0, 0.0);
    while at < until_ms {
        at -= draws.share().ln() * 60_000.0 / per_minute;
        while next_look < at {
            world.look(next_look);
            next_look += 60_000.0;
        }
        if let Some(ending) = world.ending() {
            return ending;
        }
        let weight = world.state.split().weight;
        let on_canary = draws.share() < weight.share();
        let rate =
            if on_canary { (rates.canary)(at, weight.percent()) } else { (rates.stable)(at) };
        let failed = draws.share() < rate;
        let tally = if on_canary { &mut world.counts.canary } else { &mut world.counts.stable };
        if failed {
            tally.http += 1;
            world.look(at);
        } else {
            tally.success += 1;
        }
        if let Some(ending) = world.ending() {
            return ending;
        }
    }
    Ending { word: "neither", failures: 0 }
}

/// A channel with one gateway that obeys at once.
struct World {
    state: State,
    seen: Observation,
    counts: ServingTally,
}

impl World {
    fn new(steps: &[(u8, u32)]) -> Self {
        let steps = steps.iter().map(|&(weight, hold_seconds)| Step {
            weight: Weight::new(weight).unwrap(),
            hold_seconds,
        });
        let policy = Policy {
            steps: Steps::new(steps.collect()).unwrap(),
            max_error_basis_points: 100,
            min_messages: 50,
            max_latency_ms: None,
            interval_seconds: 5,
            on_failure: OnFailure::Rollback,
            retry_on_stable: true,
            progress_deadline_seconds: 864_000,
        };
        let store = StoreAnswer {
            epoch: "e".parse().unwrap(),
            at: Timestamp(0),
            replicas: vec![LiveReplica { name: "gateway-0".parse().unwrap(), serving: Some(1) }],
            evidence: Vec::new(),
        };
        Self {
            state: State::first("r1".parse().unwrap(), Timestamp(0)),
            seen: Observation {
                desired: "r2".parse().unwrap(),
                policy,
                mode: Mode::Automatic,
                paused: false,
                command: None,
                store: Some(store),
            },
            counts: ServingTally::default(),
        }
    }

    /// Decides until nothing changes any more.
    fn look(&mut self, at: f64) {
        loop {
            let serving = self.state.serving;
            if self.counts.serving != serving {
                self.counts = ServingTally { serving, ..ServingTally::default() };
            }
            let store = self.seen.store.as_mut().unwrap();
            let now = Timestamp(at as u64);
            store.at = now;
            store.replicas[0].serving = Some(serving);
            store.evidence.clear();
            store.evidence.push(self.counts);
            let next = decide(&self.state, &self.seen, now).next;
            if next == self.state {
                return;
            }
            let ended = next.rolling().is_none();
            self.state = next;
            if ended {
                return;
            }
        }
    }

    fn ending(&self) -> Option<Ending> {
        let word = match self.state.history[0].reason.as_str() {
            "Completed" => "promoted",
            "RolledBack" => "rolled back",
            _ => return None,
        };
        Some(Ending { word, failures: self.counts.canary.failures() })
    }
}

fn count(endings: &[Ending]) -> [usize; 2] {
    ["rolled back", "promoted"]
        .map(|word| endings.iter().filter(|ending| ending.word == word).count())
}

fn failures(endings: &[Ending]) -> Vec<u64> {
    let mut failures: Vec<u64> = endings
        .iter()
        .filter(|ending| ending.word == "rolled back")
        .map(|ending| ending.failures)
        .collect();
    assert!(failures.len() >= endings.len() * 95 / 100, "only {} rolled back", failures.len());
    failures.sort_unstable();
    failures
}

fn quantile(sorted: &[u64], share: f64) -> u64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// SplitMix64: small, seeded, and good enough for drawing messages.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between 0, excluded, and 1, included.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }
}

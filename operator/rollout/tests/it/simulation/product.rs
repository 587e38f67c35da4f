//! The product as a pilot: the production `decide`, looking as often as it asks to.

use kanarie_rollout::analysis::{Finding, Verdict};
use kanarie_rollout::decide::decide;
use kanarie_rollout::moment::StoreTime;
use kanarie_rollout::observation::{LiveReplica, Mode, Observation, StoreAnswer};
use kanarie_rollout::policy::Policy;
use kanarie_rollout::segments::STARTS;
use kanarie_rollout::state::{Phase, Rolling, Stage, State};
use kanarie_rollout::steps::{Step, Steps};
use kanarie_rollout::tally::{ServingTally, Sum};
use kanarie_words::on_failure::OnFailure;
use kanarie_words::timestamp::Timestamp;
use kanarie_words::weight::Weight;

use crate::simulation::draws::Draws;
use crate::simulation::pilot::{Ending, Look, Pilot, Route};
use crate::simulation::setting::Setting;
use crate::simulation::store::Troubles;

/// The default steps: weight and seconds.
pub(crate) const STEPS: [(u8, u32); 3] = [(10, 3_600), (50, 7_200), (100, 3_600)];
/// The same with a step in which too few are left for stable to be a control.
pub(crate) const STEEP: [(u8, u32); 3] = [(10, 3_600), (80, 7_200), (100, 3_600)];
/// Longest time between two decisions that are made although nothing can have changed.
const IDLE_MS: u64 = 300_000;

/// When it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    /// As often as it asks to.
    Every,
    /// Three in ten are missing, and every half hour or so there is none for minutes.
    Gaps,
}

/// A time in which a person has the rollout: at a weight, or paused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByHand {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) weight: Option<u8>,
}

/// What a decision that changed nothing saw, and what must come for another one to change something.
#[derive(Clone, Copy, Debug)]
struct Idle {
    troubles: Troubles,
    /// How many outcomes of the canary there are to be before a step can pass.
    outcomes: u64,
    /// Until when nothing changes by time alone.
    until: u64,
    /// Whether nothing that is counted changes anything: a person has the weight.
    by_hand: bool,
    /// Whether a rescue says nothing: there is a control.
    is_controlled: bool,
    /// The weight that the customers do not match.
    mismatch: Option<f64>,
    /// What stable had been asked under the present serving when its segment was cut, and the error rate
    /// over which it may suffer.
    stable: (Sum, u32),
}

/// An operator with one channel.
#[derive(Clone)]
pub(crate) struct Product {
    state: State,
    seen: Observation,
    by_hand: Vec<ByHand>,
    looks: Looks,
    chance: Draws,
    /// Whether every look decides, also where nothing can have changed.
    eager: bool,
    /// What the last decision saw, if it changed nothing.
    idle: Option<Idle>,
    pub(crate) decisions: u64,
    pub(crate) last: String,
    /// What was said at each change, if somebody wants to know.
    pub(crate) told: Option<Vec<(u64, String)>>,
    cuts_at_trigger: bool,
    /// What was counted at the look before.
    before: Vec<ServingTally>,
}

impl Product {
    pub(crate) fn new(
        setting: &Setting,
        by_hand: Vec<ByHand>,
        replicas: usize,
        chance: Draws,
    ) -> Self {
        let name = |index: usize| format!("gateway-{index}").parse().unwrap();
        let replicas = (0..replicas).map(|index| LiveReplica { name: name(index), serving: None });
        let store = StoreAnswer {
            epoch: "e".parse().unwrap(),
            at: StoreTime(0),
            replicas: replicas.collect(),
            evidence: Vec::new(),
        };
        Self {
            state: State::first("r1".parse().unwrap(), Timestamp(0)),
            seen: Observation {
                generation: 0,
                desired: Some("r2".parse().unwrap()),
                policy: policy(setting.steps, setting.timeouts_ms.0),
                mode: Mode::Automatic,
                paused: false,
                rollback_window_seconds: 86_400,
                command: None,
                store: Some(store),
            },
            by_hand,
            looks: setting.looks,
            chance,
            eager: false,
            idle: None,
            decisions: 0,
            last: String::new(),
            told: None,
            cuts_at_trigger: false,
            before: Vec::new(),
        }
    }

    /// Decides at every look.
    pub(crate) fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Cuts a segment, with new mass, whenever the canary was seen to fail: a judge that is broken.
    pub(crate) fn cutting_at_its_trigger(mut self) -> Self {
        self.cuts_at_trigger = true;
        self
    }

    /// Keeps what it says.
    pub(crate) fn telling(mut self) -> Self {
        self.told = Some(Vec::new());
        self
    }

    /// Whether both remember the same.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        self.state == other.state
    }

    fn observe(&mut self, look: Look<'_>) {
        let by_hand = self.by_hand.iter().find(|one| (one.from..one.until).contains(&look.at));
        let moved = by_hand.and_then(|one| one.weight);
        self.seen.mode = moved.map_or(Mode::Automatic, |percent| Mode::Manual(weight(percent)));
        self.seen.paused = by_hand.is_some_and(|one| one.weight.is_none());
        let store = self.seen.store.as_mut().unwrap();
        store.at = StoreTime(look.at);
        for (replica, obeyed) in store.replicas.iter_mut().zip(look.obeyed) {
            replica.serving = Some(*obeyed);
        }
        store.evidence.clear();
        store.evidence.extend_from_slice(&look.store.servings);
    }

    /// Whether nothing can have changed since the last decision.
    fn is_idle(&self, look: Look<'_>) -> bool {
        let Some(idle) = self.idle.filter(|idle| look.at < idle.until && !self.eager) else {
            return false;
        };
        let (now, then) = (look.store.troubles, idle.troubles);
        if idle.by_hand {
            true
        } else if self.before_the_end(look.at) {
            // Until then stable's failures speak for the canary, unless they are an outage.
            let alike =
                now.canary == then.canary && (idle.is_controlled || now.rescues == then.rescues);
            alike
                && (now.stable == then.stable
                    || !self.stable_fails(look.store.servings.as_slice(), idle))
        } else if let Some(weight) = idle.mismatch {
            let alike = now.canary == then.canary && now.rescues == then.rescues;
            alike && !self.stable_fails(&look.store.servings, idle) && self.mismatches(look, weight)
        } else {
            now == then && look.store.outcomes < idle.outcomes
        }
    }

    /// Whether the customers certainly do not match the weight: by one of the six ratios alone that the
    /// judge asks for a thousand in all.
    fn mismatches(&self, look: Look<'_>, weight: f64) -> bool {
        let present = look.store.servings.iter().find(|one| one.serving == self.state.serving);
        let asked = |one: &ServingTally| (one.canary.customers.asked, one.stable.customers.asked);
        let (ours, theirs) = present.map(asked).unwrap_or_default();
        let (ours, all) = (ours as f64, (ours + theirs) as f64);
        let ratio: f64 = if ours < all * weight { 0.5 } else { 2.0 };
        let likelier = ours * ratio.ln() - all * (1.0 - weight + weight * ratio).ln();
        (ours / all - weight).abs() > 0.101 * weight && likelier > 6_001_f64.ln()
    }

    /// Whether the hold has long to run: then no success changes anything.
    fn before_the_end(&self, at: u64) -> bool {
        let Some(rolling) = self.state.rolling() else { return false };
        let (Some(hold), Some(index)) = (rolling.hold(), rolling.step_index()) else {
            return false;
        };
        at + 2 * rolling.policy.lately_ms() < hold.began.store.0 + hold_ms(rolling, index)
    }

    /// Until when nothing changes by time alone; `is_young` when a step waits for time alone.
    fn idle_until(&self, at: u64, is_young: bool) -> u64 {
        let Some(rolling) = self.state.rolling() else { return at };
        let moves = self.by_hand.iter().flat_map(|one| [one.from, one.until]);
        let moved = moves.filter(|moved| *moved > at).min().unwrap_or(u64::MAX);
        let (hold, starts, index) = match &rolling.stage {
            Stage::Step { hold: Some(hold), starts, index, .. } => (hold, starts, index),
            Stage::Manual { .. } => return moved,
            Stage::Step { hold: None, .. } | Stage::Failed { .. } => return at,
        };
        if hold.degraded.is_some() || is_young {
            return at;
        }
        let (began, hold_ms) = (hold.began.store.0, hold_ms(rolling, *index));
        let used = u64::from(starts.saturating_sub(hold.starts_before));
        let cut = began + ((used + 1) * hold_ms).div_ceil(u64::from(STARTS));
        let cut = cut.max(hold.cut.store.0 + 60_000);
        let cut = if *starts < STARTS { cut } else { u64::MAX };
        let lately_ms = rolling.policy.lately_ms();
        let last_look = hold.looks.first().map_or(began, |look| look.at.store.0);
        let next = if self.before_the_end(at) {
            began + hold_ms - 2 * lately_ms
        } else if at < began + hold_ms {
            at
        } else {
            last_look + lately_ms
        };
        (at + IDLE_MS).min(cut).min(next).min(moved)
    }

    /// Whether stable fails so much that it may be an outage.
    fn stable_fails(&self, counted: &[ServingTally], idle: Idle) -> bool {
        let (before, most) = idle.stable;
        let present = counted.iter().find(|one| one.serving == self.state.serving);
        present.is_some_and(|one| one.stable.sum().minus(before).is_over(most))
    }

    /// What a decision that changed nothing has seen.
    fn idle(&self, look: Look<'_>, verdict: Option<&Verdict>) -> Option<Idle> {
        let finding = verdict.map(|verdict| verdict.finding);
        let rolling = self.state.rolling()?;
        let is_mismatch = finding == Some(Finding::SampleRatioMismatch);
        let settled = [Finding::TooFew, Finding::OverLimit, Finding::SharedDegradation];
        let is_young = !self.before_the_end(look.at)
            && !is_mismatch
            && !finding.is_some_and(|finding| settled.contains(&finding));
        let missing = verdict.map_or(0, |verdict| verdict.numbers.missing);
        let segments = rolling.segments.as_slice();
        let last = segments.last()?;
        let earlier =
            segments[..segments.len() - 1].iter().filter(|one| one.serving == last.serving);
        let stable = earlier.fold(Sum::default(), |sum, one| sum.plus(one.stable));
        let idle = Idle {
            troubles: look.store.troubles,
            // One fewer than are missing: that number is rounded.
            outcomes: look.store.outcomes + missing.saturating_sub(1).max(1),
            until: self.idle_until(look.at, is_young),
            by_hand: matches!(rolling.stage, Stage::Manual { .. }),
            is_controlled: last.weight.percent() < 75 && !is_mismatch,
            mismatch: is_mismatch.then(|| last.weight.share()),
            stable: (stable, rolling.policy.certified(last.limit)),
        };
        // While it fails a success of its own may show it as an outage.
        (idle.by_hand || !self.stable_fails(&look.store.servings, idle)).then_some(idle)
    }

    /// Cuts where the last look left off when the canary has failed somebody since: the failure that made
    /// it cut is the first thing that the new segment holds against the canary. And forgets what mass it gave.
    fn cut_at_trigger(&mut self) {
        let counted = self.seen.store.as_ref().unwrap().evidence.clone();
        let before = std::mem::replace(&mut self.before, counted);
        let Phase::Rolling(rolling) = &mut self.state.phase else { return };
        let failed = |counted: &[ServingTally]| {
            counted.iter().map(|one| one.canary.customers.failed).sum::<u64>()
        };
        if failed(&self.before) > failed(&before) {
            let mut kept = serde_json::to_value(rolling.segments.with(&before)).unwrap();
            kept["spent"] = 0.into();
            rolling.segments = serde_json::from_value(kept).unwrap();
            rolling.segments.cut(STARTS, rolling.policy.steps.count());
        }
    }
}

impl Pilot for Product {
    fn look(&mut self, look: Look<'_>) -> u64 {
        let interval = 5_000;
        if self.looks == Looks::Gaps {
            if self.chance.chance(0.003) {
                return look.at + self.chance.between(60_000, 300_000);
            }
            if self.chance.chance(0.3) {
                return look.at + interval;
            }
        }
        if self.is_idle(look) {
            return look.at + interval;
        }
        self.observe(look);
        self.decisions += 1;
        if self.cuts_at_trigger {
            self.cut_at_trigger();
        }
        let decision = decide(&self.state, &self.seen, Timestamp(look.at));
        let changed = decision.next != self.state;
        let transition = decision.next.transition != self.state.transition;
        if self.told.is_some() {
            self.last = decision.why.to_string();
        }
        if let (Some(told), true) = (&mut self.told, transition) {
            told.push((look.at, format!("{}: {}", decision.why.reason(), decision.why)));
        }
        self.state = decision.next;
        // Older ones are for people: what begins rests on the last one alone.
        self.state.history.truncate(1);
        self.idle = if changed { None } else { self.idle(look, decision.verdict.as_ref()) };
        look.at + u64::try_from(decision.requeue.as_millis()).unwrap()
    }

    fn route(&self) -> Route {
        let split = self.state.split();
        let weight = split.canary.map(|_| split.weight.percent());
        Route { serving: self.state.serving, weight }
    }

    fn ending(&self) -> Option<Ending> {
        match &self.state.phase {
            Phase::Stable { stable, .. } if Some(stable) == self.seen.desired.as_ref() => {
                Some(Ending::Promoted)
            }
            _ if !self.state.rejected.is_empty() => Some(Ending::Rejected),
            _ => None,
        }
    }
}

fn hold_ms(rolling: &Rolling, step: usize) -> u64 {
    rolling.policy.steps.get(step).map_or(0, |step| u64::from(step.hold_seconds) * 1000)
}

fn weight(percent: u8) -> Weight {
    Weight::new(percent).unwrap()
}

/// The policy that a channel has when it says nothing else.
pub(crate) fn policy(steps: [(u8, u32); 3], timeout_ms: u64) -> Policy {
    let steps = steps.map(|(percent, hold_seconds)| Step { weight: weight(percent), hold_seconds });
    Policy {
        steps: Steps::new(steps.to_vec()).unwrap(),
        max_error_basis_points: 100,
        certify_basis_points: None,
        min_messages: 50,
        max_latency_ms: None,
        timeout_seconds: (timeout_ms / 1000) as u32,
        interval_seconds: 5,
        on_failure: OnFailure::Rollback,
        retry_on_stable: true,
        progress_deadline_seconds: 864_000,
    }
}

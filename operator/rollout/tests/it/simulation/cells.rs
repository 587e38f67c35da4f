//! The cells of the table: what is wrong, and what must not follow from it.

use crate::simulation::draws::Draws;
use crate::simulation::product::{Looks, STEEP, STEPS};
use crate::simulation::setting::{Begins, Fault, HOUR_MS, MINUTE_MS, Person, Setting};
use crate::simulation::world::TIMEOUT_MS;

/// Messages a minute.
pub(crate) const LEVELS: [u32; 5] = [5, 20, 60, 200, 500];

/// How long a rollout is watched; one that has not ended by then is held.
pub(crate) const HORIZON_MS: u64 = 24 * HOUR_MS;
/// The same where nothing can end it.
const STUCK_MS: u64 = 6 * HOUR_MS;
/// Customers that a dead canary may fail at each weight, at the median and by proof alone.
pub(crate) const PROMISED: [(u8, f64); 3] = [(10, 6.0), (50, 16.0), (100, 8.0)];
/// One interval, and the time until every gateway obeys.
pub(crate) const SECONDS_OF_A_LOOK: f64 = 5.9;
/// How long stable takes to answer, at the mean: in the bake a failure counts only then.
pub(crate) const SECONDS_OF_A_RESCUE: f64 = 2.0;
/// The agent's deadline: so long nothing is known of those who wait for it.
pub(crate) const SECONDS_OF_A_HANG: f64 = 60.0;

/// What is wrong in a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, but for messages that fail on both tracks.
    Healthy { base: f64 },
    /// So many customers fail on both tracks, whatever they write.
    Broken { customers: usize },
    /// An outage of both tracks, in a step.
    Outage { share: f64, step: usize },
    /// The canary fails so many messages from the beginning.
    Bad { share: f64 },
    /// The canary dies at a time that is uniform over the rollout.
    Dies { hangs: bool, once: bool },
    /// It dies within the last two minutes before it would be promoted.
    DiesLate { hangs: bool },
    /// An outage of both tracks, in each bake.
    OutageAgain { share: f64 },
    /// Both tracks hang for some minutes in a step, and the canary's deadline is a third of stable's.
    HangOfBoth { step: usize },
    /// With a step of 80 %, healthy or with an outage of both in that step.
    Steep { outage: f64 },
    /// With a step of 80 %, the canary dies at a time that is uniform over the rollout.
    SteepDies,
    /// Healthy, and a person moves the weight now and then; so many customers fail on both tracks.
    ByHand { broken: usize },
    /// Healthy, and a person pauses the rollout whenever a hold is about to end.
    Paused,
    /// The canary dies while a person has paused the rollout just before it would be promoted, or soon
    /// after.
    DiesPaused,
    /// Healthy, and looks are missing.
    Skipped,
    /// The canary fails one in twenty, and looks are missing.
    BadSkipped,
    /// Healthy, and the canary's share of the customers is another one than its weight.
    Share { factor: f64 },
}

impl Kind {
    /// Every kind, in the order of the table.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Healthy { base: 0.005 }, Self::Healthy { base: 0.02 }];
        all.extend([1, 3, 10].map(|customers| Self::Broken { customers }));
        for share in [1.0, 0.3] {
            all.extend([0, 1, 2].map(|step| Self::Outage { share, step }));
        }
        all.extend([0.01, 0.05, 0.2, 1.0].map(|share| Self::Bad { share }));
        for once in [false, true] {
            all.extend([false, true].map(|hangs| Self::Dies { hangs, once }));
        }
        all.extend([false, true].map(|hangs| Self::DiesLate { hangs }));
        all.extend([Self::ByHand { broken: 0 }, Self::Skipped, Self::BadSkipped]);
        all.extend([0.5, 2.0].map(|factor| Self::Share { factor }));
        all.extend([1.0, 0.3].map(|share| Self::OutageAgain { share }));
        all.extend([0, 1].map(|step| Self::HangOfBoth { step }));
        all.extend([Self::Steep { outage: 0.0 }, Self::Steep { outage: 0.3 }, Self::SteepDies]);
        all.extend([Self::ByHand { broken: 10 }, Self::Paused, Self::DiesPaused]);
        all
    }

    /// Messages a minute with which it is played.
    pub(crate) fn levels(self) -> &'static [u32] {
        match self {
            Self::OutageAgain { .. }
            | Self::HangOfBoth { .. }
            | Self::Steep { .. }
            | Self::SteepDies
            | Self::ByHand { broken: 10 }
            | Self::Paused
            | Self::DiesPaused => &[20, 200],
            _ => &LEVELS,
        }
    }

    /// Weights and seconds of the product.
    pub(crate) fn steps(self) -> [(u8, u32); 3] {
        if matches!(self, Self::Steep { .. } | Self::SteepDies) { STEEP } else { STEPS }
    }

    pub(crate) fn name(self) -> String {
        let percent = |share: f64| format!("{} %", share * 100.0);
        match self {
            Self::Healthy { base } => format!("healthy, {} fail on both", percent(base)),
            Self::Broken { customers: 1 } => "healthy, one broken customer".to_owned(),
            Self::Broken { customers } => format!("healthy, {customers} broken customers"),
            Self::Outage { share, step } => {
                format!("outage of both, {}, in step {}", percent(share), step + 1)
            }
            Self::Bad { share } => format!("{} broken", percent(share)),
            Self::Dies { hangs, once } => format!(
                "dies at any time ({}){}",
                if hangs { "hangs" } else { "503" },
                if once { ", each writes once" } else { "" }
            ),
            Self::DiesLate { hangs } => {
                format!("dies before promotion ({})", if hangs { "hangs" } else { "503" })
            }
            Self::ByHand { broken: 0 } => "healthy, weight moved by hand".to_owned(),
            Self::ByHand { broken } => {
                format!("healthy, weight moved by hand, {broken} broken customers")
            }
            Self::OutageAgain { share } => {
                format!("outage of both, {}, in each bake", percent(share))
            }
            Self::HangOfBoth { step } => {
                format!("both hang in step {}, stable three times as long", step + 1)
            }
            Self::Steep { outage: 0.0 } => "healthy, with a step of 80 %".to_owned(),
            Self::Steep { outage } => {
                format!("outage of both, {}, in a step of 80 %", percent(outage))
            }
            Self::SteepDies => "dies at any time (503), with a step of 80 %".to_owned(),
            Self::Paused => "healthy, paused at the end of each hold".to_owned(),
            Self::DiesPaused => "dies while paused before promotion (503)".to_owned(),
            Self::Skipped => "healthy, looks missing".to_owned(),
            Self::BadSkipped => "5 % broken, looks missing".to_owned(),
            Self::Share { factor } => format!("healthy, canary has {factor} of its share"),
        }
    }

    /// Whether the canary is as good as stable.
    pub(crate) fn is_healthy(self) -> bool {
        match self {
            Self::Healthy { .. }
            | Self::Broken { .. }
            | Self::Outage { .. }
            | Self::OutageAgain { .. }
            | Self::HangOfBoth { .. }
            | Self::Steep { .. }
            | Self::ByHand { .. }
            | Self::Paused
            | Self::Skipped
            | Self::Share { .. } => true,
            Self::Bad { .. }
            | Self::BadSkipped
            | Self::Dies { .. }
            | Self::DiesLate { .. }
            | Self::SteepDies
            | Self::DiesPaused => false,
        }
    }

    /// At most this share of its rollouts may end rejected: the canary is healthy, and it is promised.
    pub(crate) fn may_be_rejected(self) -> Option<f64> {
        (self.is_healthy() && self.unpromised().is_none()).then_some(0.01)
    }

    /// Why a healthy canary may be rejected more often here.
    pub(crate) fn unpromised(self) -> Option<&'static str> {
        match self {
            Self::OutageAgain { .. } => Some(
                "the first proof in a bake steps back and the second one rejects; an outage in both is \
                 two proofs without a control",
            ),
            Self::HangOfBoth { .. } => Some(
                "until stable's deadline has passed as well only the canary has failed anybody",
            ),
            _ => None,
        }
    }

    /// At most this share of its rollouts may be promoted: the canary is bad.
    pub(crate) fn may_be_promoted(self) -> Option<f64> {
        matches!(self, Self::Bad { share: 0.05 } | Self::BadSkipped).then_some(0.002_5)
    }

    /// At most so many customers may fail at a weight until it goes down, at the median: the promise, and
    /// those that fail within one look and the time until it is obeyed, or that end late.
    pub(crate) fn may_be_harmed(self, weight: u8, per_minute: u32) -> Option<f64> {
        let Self::Dies { hangs, once: true } = self else { return None };
        let (_, promise) = PROMISED.into_iter().find(|(at, _)| *at == weight)?;
        let hang = if hangs { SECONDS_OF_A_HANG } else { 0.0 };
        let rescue = if weight == 100 { SECONDS_OF_A_RESCUE } else { 0.0 };
        let seconds = SECONDS_OF_A_LOOK + hang + rescue;
        let per_second = f64::from(per_minute) / 60.0 * f64::from(weight) / 100.0;
        Some(promise + per_second * seconds)
    }

    /// Whether other rules know what happens in it: they have no bake, no person and no missing look.
    pub(crate) fn is_for_others(self) -> bool {
        !matches!(
            self,
            Self::Outage { step: 2, .. }
                | Self::ByHand { broken: 0 }
                | Self::Skipped
                | Self::BadSkipped
        ) && self.levels().len() == LEVELS.len()
    }

    /// Whether the time of the fault depends on how the same rollout goes without it.
    pub(crate) fn needs_rehearsal(self) -> bool {
        matches!(
            self,
            Self::Dies { .. } | Self::DiesLate { .. } | Self::SteepDies | Self::DiesPaused
        )
    }

    /// The world of a replicate. `took_ms` is how long it took when it was rehearsed; `steps` are the
    /// weights and holds of who is judged.
    pub(crate) fn setting(
        self,
        per_minute: u32,
        chance: &mut Draws,
        took_ms: u64,
        steps: &[(u8, u32)],
    ) -> Setting {
        let mut setting = Setting {
            per_minute: f64::from(per_minute),
            base: 0.005,
            once: false,
            broken: 0,
            fault: Fault::NONE,
            share: 1.0,
            looks: Looks::Every,
            person: Person::Absent,
            steps: self.steps(),
            timeouts_ms: (TIMEOUT_MS, TIMEOUT_MS),
            horizon_ms: HORIZON_MS,
        };
        match self {
            Self::Healthy { base } => setting.base = base,
            Self::Broken { customers } => setting.broken = customers,
            Self::Dies { once, .. } => setting.once = once,
            Self::HangOfBoth { .. } => setting.timeouts_ms.0 = TIMEOUT_MS / 3,
            Self::Steep { outage: 0.0 } => setting.base = 0.02,
            Self::ByHand { broken } => {
                setting.base = if broken > 0 { 0.005 } else { 0.02 };
                (setting.broken, setting.person) = (broken, Person::Moves);
            }
            Self::Paused => (setting.base, setting.person) = (0.02, Person::PausesAtEnds),
            Self::DiesPaused => {
                let from_ms = took_ms.saturating_sub(chance.between(0, 2 * MINUTE_MS));
                let until_ms = from_ms + chance.between(MINUTE_MS, 30 * MINUTE_MS);
                setting.person = Person::Pauses { from_ms, until_ms };
            }
            Self::Skipped => (setting.base, setting.looks) = (0.02, Looks::Gaps),
            Self::BadSkipped => setting.looks = Looks::Gaps,
            Self::Share { factor } => {
                (setting.base, setting.share) = (0.02, factor);
                setting.horizon_ms = STUCK_MS;
            }
            Self::Outage { .. }
            | Self::OutageAgain { .. }
            | Self::Steep { .. }
            | Self::Bad { .. }
            | Self::DiesLate { .. }
            | Self::SteepDies => {}
        }
        setting.fault = self.fault(chance, took_ms, steps, setting.person);
        setting
    }

    /// What breaks in a replicate, and when.
    fn fault(self, chance: &mut Draws, took_ms: u64, steps: &[(u8, u32)], person: Person) -> Fault {
        let mut of_both = |share: f64, step: usize| {
            let (weight, seconds) = steps[step.min(steps.len() - 1)];
            let at = chance.between(0, u64::from(seconds) * 1000);
            let lasts_ms = chance.between(5 * MINUTE_MS, 10 * MINUTE_MS);
            let begins = Begins::AtWeight(weight, at);
            Fault { begins, lasts_ms, canary: share, stable: share, hangs: false }
        };
        match self {
            Self::Outage { share, step } => of_both(share, step),
            Self::OutageAgain { share } => {
                let fault = of_both(share, steps.len() - 1);
                let Begins::AtWeight(weight, ms) = fault.begins else { return fault };
                Fault { begins: Begins::EachAtWeight(weight, ms), ..fault }
            }
            Self::HangOfBoth { step } => Fault { hangs: true, ..of_both(1.0, step) },
            Self::Steep { outage } if outage > 0.0 => of_both(outage, 1),
            Self::Bad { share } => Fault::of_canary(Begins::After(0), share, false),
            Self::BadSkipped => Fault::of_canary(Begins::After(0), 0.05, false),
            Self::Dies { hangs, .. } => {
                let begins = Begins::After(chance.between(0, took_ms.max(1)));
                Fault::of_canary(begins, 1.0, hangs)
            }
            Self::SteepDies => {
                Fault::of_canary(Begins::After(chance.between(0, took_ms.max(1))), 1.0, false)
            }
            Self::DiesLate { hangs } => {
                let before = chance.between(0, 2 * MINUTE_MS);
                Fault::of_canary(Begins::After(took_ms.saturating_sub(before)), 1.0, hangs)
            }
            Self::DiesPaused => {
                let Person::Pauses { from_ms, until_ms } = person else { return Fault::NONE };
                let begins = Begins::After(chance.between(from_ms, until_ms + MINUTE_MS));
                Fault::of_canary(begins, 1.0, false)
            }
            Self::Healthy { .. }
            | Self::Broken { .. }
            | Self::Steep { .. }
            | Self::ByHand { .. }
            | Self::Paused
            | Self::Skipped
            | Self::Share { .. } => Fault::NONE,
        }
    }
}

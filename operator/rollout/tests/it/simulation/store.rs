//! What the store counts, as `gateway/queue/src/evidence.rs` does: messages by class and customers, for
//! the newest three servings.

use kanarie_rollout::tally::{ServingTally, Tally};

const SERVINGS: usize = 3;

/// The counts of one channel, oldest serving first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) servings: Vec<ServingTally>,
    /// Of the canary over all servings, for rules that know no serving.
    pub(crate) canary: (u64, u64),
    /// What may make the judge think worse of somebody.
    pub(crate) troubles: Troubles,
    /// Grows with every outcome of the canary.
    pub(crate) outcomes: u64,
}

/// Failures of both tracks, and rescues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Troubles {
    pub(crate) canary: u64,
    pub(crate) stable: u64,
    pub(crate) rescues: u64,
}

/// How a first attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Success,
    Http,
    Timeout,
    Unavailable,
}

/// The worst that a serving has done to a customer, and whether stable has made up for it since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    #[default]
    Unknown,
    Answered,
    Failed,
    Rescued,
}

impl Store {
    /// Counts a first attempt of a customer who stands so with this serving.
    pub(crate) fn count(
        &mut self,
        serving: u64,
        on_canary: bool,
        class: Class,
        standing: &mut Standing,
    ) {
        let fails = class != Class::Success;
        if on_canary {
            self.troubles.canary += u64::from(fails);
            self.outcomes += 1;
            self.canary.0 += u64::from(!fails);
            self.canary.1 += u64::from(fails);
        } else {
            self.troubles.stable += u64::from(fails);
        }
        let Some(tally) = self.tally(serving, on_canary) else { return };
        match class {
            Class::Success => tally.success += 1,
            Class::Http => tally.http += 1,
            Class::Timeout => tally.timeout += 1,
            Class::Unavailable => tally.unavailable += 1,
        }
        tally.customers.asked += u64::from(*standing == Standing::Unknown);
        tally.customers.failed += u64::from(fails && *standing < Standing::Failed);
        *standing = (*standing).max(if fails { Standing::Failed } else { Standing::Answered });
    }

    /// Stable answered what the canary of this serving had failed.
    pub(crate) fn rescue(&mut self, serving: u64, standing: &mut Standing) {
        let known = self.servings.iter_mut().find(|one| one.serving == serving);
        if let (Some(known), Standing::Failed) = (known, *standing) {
            known.canary.customers.rescued += 1;
            *standing = Standing::Rescued;
            self.troubles.rescues += 1;
        }
    }

    fn tally(&mut self, serving: u64, on_canary: bool) -> Option<&mut Tally> {
        let known =
            |servings: &[ServingTally]| servings.iter().rposition(|one| one.serving == serving);
        let mut place = known(&self.servings);
        if place.is_none() {
            self.servings.push(ServingTally { serving, ..ServingTally::default() });
            self.servings.sort_by_key(|one| one.serving);
            if self.servings.len() > SERVINGS {
                self.servings.remove(0);
            }
            place = known(&self.servings);
        }
        let known = &mut self.servings[place?];
        Some(if on_canary { &mut known.canary } else { &mut known.stable })
    }
}

//! A rollout that is played: a world and its pilot, look by look.
//!
//! Takes a setting, its town and a pilot; gives how the rollout ended. Stops at a time, so that a rollout can
//! be copied there and go on in more than one way.

use crate::simulation::pilot::{Look, Pilot};
use crate::simulation::setting::{Fault, Setting};
use crate::simulation::traffic::Towns;
use crate::simulation::world::{BEGINS_MS, Played, REPLICAS, World};

/// A rollout that goes on.
#[derive(Clone)]
pub(crate) struct Game<P> {
    world: World,
    pilot: P,
    next_look: u64,
    obeyed: [u64; REPLICAS],
}

/// Plays one rollout.
pub(crate) fn play(setting: &Setting, towns: &Towns, pilot: &mut impl Pilot) -> Played {
    Game::new(setting, towns, pilot).play()
}

impl<P: Pilot> Game<P> {
    pub(crate) fn new(setting: &Setting, towns: &Towns, pilot: P) -> Self {
        let route = pilot.route();
        let world = World::new(setting, towns, route);
        Self { world, pilot, next_look: BEGINS_MS, obeyed: [route.serving; REPLICAS] }
    }

    /// The highest weight that was asked for by now, and since when.
    pub(crate) fn highest_weight(&self) -> (u8, u64) {
        self.world.highest_weight
    }

    /// Has another fault from here on.
    pub(crate) fn suffers(&mut self, fault: Fault) {
        self.world.suffers(fault);
    }

    /// Goes on to the end.
    pub(crate) fn play(mut self) -> Played {
        self.is_over_before(u64::MAX);
        self.world.gone()
    }

    /// Goes on for as long as it is earlier; says whether it has ended.
    pub(crate) fn is_over_before(&mut self, stop: u64) -> bool {
        let end = BEGINS_MS + self.world.setting.horizon_ms;
        while self.world.now < end {
            let at = self.world.next_at();
            let looks = self.next_look <= at && self.world.played.ending.is_none();
            if stop <= if looks { self.next_look } else { at } {
                return false;
            }
            if looks {
                self.looks();
            } else {
                self.world.happens();
                if self.world.is_over() {
                    return true;
                }
            }
        }
        true
    }

    fn looks(&mut self) {
        let at = self.next_look;
        self.world.now = at;
        for (obeyed, replica) in self.obeyed.iter_mut().zip(&self.world.replicas) {
            *obeyed = replica.route.serving;
        }
        let before = self.pilot.route();
        let look = Look { at, store: &self.world.store, obeyed: &self.obeyed };
        self.next_look = self.pilot.look(look).max(at + 1);
        self.world.follow(before, self.pilot.route(), self.pilot.ending());
    }
}

//! Rollouts that are alike until something breaks: played once up to there, and from there on each by itself.
//!
//! Takes a setting without a fault; gives how it ends, and how it ends with a fault. What comes before the
//! fault is the same in both, draw by draw.

use crate::simulation::game::Game;
use crate::simulation::product::Product;
use crate::simulation::run::pilot;
use crate::simulation::setting::{Begins, Fault, MINUTE_MS, Setting};
use crate::simulation::traffic::Towns;
use crate::simulation::world::{BEGINS_MS, Played};

/// How often the rollout is kept as it stands.
const EVERY_MS: u64 = 10 * MINUTE_MS;

/// A rollout in which nothing breaks, as it stood every now and then.
pub(crate) struct Trunk {
    kept: Vec<(u64, Game<Product>)>,
    pub(crate) played: Played,
}

impl Trunk {
    pub(crate) fn grow(setting: &Setting, towns: &Towns) -> Self {
        let mut game = Game::new(setting, towns, pilot(setting, towns.seed));
        let (mut kept, mut at) = (Vec::new(), BEGINS_MS);
        while !game.is_over_before(at) {
            kept.push((at, game.clone()));
            at += EVERY_MS;
        }
        Self { kept, played: game.play() }
    }

    /// How it goes on with this fault.
    pub(crate) fn branch(&self, fault: Fault) -> Played {
        let is_before = |(at, game): &&(u64, Game<Product>)| match fault.begins {
            Begins::Never => false,
            Begins::After(ms) => *at <= BEGINS_MS + ms,
            Begins::AtWeight(weight, ms) | Begins::EachAtWeight(weight, ms) => {
                let (highest, since) = game.highest_weight();
                highest < weight || highest == weight && *at <= since + ms
            }
        };
        let Some((_, game)) = self.kept.iter().rfind(is_before) else { return self.played };
        let mut game = game.clone();
        game.suffers(fault);
        game.play()
    }
}

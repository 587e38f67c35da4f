//! Replicates of a cell: the product or another rule in the same world, many of them on every core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::simulation::by_hand::{moves, pause, pauses};
use crate::simulation::cells::Kind;
use crate::simulation::draws::Draws;
use crate::simulation::game::play;
use crate::simulation::others::{Other, Rule};
use crate::simulation::pilot::Pilot;
use crate::simulation::product::Product;
use crate::simulation::setting::{Fault, Person, Setting};
use crate::simulation::traffic::Towns;
use crate::simulation::trunk::Trunk;
use crate::simulation::world::{BEGINS_MS, Played, REPLICAS};

/// Kinds that are alike until something breaks, in their order.
pub(crate) fn families(kinds: &[Kind], per_minute: u32) -> Vec<Vec<Kind>> {
    let plain = |kind: &Kind| Setting { fault: Fault::NONE, ..first_setting(*kind, per_minute, 0) };
    let mut families: Vec<Vec<Kind>> = Vec::new();
    for kind in kinds {
        match families.iter_mut().find(|family| plain(&family[0]) == plain(kind)) {
            Some(family) => family.push(*kind),
            None => families.push(vec![*kind]),
        }
    }
    families
}

/// A replicate of the product in the cells of a family.
pub(crate) fn product(family: &[Kind], per_minute: u32, towns: &Towns) -> Vec<Played> {
    let seed = towns.seed;
    if let [alone] = family {
        let setting = setting(*alone, per_minute, towns, &alone.steps(), pilot);
        return vec![play(&setting, towns, &mut pilot(&setting, seed))];
    }
    let plain = Setting { fault: Fault::NONE, ..first_setting(family[0], per_minute, seed) };
    let trunk = Trunk::grow(&plain, towns);
    let took_ms = trunk.played.took_ms;
    let branch = |kind: &Kind| {
        let chance = &mut Draws::new(seed, 4);
        trunk.branch(kind.setting(per_minute, chance, took_ms, &kind.steps()).fault)
    };
    family.iter().map(branch).collect()
}

/// A replicate of another rule in the same world.
pub(crate) fn other(rule: Rule, kind: Kind, per_minute: u32, replicate: u64) -> Played {
    let towns = Towns::of(seed(per_minute, replicate));
    let pilot = |_: &Setting, _: u64| Other::new(rule);
    let setting = setting(kind, per_minute, &towns, &rule.steps(), pilot);
    play(&setting, &towns, &mut Other::new(rule))
}

/// The world of a replicate, rehearsed where the fault depends on how it goes without.
pub(crate) fn setting<P: Pilot>(
    kind: Kind,
    per_minute: u32,
    towns: &Towns,
    steps: &[(u8, u32)],
    pilot: impl Fn(&Setting, u64) -> P,
) -> Setting {
    let chance = || Draws::new(towns.seed, 4);
    let setting = kind.setting(per_minute, &mut chance(), 1, steps);
    if !kind.needs_rehearsal() {
        return setting;
    }
    let person = match setting.person {
        Person::Pauses { .. } => Person::Absent,
        other => other,
    };
    let without = Setting { fault: Fault::NONE, person, ..setting };
    let took_ms = play(&without, towns, &mut pilot(&without, towns.seed)).took_ms;
    kind.setting(per_minute, &mut chance(), took_ms, steps)
}

/// The world of a replicate, without a rehearsal.
fn first_setting(kind: Kind, per_minute: u32, seed: u64) -> Setting {
    kind.setting(per_minute, &mut Draws::new(seed, 4), 1, &kind.steps())
}

/// The product, in a world.
pub(crate) fn pilot(setting: &Setting, seed: u64) -> Product {
    let mut chance = Draws::new(seed, 5);
    let by_hand = match setting.person {
        Person::Absent => Vec::new(),
        Person::Moves => moves(&mut chance, BEGINS_MS),
        Person::PausesAtEnds => pauses(&mut chance, BEGINS_MS, &setting.steps),
        Person::Pauses { from_ms, until_ms } => pause(BEGINS_MS + from_ms, BEGINS_MS + until_ms),
    };
    Product::new(setting, by_hand, REPLICAS, chance)
}

/// The same world for every judge.
pub(crate) fn seed(per_minute: u32, replicate: u64) -> u64 {
    Draws::new(u64::from(per_minute), replicate).next()
}

/// Plays replicates 0 to `count` on every core; in their order.
pub(crate) fn replicates<T: Send>(count: u64, play: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let work = || {
        let mut played = Vec::new();
        loop {
            let replicate = next.fetch_add(1, Ordering::Relaxed);
            if replicate >= count {
                return played;
            }
            played.push((replicate, play(replicate)));
        }
    };
    let mut played = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let played = workers.into_iter().flat_map(|worker| worker.join().unwrap());
        played.collect::<Vec<_>>()
    });
    played.sort_by_key(|(replicate, _)| *replicate);
    played.into_iter().map(|(_, played)| played).collect()
}

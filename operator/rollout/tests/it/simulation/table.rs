//! The table: every cell, what came of it under the product and under other rules, in Markdown.

use std::fmt::Write as _;

use crate::simulation::cells::{Kind, LEVELS};
use crate::simulation::confidence::bounds;
use crate::simulation::figures::Figures;
use crate::simulation::kept::Kept;
use crate::simulation::others::Rule;
use crate::simulation::product::STEPS;
use crate::simulation::run::{families, other, product, replicates, seed};
use crate::simulation::traffic::Towns;
use crate::simulation::world::Played;

/// A cell with its figures.
pub(crate) struct Row {
    kind: Kind,
    per_minute: u32,
    product: Figures,
    others: Vec<Figures>,
}

/// How many replicates a cell has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replicates(pub(crate) u64);

impl Replicates {
    /// Of the product: a fourth of them where there is the most to play.
    pub(crate) fn of_product(self, per_minute: u32) -> u64 {
        if per_minute == LEVELS[LEVELS.len() - 1] { self.0 / 4 } else { self.0 }
    }

    /// Of each other rule.
    pub(crate) fn of_others(self) -> u64 {
        self.0 / 10
    }
}

impl Row {
    /// Plays the cells of all families.
    fn play(families: &[Vec<Kind>], per_minute: u32, all: Replicates, keeps: bool) -> Vec<Self> {
        let play = |replicate| {
            let towns = Towns::of(seed(per_minute, replicate));
            let of_families = families.iter().map(|family| product(family, per_minute, &towns));
            of_families.flatten().collect::<Vec<_>>()
        };
        let kept = keeps.then(|| Kept::of(&format!("{per_minute} {families:?}")));
        let played = replicates(all.of_product(per_minute), |replicate| match &kept {
            Some(kept) => kept.or_play(replicate, || play(replicate)),
            None => play(replicate),
        });
        let row = |(place, kind): (usize, &Kind)| {
            let of_kind: Vec<Played> = played.iter().map(|of_all| of_all[place]).collect();
            Self::of(*kind, per_minute, all, &of_kind)
        };
        families.iter().flatten().enumerate().map(row).collect()
    }

    fn of(kind: Kind, per_minute: u32, all: Replicates, played: &[Played]) -> Self {
        let rules = Rule::ALL.into_iter().filter(|_| kind.is_for_others());
        let others = rules.map(|(_, rule)| {
            let play = |replicate| other(rule, kind, per_minute, replicate);
            let played = replicates(all.of_others(), play);
            Figures::of(&played)
        });
        Self { kind, per_minute, product: Figures::of(played), others: others.collect() }
    }

    /// Whether it is of this cell.
    pub(crate) fn is_of(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    /// Every bound that it breaks beyond doubt.
    pub(crate) fn broken_bounds(&self) -> Vec<String> {
        self.product.broken_bounds(self.kind, self.per_minute)
    }

    /// What comes of it and was never promised, with the reason.
    pub(crate) fn unpromised(&self) -> Option<String> {
        let Figures { all, rejected, .. } = self.product;
        let (least, most) = bounds(rejected, all);
        let [share, least, most] = [rejected as f64 / all as f64, least, most].map(percentage);
        let (name, per_minute) = (self.kind.name(), self.per_minute);
        let because = self.kind.unpromised()?;
        Some(format!(
            "{name}, {per_minute} a minute: {share} rejected (between {least} and {most}): {because}",
        ))
    }

    /// Its line in the table of endings.
    pub(crate) fn ending(&self) -> String {
        let Figures { all, promoted, rejected, held, stepped_back, .. } = self.product;
        let bounded = |hits, bound: Option<f64>| match bound {
            Some(_) => format!("{} (≤ {})", percent(hits, all), percentage(bounds(hits, all).1)),
            None => percent(hits, all),
        };
        let mut line = format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            self.kind.name(),
            self.per_minute,
            bounded(promoted, self.kind.may_be_promoted()),
            bounded(rejected, self.kind.may_be_rejected()),
            percent(stepped_back, all),
            percent(held, all),
            self.product.hours().map_or("–".to_owned(), |hours| format!("{hours:.1}")),
        );
        // Of a healthy canary it matters who rejects it, of a bad one who promotes it.
        for index in 0..Rule::ALL.len() {
            let hits = |one: &Figures| {
                let hits = if self.kind.is_healthy() { one.rejected } else { one.promoted };
                percent(hits, one.all)
            };
            let _ = write!(line, " {} |", self.others.get(index).map_or("–".to_owned(), hits));
        }
        line
    }

    /// Its line in the table of failed customers, if its canary gets bad.
    pub(crate) fn harm(&self) -> Option<String> {
        if self.kind.is_healthy() {
            return None;
        }
        let mut line = format!("| {} | {} |", self.kind.name(), self.per_minute);
        for (weight, _) in STEPS {
            let harm = [0.5, 0.9].map(|share| self.product.harm(weight, share));
            let [Some(median), Some(most)] = harm else {
                line.push_str(" – |");
                continue;
            };
            let bound = self.kind.may_be_harmed(weight, self.per_minute);
            let bound = bound.map_or(String::new(), |bound| format!(" (≤ {bound:.1})"));
            let _ = write!(line, " {median}{bound}, {most} |");
        }
        Some(line)
    }
}

/// Plays every cell that a filter wants, telling those of each traffic level as they come; in the order of the table.
/// Keeps what was played for a run that goes on where this one is cut off, if it is told to.
pub(crate) fn rows(all: Replicates, keeps: bool, wanted: impl Fn(Kind, u32) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for level in LEVELS {
        let mut kinds = Kind::all();
        kinds.retain(|kind| kind.levels().contains(&level) && wanted(*kind, level));
        let of_level = Row::play(&families(&kinds, level), level, all, keeps);
        for row in &of_level {
            println!("{} {}", row.ending(), row.harm().unwrap_or_default());
            row.broken_bounds().iter().for_each(|broken| println!("BROKEN: {broken}"));
        }
        rows.extend(of_level);
    }
    let kinds = Kind::all();
    rows.sort_by_key(|row| (kinds.iter().position(|kind| *kind == row.kind), row.per_minute));
    rows
}

fn percent(hits: u64, all: u64) -> String {
    percentage(hits as f64 / all.max(1) as f64)
}

/// With two digits where they matter.
fn percentage(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 | 100.0 => format!("{percent:.0} %"),
        _ if percent < 10.0 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

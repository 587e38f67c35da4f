//! How often the verdict is wrong, and how soon it is right: whole rollouts through the real `decide`, in a
//! model of the gateway with rescue, late outcomes, stable's breaker, and customers who write once or often.
//!
//! Here a short form with few replicates, whose bounds are as wide as that makes them. `make simulate` has
//! them all and writes `docs/judge.md`. The seeds are fixed, so the figures are too.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod breaker;
mod by_hand;
mod calendar;
mod cells;
mod confidence;
mod draws;
mod figures;
mod game;
mod gateway;
mod kept;
mod noise;
mod others;
mod page;
mod pilot;
mod product;
mod run;
mod scenarios;
mod setting;
mod store;
mod table;
mod traffic;
mod trunk;
mod world;

use std::fs;

use crate::simulation::cells::Kind;
use crate::simulation::figures::Figures;
use crate::simulation::game::play;
use crate::simulation::run::{families, pilot, product, replicates, seed, setting};
use crate::simulation::table::{Replicates, Row, rows};
use crate::simulation::traffic::Towns;

#[test]
fn no_bound_is_broken_beyond_doubt() {
    let broken: Vec<String> = scenarios::ROWS.iter().flat_map(Row::broken_bounds).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_page_about_the_judge_is_about_this_one() {
    let (page, examples) = (fs::read_to_string(page::path()).unwrap(), page::examples());
    let (figures, shown) = page::parts(&page).unwrap();
    assert_eq!(
        page::decisions(shown),
        page::decisions(&examples),
        "the judge decides otherwise than docs/judge.md says; run `make simulate`"
    );
    if std::env::var_os("UPDATE").is_some() {
        fs::write(page::path(), format!("{figures}{examples}\n")).unwrap();
    } else {
        assert_eq!(shown, examples, "only the words are others; run `make generated`");
    }
}

#[test]
fn the_docs_say_what_a_step_costs_that_passes_by_the_comparison_alone() {
    let said = page::noise();
    for name in ["judge.md", "operations.md"] {
        let page = fs::read_to_string(page::docs(name)).unwrap();
        let page: Vec<&str> = page.split_whitespace().collect();
        assert!(page.join(" ").contains(&said), "docs/{name} is to say: {said}");
    }
}

#[test]
fn a_look_that_is_left_out_would_have_changed_nothing() {
    let levels = |kind: Kind| kind.levels().iter().map(move |level| (kind, *level));
    for (kind, level) in Kind::all().into_iter().flat_map(levels) {
        let count = if level < 200 { 2 } else { 1 };
        let both = replicates(count, |replicate| {
            let towns = Towns::of(seed(level, replicate));
            let setting = setting(kind, level, &towns, &kind.steps(), pilot);
            let alike = || pilot(&setting, towns.seed);
            let (mut lazy, mut eager) = (alike(), alike().eager());
            let played = [play(&setting, &towns, &mut lazy), play(&setting, &towns, &mut eager)];
            (played, lazy.is_as(&eager))
        });
        for (replicate, ([lazy, eager], is_same)) in both.iter().enumerate() {
            assert_eq!(lazy, eager, "{} at {level}, {replicate}", kind.name());
            assert!(is_same, "{} at {level}, {replicate}", kind.name());
        }
    }
}

#[test]
fn a_rollout_that_branches_off_goes_as_if_it_had_been_played_alone() {
    for (level, count) in [(5, 4), (20, 2), (200, 1)] {
        let mut kinds = Kind::all();
        kinds.retain(|kind| kind.levels().contains(&level));
        for family in families(&kinds, level) {
            let both = replicates(count, |replicate| {
                let towns = || Towns::of(seed(level, replicate));
                let alone = family.iter().map(|kind| product(&[*kind], level, &towns()).remove(0));
                (alone.collect::<Vec<_>>(), product(&family, level, &towns()))
            });
            for (alone, branched) in both {
                assert_eq!(alone, branched, "{family:?} at {level}");
            }
        }
    }
}

#[test]
fn a_judge_that_cuts_at_its_own_trigger_breaks_the_bound() {
    let kind = Kind::Healthy { base: 0.02 };
    let played = replicates(200, |replicate| {
        let towns = Towns::of(seed(60, replicate));
        let setting = setting(kind, 60, &towns, &kind.steps(), pilot);
        play(&setting, &towns, &mut pilot(&setting, towns.seed).cutting_at_its_trigger())
    });
    let figures = Figures::of(&played);
    println!("{} of {} rejected", figures.rejected, figures.all);
    assert!(!figures.broken_bounds(kind, 60).is_empty(), "{figures:?}");
}

/// Plays what is asked for, all of it if nothing is: `KANARIE_SIMULATE="broken;20,60"` are the cells of that
/// name with 20 and 60 messages a minute. Goes on where it was cut off, or where fewer replicates ended,
/// unless another one was built since. Writes the page when it was all.
#[test]
#[ignore = "takes up to two hours; `make simulate`"]
fn every_bound_holds_with_as_many_replicates_as_it_takes() {
    let env = |name| std::env::var(name).ok();
    let all = Replicates(env("KANARIE_REPLICATES").map_or(20_000, |count| count.parse().unwrap()));
    let asked = env("KANARIE_SIMULATE").unwrap_or_default();
    let (name, levels) = asked.split_once(';').unwrap_or((&asked, ""));
    let levels: Vec<u32> = levels.split(',').filter_map(|level| level.parse().ok()).collect();
    let rows = rows(all, true, |kind, level| {
        kind.name().contains(name) && (levels.is_empty() || levels.contains(&level))
    });
    if asked.is_empty() {
        fs::write(page::path(), page::page(&rows, all)).unwrap();
    }
    let broken: Vec<String> = rows.iter().flat_map(Row::broken_bounds).collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

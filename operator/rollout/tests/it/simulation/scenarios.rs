//! The scenarios that are promises about many rollouts: the cells of the table that show them.
//!
//! Takes the rows of the short form, which are played once for all tests here; fails with the bounds that
//! a cell breaks beyond doubt. Plays nothing by itself.

use std::sync::LazyLock;

use crate::simulation::cells::Kind;
use crate::simulation::table::{Replicates, Row, rows};

/// Replicates of the short form.
const FEW: Replicates = Replicates(48);

/// Every row of the short form.
pub(crate) static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| rows(FEW, false, |_, _| true));

/// At every traffic that is played, no bound of these cells is broken.
fn holds(kinds: &[Kind]) {
    for kind in kinds {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.is_of(*kind)).collect();
        assert_eq!(rows.len(), kind.levels().len(), "{}", kind.name());
        let broken: Vec<String> = rows.iter().flat_map(|row| row.broken_bounds()).collect();
        assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    }
}

/// Scenario 11: a canary that dies at any moment fails few customers before it is taken back, at 5 messages
/// a minute and at 500.
#[test]
fn scenario_11_a_canary_that_dies_fails_few_customers_at_any_traffic() {
    holds(&[
        Kind::Dies { hangs: false, once: true },
        Kind::Dies { hangs: true, once: true },
        Kind::Bad { share: 1.0 },
    ]);
}

/// Scenario 12: with 0.5 % of errors on both tracks at most 1 % of the rollouts are rejected.
#[test]
fn scenario_12_half_a_percent_of_errors_on_both_tracks_rejects_nobody() {
    holds(&[Kind::Healthy { base: 0.005 }]);
}

/// Scenario 13: with 2 % of errors on both tracks as well.
#[test]
fn scenario_13_two_percent_of_errors_on_both_tracks_reject_nobody() {
    holds(&[Kind::Healthy { base: 0.02 }]);
}

/// Scenario 14: with 30 % of errors on both tracks for some minutes as well, in any step.
#[test]
fn scenario_14_an_outage_of_both_tracks_rejects_nobody_in_any_step() {
    holds(&[0, 1, 2].map(|step| Kind::Outage { share: 0.3, step }));
}

/// Scenario 15: a canary that fails 5 % is promoted in at most 0.25 % of the rollouts.
#[test]
fn scenario_15_a_canary_that_fails_five_percent_is_not_promoted() {
    holds(&[Kind::Bad { share: 0.05 }]);
}

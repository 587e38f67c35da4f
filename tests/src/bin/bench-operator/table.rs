//! The table: what was measured, beside its limit and beside the peers at the same work.
//!
//! Takes rows; prints them in columns. What is over its limit is marked, and nothing fails by it.

use std::fmt;

/// What a figure may be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// So much.
    AtMost(f64),
    /// Nobody said.
    Open,
}

struct Row {
    figure: String,
    unit: &'static str,
    value: f64,
    limit: Limit,
    peers: Option<(&'static str, &'static str)>,
}

/// All figures, in order.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    peers: Option<(&'static str, &'static str)>,
}

impl Table {
    /// What Argo Rollouts and Flagger came to where the next row is about the same work.
    pub(crate) fn beside(&mut self, argo: &'static str, flagger: &'static str) {
        self.peers = Some((argo, flagger));
    }

    /// One more figure, which is told at once.
    pub(crate) fn row(&mut self, figure: String, unit: &'static str, value: f64, limit: Limit) {
        println!("{figure}: {value:.2} {unit}");
        self.rows.push(Row { figure, unit, value, limit, peers: self.peers.take() });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ("figure", "measured", "limit", "Argo Rollouts", "Flagger");
        let (figure, measured, limit, argo, flagger) = heads;
        writeln!(to, "{figure:<46} {measured:>14}  {limit:<16} {argo:<15} {flagger}")?;
        for Row { figure, unit, value, limit, peers } in &self.rows {
            let measured = format!("{value:.2} {unit:<5}");
            let limit = match limit {
                Limit::Open => String::new(),
                Limit::AtMost(most) if value > most => format!("≤ {most:.1}  missed"),
                Limit::AtMost(most) => format!("≤ {most:.1}"),
            };
            let (argo, flagger) = peers.unwrap_or_default();
            let line = format!("{figure:<46} {measured:>14}  {limit:<16} {argo:<15} {flagger}");
            writeln!(to, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

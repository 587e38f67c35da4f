//! The table: figure, gateway, floor, ratio, goal.
//!
//! Takes rows; prints them in columns. A goal is a number that the gateway, or its ratio to the
//! floor, should not exceed; one that is exceeded is marked, and nothing fails by it.

use std::fmt;

/// What a figure should be at the most.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// So many times the floor.
    Ratio(f64),
    /// So much.
    AtMost(f64),
    /// Nobody said.
    Open,
}

/// One figure.
struct Row {
    figure: String,
    gateway: f64,
    floor: Option<f64>,
    goal: Goal,
}

/// All figures, in order.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// One more figure.
    pub(crate) fn row(&mut self, figure: String, gateway: f64, floor: Option<f64>, goal: Goal) {
        self.0.push(Row { figure, gateway, floor, goal });
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.gateway / floor)
    }

    fn goal(&self) -> String {
        let (goal, value) = match self.goal {
            Goal::Open => return String::new(),
            Goal::Ratio(most) => (format!("≤ {most} ×"), self.ratio().map(|ratio| (ratio, most))),
            Goal::AtMost(most) => (format!("≤ {most}"), Some((self.gateway, most))),
        };
        let missed = value.is_some_and(|(value, most)| value > most);
        if missed { format!("{goal}  missed") } else { goal }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.2}"));
        writeln!(to, "{:<52} {:>9} {:>9} {:>6}  goal", "figure", "gateway", "floor", "ratio")?;
        for row in &self.0 {
            let (gateway, floor, ratio) =
                (shown(Some(row.gateway)), shown(row.floor), shown(row.ratio()));
            let line =
                format!("{:<52} {gateway:>9} {floor:>9} {ratio:>6}  {}", row.figure, row.goal());
            writeln!(to, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Table};

    #[test]
    fn a_goal_that_is_exceeded_is_marked() {
        let mut table = Table::default();
        table.row("cheap".to_owned(), 3.0, Some(2.0), Goal::Ratio(1.5));
        table.row("dear".to_owned(), 4.0, Some(2.0), Goal::Ratio(1.5));
        table.row("large".to_owned(), 31.0, None, Goal::AtMost(30.0));
        let shown = table.to_string();
        let marked: Vec<&str> = shown.lines().filter(|line| line.ends_with("missed")).collect();
        assert_eq!(marked.len(), 2, "{shown}");
        assert!(marked[0].starts_with("dear") && marked[1].starts_with("large"), "{shown}");
    }
}

//! Everything about one store, as rows of the table.
//!
//! Takes a store; measures gateway and floor one after the other, never two at once, and names the
//! figures with their goals. The goals stand here and nowhere else.

use anyhow::Result;

use crate::measure::{self, Amounts, Cost, Delays, Idle, Webhooks, Whole};
use crate::subject::{Kept, Side};
use crate::table::{Goal, Table};

/// A whole message, against the floor's.
const WHOLE: Goal = Goal::Ratio(1.5);
/// What Redis does for it.
const WHOLE_IN_REDIS: Goal = Goal::Ratio(1.3);
/// A webhook with what Redis does for it.
const ACCEPTED: Goal = Goal::Ratio(1.3);
/// The same where no Redis is, in microseconds.
const ACCEPTED_EMBEDDED: Goal = Goal::AtMost(40.0);
const REFUSED: Goal = Goal::Ratio(1.0);
/// Three trips, three commits.
const STEPS: Goal = Goal::AtMost(3.0);
/// MiB.
const MEMORY: Goal = Goal::AtMost(30.0);
const MANY_ROUTES: Goal = Goal::AtMost(20.0);
/// Milliseconds.
const REPLY_P95: Goal = Goal::AtMost(1.2);
const ANSWER_P99: Goal = Goal::AtMost(1.0);
/// Percent of a core, and commands a second.
const IDLE: Goal = Goal::AtMost(0.3);
const IDLE_TRIPS: Goal = Goal::AtMost(10.0);

/// What was measured with one store.
pub(crate) struct Report {
    kept: Kept,
    whole: [Whole; 2],
    webhooks: [Webhooks; 2],
    idle: Idle,
}

impl Report {
    /// Measures, and says what it is doing.
    pub(crate) async fn measure(kept: Kept, amounts: &Amounts) -> Result<Self> {
        let say = |what: &str| println!("{kept:?}: {what}");
        say("whole messages at the gateway");
        let gateway = measure::whole(Side::Gateway, kept, amounts).await?;
        say("whole messages at the floor");
        let whole = [gateway, measure::whole(Side::Floor, kept, amounts).await?];
        say("webhooks at the gateway");
        let gateway = measure::webhooks(Side::Gateway, kept, amounts).await?;
        say("webhooks at the floor");
        let webhooks = [gateway, measure::webhooks(Side::Floor, kept, amounts).await?];
        say("many routes at rest");
        let idle = measure::idle(kept, amounts).await?;
        let report = Self { kept, whole, webhooks, idle };
        report.profile();
        Ok(report)
    }

    /// Where Redis spends its time.
    fn profile(&self) {
        if self.kept == Kept::Embedded {
            return;
        }
        for (side, whole) in ["gateway", "floor"].iter().zip(&self.whole) {
            for (when, cost) in [("300/s", &whole.steady), ("draining", &whole.draining)] {
                let Cost { redis, inside, commands, .. } = cost;
                println!("  {side}, {when}: of {redis:.0} µs in Redis {inside:.0} inside scripts");
                println!("    {commands}");
            }
        }
    }

    /// Its figures.
    pub(crate) fn rows(&self, table: &mut Table) {
        self.messages(table);
        self.delays(table);
        self.receiving(table);
        let name = |figure: &str| self.name(figure);
        let idle = &self.idle;
        table.row(name("10,000 routes more, MiB"), idle.more, None, MANY_ROUTES);
        table.row(name("idle with them, % of a core"), idle.cpu, None, IDLE);
        if self.kept == Kept::Redis {
            table.row(name("idle, commands/s to Redis"), idle.trips, None, IDLE_TRIPS);
            table.row(name("idle, with those inside scripts"), idle.commands, None, Goal::Open);
        }
    }

    fn messages(&self, table: &mut Table) {
        let [gateway, floor] = &self.whole;
        let phases = [
            ("at 300/s", &gateway.steady, &floor.steady, STEPS),
            // Its messages were admitted before the clock ran.
            ("draining", &gateway.draining, &floor.draining, Goal::Open),
        ];
        for (when, gateway, floor, trips) in phases {
            let mut row = |figure: &str, of: fn(&Cost) -> f64, goal| {
                let figure = self.name(&format!("message {when}, {figure}"));
                table.row(figure, of(gateway), Some(of(floor)), goal);
            };
            row("µs", |cost| cost.cpu, WHOLE);
            if self.kept == Kept::Redis {
                row("µs in Redis", |cost| cost.redis, WHOLE_IN_REDIS);
                row("trips", |cost| cost.scripts, trips);
            } else {
                row("KiB written", |cost| cost.written, Goal::Open);
            }
        }
        if let Some(fsyncs) = gateway.fsyncs {
            table.row(self.name("message alone, fsyncs"), fsyncs, floor.fsyncs, STEPS);
        }
        table.row(self.name("peak, draining, MiB"), gateway.peak, Some(floor.peak), MEMORY);
    }

    fn delays(&self, table: &mut Table) {
        let [gateway, floor] = &self.whole;
        let mut row = |percentile: &str, of: fn(&Delays) -> f64, goal| {
            let figure = self.name(&format!("webhook to reply at 300/s, {percentile}, ms"));
            table.row(figure, of(&gateway.replies), Some(of(&floor.replies)), goal);
        };
        row("p50", |delays| delays.p50, Goal::Open);
        row("p95", |delays| delays.p95, REPLY_P95);
        row("p99", |delays| delays.p99, Goal::Open);
        let figure = self.name("webhook at 500/s beside replies, p99, ms");
        table.row(figure, gateway.answers.p99, Some(floor.answers.p99), Goal::Open);
        let [gateway, floor] = &self.webhooks;
        let figure = self.name("webhook at 500/s, p99, ms");
        table.row(figure, gateway.answers.p99, Some(floor.answers.p99), ANSWER_P99);
    }

    fn receiving(&self, table: &mut Table) {
        let [gateway, floor] = &self.webhooks;
        let mut row = |figure: &str, of: fn(&Webhooks) -> f64, goal| {
            table.row(self.name(figure), of(gateway), Some(of(floor)), goal);
        };
        if self.kept == Kept::Redis {
            row("webhook accepted, µs with Redis", |w| w.accepted.cpu + w.accepted.redis, ACCEPTED);
            row("webhook accepted, µs", |w| w.accepted.cpu, Goal::Open);
            row("webhook accepted, µs in Redis", |w| w.accepted.redis, Goal::Open);
        } else {
            row("webhook accepted, µs", |w| w.accepted.cpu, ACCEPTED_EMBEDDED);
        }
        row("webhook forged, µs", |w| w.refused.cpu, REFUSED);
        row("peak at saturation, MiB", |w| w.peak, MEMORY);
    }

    fn name(&self, figure: &str) -> String {
        let store = match self.kept {
            Kept::Redis => "redis",
            Kept::Embedded => "embedded",
        };
        format!("{store}: {figure}")
    }
}

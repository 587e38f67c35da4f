//! The measurements, each over a part that is timed: nothing is made, connected or asked for in it
//! that is not measured.
//!
//! Takes a subject; gives what one message, or one webhook, has cost. The end of a message is where
//! the fake Twilio takes its reply, which it tells at once.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use kanarie_fakes::agent::Behaviour;
use tokio::time::{Instant, sleep};

use crate::commands::{Commands, Counter};
use crate::cost;
use crate::fsyncs;
use crate::load::{self, Line, Posted};
use crate::post::Connection;
use crate::subject::{Kept, Side, Subject};

/// How much is measured.
#[derive(Args)]
pub(crate) struct Amounts {
    /// Seconds at each steady rate.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Messages of the backlog that is drained.
    #[arg(long, default_value_t = 6_000)]
    backlog: u32,
    /// Webhooks at saturation, accepted ones and forged ones.
    #[arg(long, default_value_t = 40_000)]
    webhooks: u32,
    /// Routes of a gateway that has many.
    #[arg(long, default_value_t = 10_000)]
    routes: u32,
    /// Seconds for which it is idle.
    #[arg(long, default_value_t = 20)]
    idle: u32,
}

/// Messages a second of a busy gateway, and of a very busy one.
const RATE: u32 = 300;
const HIGH_RATE: u32 = 500;
/// Messages that are drained at once.
const DRAINING: u32 = 64;
/// Messages by which fsyncs are counted, one after another.
const SYNCED: u32 = 100;
/// Longest wait for replies.
const AT_MOST: Duration = Duration::from_secs(120);

/// What each message, or webhook, has cost.
#[derive(Clone, Default)]
pub(crate) struct Cost {
    /// Microseconds of CPU of the process.
    pub(crate) cpu: f64,
    /// The same of its Redis server; 0 without one.
    pub(crate) redis: f64,
    /// KiB that the process sent to the disk.
    pub(crate) written: f64,
    /// Scripts that were called.
    pub(crate) scripts: f64,
    /// Microseconds of Redis inside scripts.
    pub(crate) inside: f64,
    /// The commands, in words.
    pub(crate) commands: String,
}

/// 50th, 95th and 99th percentile, in milliseconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Delays {
    /// Half are quicker.
    pub(crate) p50: f64,
    /// One in twenty is slower.
    pub(crate) p95: f64,
    /// One in a hundred is slower.
    pub(crate) p99: f64,
}

/// Whole messages, from webhook to reply.
pub(crate) struct Whole {
    /// At a steady rate.
    pub(crate) steady: Cost,
    /// From webhook to reply, at that rate.
    pub(crate) replies: Delays,
    /// Until a webhook is answered, at the higher rate.
    pub(crate) answers: Delays,
    /// Draining a backlog.
    pub(crate) draining: Cost,
    /// MiB, the most that it was.
    pub(crate) peak: f64,
    /// Fsyncs of the process by one message alone.
    pub(crate) fsyncs: Option<f64>,
}

/// Webhooks alone.
pub(crate) struct Webhooks {
    /// Accepted, at saturation.
    pub(crate) accepted: Cost,
    /// Refused, at saturation.
    pub(crate) refused: Cost,
    /// Until one is answered, at the higher rate.
    pub(crate) answers: Delays,
    /// MiB, the most that it was.
    pub(crate) peak: f64,
}

/// A gateway with many routes, at rest.
#[derive(Default)]
pub(crate) struct Idle {
    /// MiB more than with a few routes.
    pub(crate) more: f64,
    /// Percent of a core.
    pub(crate) cpu: f64,
    /// Commands to Redis, a second.
    pub(crate) trips: f64,
    /// The same with what scripts call.
    pub(crate) commands: f64,
}

/// Whole messages: at 300 a second, at 500, a backlog, and one by one.
pub(crate) async fn whole(side: Side, kept: Kept, amounts: &Amounts) -> Result<Whole> {
    let subject = Subject::start(side, kept, None).await?;
    steady(&subject, RATE, 2).await?;
    let (steady_cost, _, replies) = steady(&subject, RATE, amounts.seconds).await?;
    let (_, answers, _) = steady(&subject, HIGH_RATE, amounts.seconds).await?;
    let fsyncs = if kept == Kept::Embedded { one_by_one(&subject).await? } else { None };
    drop(subject);
    let subject = Subject::start(side, kept, Some(DRAINING)).await?;
    steady(&subject, RATE, 1).await?;
    let draining = drain(&subject, amounts.backlog).await?;
    let peak = cost::peak(subject.pid()?)?;
    Ok(Whole { steady: steady_cost, replies, answers, draining, peak, fsyncs })
}

/// Webhooks of a process that only receives.
pub(crate) async fn webhooks(side: Side, kept: Kept, amounts: &Amounts) -> Result<Webhooks> {
    let subject = Subject::start(side, kept, Some(0)).await?;
    saturated(&subject, amounts.webhooks / 20, true).await?;
    let refused = saturated(&subject, amounts.webhooks, false).await?;
    let requests = subject.messages(HIGH_RATE * amounts.seconds)?;
    let line = Line::waiting(&subject.address()).await?;
    let answers = Delays::of(load::steadily(line, requests, HIGH_RATE).await?.iter().map(took));
    let accepted = saturated(&subject, amounts.webhooks, true).await?;
    let peak = cost::peak(subject.pid()?)?;
    Ok(Webhooks { accepted, refused, answers, peak })
}

/// A gateway that nobody writes to.
pub(crate) async fn idle(kept: Kept, amounts: &Amounts) -> Result<Idle> {
    let few = Subject::start(Side::Gateway, kept, None).await?;
    sleep(Duration::from_secs(5)).await;
    let little = cost::resident(few.pid()?)?;
    drop(few);
    let many = Subject::with_channels(Side::Gateway, kept, None, amounts.routes).await?;
    // Every route is acknowledged, and what its list took is given back.
    sleep(Duration::from_secs(15)).await;
    let more = cost::resident(many.pid()?)? - little;
    let mut meter = Meter::of(&many).await?;
    let before = meter.read().await?;
    sleep(Duration::from_secs(amounts.idle.into())).await;
    let spent = meter.read().await?.since(&before);
    let seconds = f64::from(amounts.idle);
    Ok(Idle {
        more,
        cpu: spent.cpu / seconds / 1e4,
        trips: spent.commands.trips() / seconds,
        commands: spent.commands.all() / seconds,
    })
}

/// At a rate: cost, time to the webhook's answer, time to the reply.
async fn steady(subject: &Subject, rate: u32, seconds: u32) -> Result<(Cost, Delays, Delays)> {
    let requests = subject.messages(rate * seconds)?;
    let line = Line::waiting(&subject.address()).await?;
    let (count, before) = (requests.len(), subject.twilio.sent().len());
    let mut meter = Meter::of(subject).await?;
    let start = meter.read().await?;
    let posted = load::steadily(line, requests, rate).await?;
    replied(subject, before + count).await?;
    let spent = meter.read().await?.since(&start);
    let begun: BTreeMap<&str, Instant> =
        posted.iter().map(|posted| (posted.customer.as_str(), posted.begun)).collect();
    let sent = subject.twilio.sent().split_off(before);
    let replies = sent.iter().filter_map(|sent| Some(sent.arrived - *begun.get(sent.to.as_str())?));
    let answers = Delays::of(posted.iter().map(took));
    Ok((spent.each(count), answers, Delays::of(replies)))
}

/// A backlog that waits for its agent: from the moment when that answers again to the last reply.
async fn drain(subject: &Subject, count: u32) -> Result<Cost> {
    let before = subject.twilio.sent().len();
    subject.agent.behave(Behaviour::Hang);
    let requests = subject.messages(count)?;
    load::saturate(Line::busy(&subject.address()).await?, requests, 200).await?;
    sleep(Duration::from_secs(1)).await; // every turn that there is has begun
    let mut meter = Meter::of(subject).await?;
    let start = meter.read().await?;
    subject.agent.behave(Behaviour::Echo("U schreef: ".to_owned()));
    replied(subject, before + count as usize).await?;
    Ok(meter.read().await?.since(&start).each(count as usize))
}

async fn saturated(subject: &Subject, count: u32, genuine: bool) -> Result<Cost> {
    let requests = if genuine { subject.chats(count)? } else { subject.forgeries(count)? };
    let line = Line::busy(&subject.address()).await?;
    let mut meter = Meter::of(subject).await?;
    let start = meter.read().await?;
    load::saturate(line, requests, if genuine { 200 } else { 403 }).await?;
    Ok(meter.read().await?.since(&start).each(count as usize))
}

/// Fsyncs of one message, each posted when the one before was answered: none shares another's.
async fn one_by_one(subject: &Subject) -> Result<Option<f64>> {
    let requests = subject.messages(SYNCED)?;
    let mut connection = Connection::open(&subject.address()).await?;
    let before = subject.twilio.sent().len();
    let counted = fsyncs::count(subject.pid()?, async {
        for (number, request) in requests.into_iter().enumerate() {
            connection.exchange(&request).await?;
            replied(subject, before + number + 1).await?;
            // What is written behind a reply is that message's own.
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    });
    Ok(counted.await?.map(|syncs| syncs / f64::from(SYNCED)))
}

async fn replied(subject: &Subject, all: usize) -> Result<()> {
    let sent = subject.twilio.wait_for_sent(all, AT_MOST).await;
    ensure!(sent == all, "{sent} replies of {all}");
    Ok(())
}

fn took(posted: &Posted) -> Duration {
    posted.took
}

/// Reads what a subject has used.
struct Meter {
    pid: u32,
    redis: Option<(u32, Counter)>,
}

/// What it had used at one moment, or between two.
struct Used {
    cpu: f64,
    redis: f64,
    written: f64,
    commands: Commands,
}

impl Meter {
    async fn of(subject: &Subject) -> Result<Self> {
        let redis = match subject.redis() {
            Some(server) => Some((server.pid()?, Counter::of(server).await?)),
            None => None,
        };
        Ok(Self { pid: subject.pid()?, redis })
    }

    async fn read(&mut self) -> Result<Used> {
        let (cpu, written) = (cost::cpu(self.pid)?, cost::written(self.pid)?);
        let (redis, commands) = match &mut self.redis {
            Some((pid, counter)) => (cost::cpu(*pid)?, counter.read().await?),
            None => (0.0, Commands::default()),
        };
        Ok(Used { cpu, redis, written, commands })
    }
}

impl Used {
    fn since(self, before: &Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            redis: self.redis - before.redis,
            written: self.written - before.written,
            commands: self.commands.since(&before.commands),
        }
    }

    fn each(&self, count: usize) -> Cost {
        let count = count as f64;
        Cost {
            cpu: self.cpu / count,
            redis: self.redis / count,
            written: self.written / count / 1024.0,
            scripts: self.commands.scripts() / count,
            inside: self.commands.inside() / count,
            commands: self.commands.profile(count),
        }
    }
}

impl Delays {
    fn of(delays: impl Iterator<Item = Duration>) -> Self {
        let mut delays: Vec<f64> = delays.map(|delay| delay.as_secs_f64() * 1e3).collect();
        delays.sort_by(f64::total_cmp);
        let last = delays.len().saturating_sub(1);
        let at = |share: usize| delays.get(last * share / 100).copied().unwrap_or_default();
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

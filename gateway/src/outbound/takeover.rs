//! Replicas that fall silent: what they held goes on at once.
//!
//! Takes what the store heard of the others, ends the leases of one that it has not heard for five
//! seconds, and rings for them. Only while the store hears this replica without a gap: after an
//! outage of the store everybody is silent and nobody dead. And only by a clock of the store that went
//! as ours did: after a jump of it everybody seems silent, or is ahead. A nonce stays the only proof of
//! a lease: whoever lives after all learns that it lost its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kanarie_queue::expire::ExpireLeases;
use kanarie_words::Millis;
use kanarie_words::ids::{ReplicaName, SHARDS};
use tokio::time::{Instant, sleep};

use crate::events::emit;
use crate::events::outbound::OutboundEvent;
use crate::heartbeat::STALE_AFTER;
use crate::outbound::context::Worker;
use crate::outbound::lease::holder;
use crate::store::fleet::ReplicaState;

/// Time until the next look after one that told nothing.
const AGAIN: Duration = Duration::from_millis(500);
/// Shortest time between two looks, and longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// What the store's clock may differ from ours between two looks: not enough to make one seem silent
/// who is heard every two seconds.
const DRIFT: Duration = Duration::from_millis(500);

/// The store's clock beside ours.
#[derive(Debug, Default)]
struct Steady(Option<Look>);

/// A look at the store.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// When it was asked and when it had answered, by our clock.
    asked: Instant,
    answered: Instant,
    /// What its clock said in between.
    now: Millis,
    /// The first look after which the two clocks went alike.
    since: Millis,
}

/// For ever: looks when the next one of the others would have been silent for too long. Also while
/// there is none: how the store's clock goes has to be known before somebody dies.
pub(crate) async fn watch(worker: Arc<Worker>) {
    let (mut ended, mut steady) = (HashSet::new(), Steady::default());
    let mut pause = PAUSE.1;
    loop {
        sleep(pause).await;
        if !worker.ctx.pulse.is_steady() {
            pause = AGAIN;
            continue;
        }
        let asked = Instant::now();
        match worker.ctx.store.heard().await {
            Ok((now, replicas)) => {
                let since = steady.look(asked, Instant::now(), now);
                let others = replicas.iter().filter(|of| of.replica != worker.ctx.replica);
                let (silent, next) = silent(now, since, others);
                ended.retain(|name| silent.contains(name));
                pause = next.clamp(PAUSE.0, PAUSE.1);
                for name in silent.difference(&ended.clone()) {
                    if end_leases(&worker, name).await {
                        ended.insert(name.clone());
                    } else {
                        pause = AGAIN;
                    }
                }
            }
            Err(error) => {
                emit(OutboundEvent::StoreFailed { error: error.to_string() });
                pause = AGAIN;
            }
        }
    }
}

impl Steady {
    /// Takes a look; gives the store's time since which its clock goes as ours does.
    fn look(&mut self, asked: Instant, answered: Instant, now: Millis) -> Millis {
        let since = self.0.filter(|last| last.goes_on(asked, answered, now));
        let since = since.map_or(now, |last| last.since);
        self.0 = Some(Look { asked, answered, now, since });
        since
    }
}

impl Look {
    /// Whether the store's clock went on by as much as ours did.
    fn goes_on(&self, asked: Instant, answered: Instant, now: Millis) -> bool {
        let Some(went) = now.checked_sub(self.now).map(Duration::from_millis) else { return false };
        let shortest = asked.saturating_duration_since(self.answered);
        let longest = answered.saturating_duration_since(self.asked);
        went + DRIFT >= shortest && went <= longest + DRIFT
    }
}

/// Those that are silent for too long, and the time until the next one would be. Who was heard before
/// `since`, or is ahead of the clock, counts as heard then.
fn silent<'a>(
    now: Millis,
    since: Millis,
    others: impl Iterator<Item = &'a ReplicaState>,
) -> (HashSet<ReplicaName>, Duration) {
    let (mut silent, mut next) = (HashSet::new(), PAUSE.1);
    for other in others {
        let heard = if other.seen_at > now { since } else { other.seen_at.max(since) };
        let quiet = Duration::from_millis(now.saturating_sub(heard));
        if quiet >= STALE_AFTER {
            silent.insert(other.replica.clone());
        } else {
            next = next.min(STALE_AFTER - quiet);
        }
    }
    (silent, next)
}

/// Whether the store has done it.
async fn end_leases(worker: &Worker, name: &ReplicaName) -> bool {
    match worker.ctx.store.run(ExpireLeases { holder: Some(holder(name)) }).await {
        Ok(leases) => {
            if leases > 0 {
                emit(OutboundEvent::TakenOver { replica: name.to_string(), leases });
            }
            // Also when another replica, or a call whose answer was lost, has ended them.
            (0..SHARDS).for_each(|shard| worker.ring(shard));
            true
        }
        Err(error) => {
            emit(OutboundEvent::StoreFailed { error: error.to_string() });
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use kanarie_words::Millis;
    use kanarie_words::ids::ReplicaName;
    use tokio::time::Instant;

    use super::{Steady, silent};
    use crate::store::fleet::ReplicaState;

    fn state(name: &str, seen_at: Millis) -> ReplicaState {
        ReplicaState { replica: name.parse().unwrap(), seen_at, digest: "d".parse().unwrap() }
    }

    /// Looks at replica `a`, which is heard every two seconds, and `b`, which fell silent, under a clock
    /// of the store that is `ahead` of ours by as many milliseconds at each second.
    fn ended(seconds: u64, b_until: u64, ahead: impl Fn(u64) -> i64) -> Vec<(u64, String)> {
        let (began, mut steady) = (Instant::now(), Steady::default());
        let clock = |second: u64| (1_000_000 + second * 1_000).saturating_add_signed(ahead(second));
        let mut ended: Vec<(u64, String)> = Vec::new();
        for second in 0..seconds {
            let at = began + Duration::from_secs(second);
            let (a, b) = (second / 2 * 2, second.min(b_until) / 2 * 2);
            // As both stores do, which forget who was not heard for a minute.
            let heard = [state("a", clock(a)), state("b", clock(b))];
            let heard = heard.iter().filter(|of| clock(second).saturating_sub(of.seen_at) < 60_000);
            let since = steady.look(at, at, clock(second));
            let (silent, _): (HashSet<ReplicaName>, _) = silent(clock(second), since, heard);
            ended.extend(silent.iter().map(|name| (second, name.to_string())));
        }
        ended.dedup_by(|one, other| one.1 == other.1);
        ended
    }

    #[test]
    fn a_replica_is_silent_after_five_seconds() {
        let replicas =
            [state("a", 10_000), state("b", 8_500), state("c", 6_000), state("d", 5_000)];
        let (silent, next) = silent(11_000, 1_000, replicas.iter());
        assert_eq!(silent, ["c".parse().unwrap(), "d".parse().unwrap()].into());
        assert_eq!(next, Duration::from_millis(2_500));
    }

    #[test]
    fn of_two_replicas_the_one_that_died_is_found_after_five_seconds() {
        assert_eq!(ended(60, 20, |_| 0), [(25, "b".to_owned())]);
    }

    #[test]
    fn a_clock_that_steps_ends_nobody_s_leases() {
        for step in [4_000, 9_000, 86_400_000, -4_000, -86_400_000] {
            let ahead = |second| if second >= 31 { step } else { 0 };
            assert_eq!(ended(60, 60, ahead), [], "{step}");
        }
    }

    #[test]
    fn one_that_died_before_the_clock_stepped_is_found_five_seconds_after_that() {
        for step in [4_000, 9_000, 40_000, -30_000] {
            let ahead = |second| if second >= 31 { step } else { 0 };
            assert_eq!(ended(60, 30, ahead), [(36, "b".to_owned())], "{step}");
        }
    }

    #[test]
    fn an_answer_that_takes_its_time_is_no_step() {
        let (began, mut steady) = (Instant::now(), Steady::default());
        let after = |ms| began + Duration::from_millis(ms);
        assert_eq!(steady.look(after(0), after(10), 50_000), 50_000);
        assert_eq!(steady.look(after(5_000), after(6_000), 55_900), 50_000);
        assert_eq!(steady.look(after(8_000), after(8_010), 58_000), 50_000);
    }
}

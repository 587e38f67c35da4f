//! Reads the gateways for the board, for ever.
//!
//! Takes what is due on the board, asks for it, puts the answers there, and has the channels
//! reconciled for which they are news. Beside that keeps a few questions open about the channels that roll,
//! which a gateway answers as soon as something urgent was counted, so that nobody waits for the next
//! look. A gateway that cannot wait answers at once: then it is asked so only now and then. Never
//! judges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kanarie_crds::control::MAX_CHANNELS_PER_REQUEST;
use kanarie_words::ids::{ChannelUid, UrgentDigest};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::key::ChannelKey;
use crate::gateways::board::{Board, SUMMARY_INTERVAL, TICK};
use crate::gateways::control::{Control, ControlError};
use crate::process::chain::chain;
use crate::process::metrics::Metrics;
use crate::watch::channels::Channels;

/// Questions that are kept open; a channel belongs to one of them for ever, so that a rollout which begins
/// disturbs one only.
const LINES: usize = 8;
/// News for more channels than this are news of the gateways, which those at rest hear by and by.
const CROWD: usize = MAX_CHANNELS_PER_REQUEST;
/// How long a gateway lets a question wait: under the idle time of every balancer.
const WAIT: Duration = Duration::from_secs(25);
/// From one question of a line to the next: after an answer that told something.
const AFTER_NEWS: Duration = Duration::from_millis(100);
/// After one that told nothing, or none at all.
const AFTER_NOTHING: Duration = Duration::from_secs(1);

/// Reads for ever.
pub async fn run(
    board: Arc<Board>,
    control: Control,
    channels: Arc<Channels>,
    metrics: Arc<Metrics>,
) {
    let reader = Reader { board, control, channels, metrics };
    let lines = join_all((0..LINES).map(|line| reader.listen(line)));
    tokio::join!(reader.look(), lines);
}

struct Reader {
    board: Arc<Board>,
    control: Control,
    channels: Arc<Channels>,
    metrics: Arc<Metrics>,
}

impl Reader {
    /// Asks for what is due.
    async fn look(&self) {
        loop {
            if let Err(error) = self.round().await {
                self.metrics.control_failures.inc();
                tracing::warn!(error = %chain(&error), "no evidence: the gateways cannot be asked");
                sleep(AFTER_NOTHING).await;
            }
            self.tell(self.board.silence(Instant::now()));
            sleep(TICK).await;
        }
    }

    /// Asks for everything that is due.
    async fn round(&self) -> Result<(), ControlError> {
        let due = self.board.due(Instant::now());
        if due.is_empty() && !self.board.summary_is_due(Instant::now()) {
            return Ok(());
        }
        let mut batches: Vec<&[ChannelUid]> = due.chunks(MAX_CHANNELS_PER_REQUEST).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for uids in batches {
            let state = self.control.state(uids).await;
            let state = state.inspect_err(|_| self.board.put_off(uids, Instant::now()))?;
            self.tell(self.board.take(uids, state, Instant::now()));
        }
        Ok(())
    }

    /// Keeps one question open.
    async fn listen(&self, line: usize) {
        let mut rollouts = self.board.rollouts();
        let mut last: BTreeMap<usize, (Vec<ChannelUid>, UrgentDigest)> = BTreeMap::new();
        let mut turn = 0_usize;
        loop {
            rollouts.mark_unchanged();
            let Window { uids, number, of } = window(self.board.rolling(), line, turn);
            last.retain(|window, _| *window < of);
            let known = last.get(&number).filter(|(of, _)| *of == uids).map(|(_, digest)| digest);
            let (began, wait) = (Instant::now(), wait(of));
            let answer = tokio::select! {
                answer = self.control.urgent(&uids, wait, known), if !uids.is_empty() => answer,
                () = self.others(&mut rollouts, line, (turn, &uids)) => {
                    sleep_until(began + AFTER_NEWS).await;
                    continue;
                }
            };
            let told = answer.as_ref().ok().map(|state| state.digest.as_ref());
            let next = began + apart(known, told);
            turn = turn.wrapping_add(1);
            match answer {
                Ok(state) => {
                    let digest = state.digest.clone();
                    last.extend(digest.map(|digest| (number, (uids.clone(), digest))));
                    self.tell(self.board.hear(&uids, state, Instant::now()));
                }
                // The looks say it in the log.
                Err(_) => self.metrics.control_failures.inc(),
            }
            sleep_until(next).await;
        }
    }

    /// Until this line has other channels than these.
    async fn others(
        &self,
        rollouts: &mut watch::Receiver<()>,
        line: usize,
        (turn, uids): (usize, &[ChannelUid]),
    ) {
        while window(self.board.rolling(), line, turn).uids == uids {
            // The board outlives the reader.
            let _ = rollouts.changed().await;
        }
    }

    fn tell(&self, news: Vec<ChannelKey>) {
        if news.len() > CROWD {
            return news.iter().for_each(|key| self.channels.ask_by_and_by(key));
        }
        news.iter().for_each(|key| self.channels.ask(key));
    }
}

/// As many channels of a line as one question may name.
struct Window {
    uids: Vec<ChannelUid>,
    /// Which of all.
    number: usize,
    of: usize,
}

/// The channels of a line whose turn it is: when they are too many for one question, one part after the other,
/// so that nobody is left out because of his name.
fn window(rolling: Vec<ChannelUid>, line: usize, turn: usize) -> Window {
    let sum = |uid: &ChannelUid| uid.as_str().bytes().map(usize::from).sum::<usize>();
    let own: Vec<_> = rolling.into_iter().filter(|uid| sum(uid) % LINES == line).collect();
    let of = own.len().div_ceil(MAX_CHANNELS_PER_REQUEST).max(1);
    let number = turn % of;
    let part = own.into_iter().skip(number * MAX_CHANNELS_PER_REQUEST);
    Window { uids: part.take(MAX_CHANNELS_PER_REQUEST).collect(), number, of }
}

/// How long one part waits when there are so many: each is asked about within the time of one alone.
fn wait(parts: usize) -> Duration {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX).max(1);
    (WAIT / parts).max(AFTER_NOTHING)
}

/// From one question to the next, by what was known and what the answer told, if there was one.
fn apart(known: Option<&UrgentDigest>, told: Option<Option<&UrgentDigest>>) -> Duration {
    match told {
        // It cannot wait; after an update it can.
        Some(None) => SUMMARY_INTERVAL,
        Some(digest) if digest != known => AFTER_NEWS,
        // The end of a wait lies behind it; else too many wait there, or it stops.
        Some(Some(_)) | None => AFTER_NOTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_cannot_wait_is_asked_to_now_and_then_and_one_that_does_not_once_a_second() {
        let digest = |byte| UrgentDigest::from_bytes([byte; 16]);
        let (one, other) = (digest(1), digest(2));
        assert_eq!(apart(None, Some(None)), SUMMARY_INTERVAL);
        assert_eq!(apart(Some(&one), Some(None)), SUMMARY_INTERVAL);
        assert_eq!(apart(Some(&one), Some(Some(&one))), AFTER_NOTHING);
        assert_eq!(apart(Some(&one), None), AFTER_NOTHING);
        assert_eq!(apart(Some(&one), Some(Some(&other))), AFTER_NEWS);
        assert_eq!(apart(None, Some(Some(&other))), AFTER_NEWS);
    }

    #[test]
    fn every_channel_that_rolls_has_its_turn_on_one_line_however_many_there_are() {
        for count in [500, 5_000] {
            let uids: Vec<_> = (0..count).map(|at| format!("u{at}").parse().unwrap()).collect();
            let mut heard: Vec<ChannelUid> = Vec::new();
            for line in 0..LINES {
                let of = window(uids.clone(), line, 0).of;
                assert_eq!(of > 1, count > 1_600, "{of}");
                let parts = (0..of).map(|turn| window(uids.clone(), line, turn).uids);
                parts.for_each(|part| {
                    assert!(part.len() <= MAX_CHANNELS_PER_REQUEST);
                    heard.extend(part);
                });
            }
            let mut all = uids.clone();
            heard.sort();
            all.sort();
            assert_eq!(heard, all);
        }
        assert_eq!((wait(1), wait(5), wait(1_000)), (WAIT, WAIT / 5, AFTER_NOTHING));
    }
}

//! The answer to the operator's question, which may wait until it is worth giving.
//!
//! Takes the channels that are asked about, how long the answer may wait and the digest that the asker
//! has; gives the state as soon as it is another one in what is urgent, at the end of the wait as it is, or at
//! once when this gateway stops or too many wait already. Looks at the store when something urgent was
//! counted, seldom enough that a burst costs little, and never because time passes, unless calls of
//! other replicas cannot be heard. While it waits somebody watches, which the store is told; whoever
//! goes away drops the future, and it tells nothing more.

use std::time::Duration;

use kanarie_crds::control::ControlState;
use kanarie_words::ids::{ChannelUid, UrgentDigest};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::admin::caller::Refusal;
use crate::admin::shared::Admin;
use crate::admin::state::{read, urgent};
use crate::news::Listener;
use crate::stop::stopped;

/// Longest that a look at the store may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Shortest time between two looks of one asker, and for each channel that he asks about.
const APART: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2));
/// Time between two looks while calls of other replicas cannot be heard.
const DEAF: Duration = Duration::from_secs(1);
/// How often the store is told that somebody waits.
const WATCHED: Duration = Duration::from_secs(5);

/// How an answer may wait.
pub(super) struct Waiting {
    /// How long.
    pub(super) wait: Duration,
    /// What the asker was told last.
    pub(super) known: Option<UrgentDigest>,
}

/// The state as it is.
pub(super) async fn now(admin: &Admin, named: &[ChannelUid]) -> Result<ControlState, Refusal> {
    let answer = async {
        admin.store.note_asked().await?;
        let rolls = |uid: &&ChannelUid| admin.may_roll(uid);
        let counted = named.iter().filter(rolls).cloned().collect();
        read(&admin.store, &admin.unsynced, named.to_vec(), counted).await
    };
    let slow = |_| Refusal::Unavailable("the store is too slow".to_owned());
    Ok(timeout(DEADLINE, answer).await.map_err(slow)??)
}

/// The state once it is urgent or the wait is over.
pub(super) async fn later(
    admin: &Admin,
    named: &[ChannelUid],
    waiting: &Waiting,
) -> Result<ControlState, Refusal> {
    let apart = APART.0 + APART.1 * u32::try_from(named.len()).unwrap_or(u32::MAX);
    let until = Instant::now() + waiting.wait;
    let mut listener = admin.doorbell.news().listen();
    if waiting.known.is_some() {
        // He has just been answered.
        rest(admin, apart).await;
    }
    loop {
        // What is told from here on may not be in what is read.
        if let Some(listener) = listener.as_mut() {
            listener.forget();
        }
        let mut state = now(admin, named).await?;
        let digest = urgent(&state);
        let is_news = waiting.known.as_ref() != Some(&digest);
        state.digest = Some(digest);
        let Some(listener) = listener.as_mut().filter(|_| !is_news && Instant::now() < until)
        else {
            return Ok(state);
        };
        if *admin.shutdown.borrow() {
            return Ok(state);
        }
        let next = Instant::now() + apart;
        heard(admin, named, listener, until).await;
        rest(admin, next.min(until).saturating_duration_since(Instant::now())).await;
    }
}

/// Until something was counted, or `until`. Meanwhile the store is told that somebody waits.
async fn heard(admin: &Admin, named: &[ChannelUid], listener: &mut Listener, until: Instant) {
    let is_deaf = !admin.store.hears() && !admin.pulse.is_alone();
    let until = if is_deaf { until.min(Instant::now() + DEAF) } else { until };
    let mut shutdown = admin.shutdown.clone();
    tokio::select! {
        () = listener.of(named) => {}
        () = sleep_until(until) => {}
        () = stopped(&mut shutdown) => {}
        () = watched(admin) => {}
    }
}

/// For ever: tells the store that somebody asks. A store that does not hear it is asked at the end.
async fn watched(admin: &Admin) {
    loop {
        sleep(WATCHED).await;
        let _ = timeout(DEADLINE, admin.store.note_asked()).await;
    }
}

/// Sleeps, unless this gateway stops.
async fn rest(admin: &Admin, pause: Duration) {
    let mut shutdown = admin.shutdown.clone();
    tokio::select! {
        () = sleep(pause) => {}
        () = stopped(&mut shutdown) => {}
    }
}

//! Who is looked at next: channels that roll before channels at rest.
//!
//! Takes keys, now or for later; gives them one by one. Those that are urgent go first and without
//! a limit; of the others only so many are out at once, so that there is always room for a canary.
//! A key waits once, however often it is asked for. Knows nothing of a channel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::cluster::key::ChannelKey;

/// Keys that wait for their turn.
pub struct LookQueue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

/// How soon somebody wants a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A canary is out, or a person waits.
    First,
    /// At rest.
    InTurn,
}

struct Waiting {
    first: Lane,
    in_turn: Lane,
    /// Those in turn that were given and have not ended.
    out: BTreeSet<ChannelKey>,
    /// Most of these at once.
    room: usize,
    /// Whether they wait until more is known.
    held_back: bool,
    later: BTreeSet<(Instant, ChannelKey)>,
    due: BTreeMap<ChannelKey, (Instant, Urgency)>,
}

/// In the order of their coming, each once.
#[derive(Default)]
struct Lane {
    order: VecDeque<ChannelKey>,
    members: BTreeSet<ChannelKey>,
}

impl LookQueue {
    /// With room for so many that are at rest.
    pub fn new(room: usize) -> Self {
        let waiting = Waiting {
            first: Lane::default(),
            in_turn: Lane::default(),
            out: BTreeSet::new(),
            room,
            held_back: false,
            later: BTreeSet::new(),
            due: BTreeMap::new(),
        };
        Self { waiting: Mutex::new(waiting), news: Notify::new() }
    }

    /// Asks for a look now; one that was due later is this one.
    pub fn ask(&self, key: ChannelKey, urgency: Urgency) {
        self.lock().ask(key, urgency);
        self.news.notify_one();
    }

    /// Asks for a look within some time, unless one is due before.
    pub fn ask_within(&self, key: &ChannelKey, pause: Duration, urgency: Urgency) {
        let mut waiting = self.lock();
        waiting.put_off(key, Instant::now() + pause, urgency);
        drop(waiting);
        self.news.notify_one();
    }

    /// Whether those that are at rest wait until more is known.
    pub fn hold_back(&self, held_back: bool) {
        self.lock().held_back = held_back;
        self.news.notify_one();
    }

    /// A look has ended; the next is due after `pause`, or when somebody asks, and never for one that is
    /// gone.
    pub fn ended(&self, key: &ChannelKey, next: Option<(Duration, Urgency)>) {
        let mut waiting = self.lock();
        waiting.out.remove(key);
        if let Some((pause, urgency)) = next {
            waiting.put_off(key, Instant::now() + pause, urgency);
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// The next one, as soon as there is one.
    pub async fn next(&self) -> ChannelKey {
        loop {
            let until = {
                let mut waiting = self.lock();
                waiting.ripen(Instant::now());
                if let Some(key) = waiting.take() {
                    return key;
                }
                waiting.later.first().map(|(due, _)| *due)
            };
            match until {
                Some(due) => {
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = self.news.notified() => {}
                    }
                }
                None => self.news.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn ask(&mut self, key: ChannelKey, urgency: Urgency) {
        self.forget_later(&key);
        match urgency {
            Urgency::First => {
                self.in_turn.remove(&key);
                self.first.push(key);
            }
            Urgency::InTurn if self.first.members.contains(&key) => {}
            Urgency::InTurn => self.in_turn.push(key),
        }
    }

    fn asks_for(&self, key: &ChannelKey) -> bool {
        self.first.members.contains(key) || self.in_turn.members.contains(key)
    }

    /// Until then, or until it is due or asked for.
    fn put_off(&mut self, key: &ChannelKey, due: Instant, urgency: Urgency) {
        if self.asks_for(key) || self.due.get(key).is_some_and(|(known, _)| *known <= due) {
            return;
        }
        self.forget_later(key);
        self.later.insert((due, key.clone()));
        self.due.insert(key.clone(), (due, urgency));
    }

    fn forget_later(&mut self, key: &ChannelKey) {
        if let Some((due, _)) = self.due.remove(key) {
            self.later.remove(&(due, key.clone()));
        }
    }

    /// What is due by now waits like what was asked for.
    fn ripen(&mut self, now: Instant) {
        while let Some((due, key)) = self.later.first().filter(|(due, _)| *due <= now).cloned() {
            self.later.remove(&(due, key.clone()));
            let urgency = self.due.remove(&key).map_or(Urgency::InTurn, |(_, urgency)| urgency);
            self.ask(key, urgency);
        }
    }

    fn take(&mut self) -> Option<ChannelKey> {
        if let Some(key) = self.first.pop() {
            return Some(key);
        }
        if self.held_back || self.out.len() >= self.room {
            return None;
        }
        let key = self.in_turn.pop()?;
        self.out.insert(key.clone());
        Some(key)
    }
}

impl Lane {
    fn push(&mut self, key: ChannelKey) {
        if self.members.insert(key.clone()) {
            self.order.push_back(key);
        }
    }

    fn remove(&mut self, key: &ChannelKey) {
        if self.members.remove(key) {
            self.order.retain(|other| other != key);
        }
    }

    fn pop(&mut self) -> Option<ChannelKey> {
        let key = self.order.pop_front()?;
        self.members.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn key(name: &str) -> ChannelKey {
        ChannelKey { namespace: "shop".into(), name: name.into() }
    }

    fn names(queue: &LookQueue) -> Vec<String> {
        std::iter::from_fn(|| queue.next().now_or_never()).map(|key| key.name).collect()
    }

    #[test]
    fn a_channel_that_rolls_overtakes_all_that_are_at_rest() {
        let queue = LookQueue::new(2);
        for name in ["a", "b", "c"] {
            queue.ask(key(name), Urgency::InTurn);
        }
        queue.ask(key("rolls"), Urgency::First);
        assert_eq!(names(&queue), ["rolls", "a", "b"]);
        queue.ask(key("c"), Urgency::First);
        assert_eq!(names(&queue), ["c"], "out of its turn");
        queue.ask(key("d"), Urgency::InTurn);
        assert!(names(&queue).is_empty(), "two at rest are out");
        queue.ended(&key("a"), None);
        assert_eq!(names(&queue), ["d"]);
    }

    #[tokio::test]
    async fn what_is_wanted_within_a_minute_comes_when_it_is_due_or_asked_for_and_once() {
        let queue = LookQueue::new(9);
        queue.ask_within(&key("a"), Duration::from_secs(60), Urgency::InTurn);
        assert!(names(&queue).is_empty());
        queue.ask_within(&key("a"), Duration::ZERO, Urgency::InTurn);
        queue.ask_within(&key("a"), Duration::from_secs(60), Urgency::InTurn);
        assert_eq!(names(&queue), ["a"]);
        assert!(names(&queue).is_empty());
    }

    #[test]
    fn at_rest_one_waits_until_more_is_known_and_a_canary_does_not() {
        let queue = LookQueue::new(9);
        queue.hold_back(true);
        queue.ask(key("rests"), Urgency::InTurn);
        queue.ask(key("rolls"), Urgency::First);
        assert_eq!(names(&queue), ["rolls"]);
        queue.hold_back(false);
        assert_eq!(names(&queue), ["rests"]);
    }

    #[test]
    fn a_channel_waits_once_and_in_the_most_urgent_place() {
        let queue = LookQueue::new(9);
        queue.ask(key("a"), Urgency::InTurn);
        queue.ask(key("a"), Urgency::InTurn);
        queue.ask(key("a"), Urgency::First);
        queue.ask(key("a"), Urgency::InTurn);
        assert_eq!(names(&queue), ["a"]);
    }

    #[tokio::test]
    async fn what_is_asked_for_now_is_not_looked_at_again_when_it_would_have_been_due() {
        let queue = LookQueue::new(9);
        queue.ended(&key("a"), Some((Duration::ZERO, Urgency::InTurn)));
        assert_eq!(queue.next().await.name, "a");
        queue.ended(&key("a"), Some((Duration::ZERO, Urgency::InTurn)));
        queue.ask(key("a"), Urgency::First);
        assert_eq!(names(&queue), ["a"]);
    }
}

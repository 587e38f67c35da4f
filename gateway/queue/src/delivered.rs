//! What is remembered of deliveries, and its rows.
//!
//! Takes reports one after the other, says of each whether it changed its segment; keeps the last eight
//! segments of a conversation for two minutes, because Twilio repeats and reverses within one, and what a
//! channel could not deliver for 14 days. Keeps no more than so many conversations, for whoever signs
//! callbacks may name as many as he likes: the oldest go, and a repetition of theirs is a change. Its
//! time is never before its own last change, unless the clock was put back by more than a shard waits
//! for (`clock.rs`). Never reads a clock.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ConversationId, IntentId};
use serde::{Deserialize, Serialize};

use crate::clock::believed;
use crate::delivery::{Delivery, SegmentReport};
use crate::rows::{KeptRow, Row, json};
use crate::shard::Kept;

/// Segments that are remembered per conversation.
const SEGMENTS: usize = 8;

/// Conversations that are remembered at most, two minutes at 270 new ones a second.
const CONVERSATIONS: usize = 32_768;

/// How long they are, after their last change.
const SEGMENTS_MS: u64 = 120_000;

/// How long a channel's undelivered replies are told after the last one: 14 days, as dead letters are.
const UNDELIVERED_MS: u64 = 14 * 86_400_000;

/// Rows of each kind that one call forgets at most: more than a batch can add.
const FORGOTTEN: usize = 256;

/// All that is remembered of deliveries.
#[derive(Default)]
pub(crate) struct Deliveries {
    /// The time of the last change; what ended by then has ended for good.
    now: Millis,
    segments: BTreeMap<ConversationId, Kept<Vec<Segment>>>,
    undelivered: BTreeMap<ChannelUid, Counted>,
    ends: BTreeSet<(Millis, Remembered)>,
    dirty: BTreeSet<Remembered>,
}

/// Intent, segment and what became of it, oldest first.
type Segment = (IntentId, u32, Delivery);

/// Names one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remembered {
    Segments(ConversationId),
    Undelivered(ChannelUid),
}

/// What a channel could not deliver, as its row has it.
#[derive(Serialize, Deserialize, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) count: u64,
    pub(crate) code: Option<u32>,
    pub(crate) at: Millis,
}

impl Deliveries {
    /// Takes reports in their order; gives for each whether it changed its segment.
    pub(crate) fn note_all(&mut self, now: Millis, reports: Vec<SegmentReport>) -> Vec<bool> {
        let now = self.time(now);
        let changed: Vec<bool> = reports.into_iter().map(|report| self.note(now, report)).collect();
        if changed.contains(&true) {
            self.now = now;
        }
        self.forget(now);
        changed
    }

    /// Channels with undelivered replies, and none of them in the future.
    pub(crate) fn undelivered(
        &self,
        clock: Millis,
    ) -> impl Iterator<Item = (&ChannelUid, Counted)> {
        let now = believed(self.now, clock);
        let counted = self.undelivered.iter().filter(move |(_, counted)| counted.until() > now);
        counted.map(move |(channel, counted)| (channel, counted.not_after(now)))
    }

    /// How many conversations and channels are remembered.
    pub(crate) fn remembered(&self) -> u64 {
        (self.segments.len() + self.undelivered.len()) as u64
    }

    /// Drops what has ended, though nobody reports.
    pub(crate) fn sweep(&mut self, now: Millis) {
        let now = self.time(now);
        self.forget(now);
    }

    /// Drops what is remembered of a conversation's last segments.
    pub(crate) fn erase(&mut self, now: Millis, conversation: &ConversationId) {
        self.time(now);
        self.drop_segments(conversation);
    }

    /// Never before a change that was made, unless the clock was put back by more than that.
    fn time(&mut self, clock: Millis) -> Millis {
        let now = believed(self.now, clock);
        if now < self.now {
            self.put_back(now);
        }
        now
    }

    /// Believes a clock that is so far behind: what was stamped ahead of it is stamped anew.
    fn put_back(&mut self, now: Millis) {
        self.now = now;
        let latest = now.saturating_add(SEGMENTS_MS);
        for (conversation, kept) in self.segments.iter_mut().filter(|(_, of)| of.until > latest) {
            let name = Remembered::Segments(conversation.clone());
            self.ends.remove(&(kept.until, name.clone()));
            kept.until = latest;
            self.ends.insert((latest, name.clone()));
            self.dirty.insert(name);
        }
        for (channel, counted) in self.undelivered.iter_mut().filter(|(_, of)| of.at > now) {
            let name = Remembered::Undelivered(channel.clone());
            self.ends.remove(&(counted.until(), name.clone()));
            *counted = counted.not_after(now);
            self.ends.insert((counted.until(), name.clone()));
            self.dirty.insert(name);
        }
    }

    /// Whether the report changed its segment.
    fn note(&mut self, now: Millis, report: SegmentReport) -> bool {
        let SegmentReport { channel, conversation, intent, segment, delivery } = report;
        let known = self.segments.entry(conversation.clone()).or_default();
        if known.until <= now {
            known.value.clear();
        }
        let mut places = known.value.iter_mut();
        let before = match places.find(|(of, number, _)| *of == intent && *number == segment) {
            Some((_, _, before)) if *before >= delivery => return false,
            Some((_, _, before)) => Some(std::mem::replace(before, delivery)),
            None => {
                if known.value.len() >= SEGMENTS {
                    known.value.remove(0);
                }
                known.value.push((intent, segment, delivery));
                None
            }
        };
        let until = now.saturating_add(SEGMENTS_MS);
        let old = std::mem::replace(&mut known.until, until);
        self.keep(Remembered::Segments(conversation), Some(old), until);
        self.count(now, channel, before.is_some_and(Delivery::is_undelivered), delivery);
        true
    }

    /// Counts a segment that the customer does not get; not any more when he has got it after all.
    fn count(&mut self, now: Millis, channel: ChannelUid, was: bool, delivery: Delivery) {
        let known = self.undelivered.get(&channel).copied();
        let known = known.filter(|known| known.until() > now);
        let old = self.undelivered.get(&channel).map(Counted::until);
        let name = Remembered::Undelivered(channel.clone());
        if delivery.is_undelivered() {
            let before = known.map_or(0, |known| known.count).saturating_sub(u64::from(was));
            let count = before.saturating_add(1);
            let counted = Counted { count, code: delivery.code(), at: now };
            self.undelivered.insert(channel, counted);
            self.keep(name, old, counted.until());
        } else if let Some(known) = known.filter(|_| was) {
            if known.count > 1 {
                self.undelivered.insert(channel, Counted { count: known.count - 1, ..known });
            } else {
                self.undelivered.remove(&channel);
                self.ends.remove(&(known.until(), name.clone()));
            }
            self.dirty.insert(name);
        }
    }

    fn keep(&mut self, name: Remembered, old: Option<Millis>, until: Millis) {
        if let Some(old) = old {
            self.ends.remove(&(old, name.clone()));
        }
        self.ends.insert((until, name.clone()));
        self.dirty.insert(name);
    }

    /// Drops what has ended, and the oldest of too many conversations. What was dropped has ended for
    /// good.
    fn forget(&mut self, now: Millis) {
        for _ in 0..2 * FORGOTTEN {
            if self.ends.first().is_none_or(|(until, _)| *until > now) {
                break;
            }
            self.now = now;
            let Some((_, name)) = self.ends.pop_first() else { break };
            match &name {
                Remembered::Segments(conversation) => drop(self.segments.remove(conversation)),
                Remembered::Undelivered(channel) => drop(self.undelivered.remove(channel)),
            }
            self.dirty.insert(name);
        }
        for _ in 0..FORGOTTEN.min(self.segments.len().saturating_sub(CONVERSATIONS)) {
            let oldest = self.ends.iter().find_map(|(_, name)| match name {
                Remembered::Segments(conversation) => Some(conversation.clone()),
                Remembered::Undelivered(_) => None,
            });
            let Some(oldest) = oldest else { return };
            self.drop_segments(&oldest);
        }
    }

    fn drop_segments(&mut self, conversation: &ConversationId) {
        let Some(kept) = self.segments.remove(conversation) else { return };
        let name = Remembered::Segments(conversation.clone());
        self.ends.remove(&(kept.until, name.clone()));
        self.dirty.insert(name);
    }

    /// Takes a row, as [`Deliveries::take_changes`] names it after `sys:`; none when it is no such.
    pub(crate) fn read(&mut self, field: &str, value: &[u8]) -> Option<()> {
        let (kind, name) = field.split_once(':')?;
        let (until, named) = match kind {
            "st" => {
                let conversation = ConversationId::parse(name)?;
                let KeptRow::<Vec<(IntentId, u32, u32)>> { until, kept } =
                    serde_json::from_slice(value).ok()?;
                let kept = kept.into_iter().map(|(intent, segment, number)| {
                    Some((intent, segment, Delivery::of_number(number)?))
                });
                let value = kept.collect::<Option<_>>()?;
                self.segments.insert(conversation.clone(), Kept { until, value });
                self.now = self.now.max(until.saturating_sub(SEGMENTS_MS));
                (until, Remembered::Segments(conversation))
            }
            "un" => {
                let channel = ChannelUid::parse(name).ok()?;
                let counted: Counted = serde_json::from_slice(value).ok()?;
                self.undelivered.insert(channel.clone(), counted);
                self.now = self.now.max(counted.at);
                (counted.until(), Remembered::Undelivered(channel))
            }
            _ => return None,
        };
        self.ends.insert((until, named));
        Some(())
    }

    /// Marks every row as changed.
    pub(crate) fn rewrite(&mut self) {
        self.dirty.extend(self.ends.iter().map(|(_, name)| name.clone()));
    }

    /// The rows that changed since this was last called.
    pub(crate) fn take_changes(&mut self) -> Vec<Row> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        dirty.map(|name| self.render(&name)).collect()
    }

    fn render(&self, name: &Remembered) -> Row {
        match name {
            Remembered::Segments(conversation) => {
                let kept = self.segments.get(conversation).map(|Kept { until, value }| {
                    let segments = value.iter();
                    let segments = segments.map(|(of, number, to)| (of, *number, to.number()));
                    let kept: Vec<(&IntentId, u32, u32)> = segments.collect();
                    json(&KeptRow { until: *until, kept })
                });
                Row { key: format!("sys:st:{conversation}"), value: kept }
            }
            Remembered::Undelivered(channel) => {
                let value = self.undelivered.get(channel).map(json);
                Row { key: format!("sys:un:{channel}"), value }
            }
        }
    }
}

impl Counted {
    fn until(&self) -> Millis {
        self.at.saturating_add(UNDELIVERED_MS)
    }

    fn not_after(self, now: Millis) -> Self {
        Self { at: self.at.min(now), ..self }
    }
}

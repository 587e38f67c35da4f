//! The machine as its owner holds it: all shards, the store's key, and the rows that changed.
//!
//! Takes rows once, at the start (`load.rs`), and verbs afterwards; gives answers and, when asked, the rows
//! that changed since it was last asked. The owner writes those before it passes an answer on.

use kanarie_words::Millis;
use kanarie_words::ids::{ConversationId, DedupKey, Epoch, RouteHash, SHARDS, StoreKey};

use crate::budget::Budget;
use crate::delivered::Deliveries;
use crate::pace::Booked;
use crate::rows::{self, Row};
use crate::shard::{Key, Shard};
use crate::sids::{SidKey, Sids};

/// The message machine. Its verbs are values: see [`crate::verb::Verb`].
pub struct Queue {
    pub(crate) shards: Vec<Shard>,
    pub(crate) sids: Sids,
    pub(crate) budget: Budget,
    /// Nothing is admitted: its owner has no room for rows.
    pub(crate) closed: bool,
    pub(crate) paces: std::collections::BTreeMap<RouteHash, Booked>,
    pub(crate) deliveries: Deliveries,
    key: Option<StoreKey>,
    key_changed: bool,
}

impl Queue {
    /// A machine without any row.
    pub(crate) fn empty() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            sids: Sids::default(),
            budget: Budget::default(),
            closed: false,
            paces: std::collections::BTreeMap::new(),
            deliveries: Deliveries::default(),
            key: None,
            key_changed: false,
        }
    }

    /// Takes the store's key from its row.
    pub(crate) fn set_key(&mut self, key: StoreKey) {
        self.key = Some(key);
    }

    /// Gives the store its key and each shard its epoch where they are missing. Both are random
    /// values of the caller.
    pub fn start(&mut self, key: StoreKey, epochs: impl IntoIterator<Item = Epoch>) {
        if self.key.is_none() {
            self.key = Some(key);
            self.key_changed = true;
        }
        for (shard, epoch) in self.shards.iter_mut().zip(epochs) {
            if shard.epoch.is_none() {
                shard.epoch = Some(epoch);
                shard.dirty.insert(Key::Meta);
            }
        }
    }

    /// The store's key, once it has one.
    pub fn key(&self) -> Option<StoreKey> {
        self.key
    }

    /// Marks every row as changed: rows of an older layout are written as this version writes them. Those
    /// of SIDs are the same in every layout.
    pub fn rewrite(&mut self) {
        self.key_changed = self.key.is_some();
        self.shards.iter_mut().for_each(Shard::rewrite);
        self.deliveries.rewrite();
    }

    /// The rows that changed since this was last called; a row without a value is gone.
    pub fn take_changes(&mut self) -> Vec<Row> {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.key_changed) {
            changes.extend(self.key.map(rows::key_row));
        }
        for (number, shard) in (0..).zip(&mut self.shards) {
            for key in std::mem::take(&mut shard.dirty) {
                changes.push(rows::render(number, shard, &key));
            }
        }
        changes.extend(self.deliveries.take_changes());
        self.budget.count(&self.shards, &self.sids, &self.deliveries);
        changes
    }

    /// Admits nothing from now on, or again: for an owner who runs out of room for rows.
    pub fn close(&mut self, closed: bool) {
        self.closed = closed;
    }

    /// Whether a message of a kilobyte would be refused because its memory is used up.
    pub fn is_full(&self) -> bool {
        self.budget.is_full(1 << 10)
    }

    /// Bytes of memory that are taken, if that is bounded, and how many SIDs are among it.
    pub fn taken(&self) -> (u64, u64) {
        (self.budget.taken(), self.sids.count())
    }

    /// How many SIDs were forgotten before their time since this was last asked.
    pub fn take_forgotten(&mut self) -> u64 {
        self.sids.take_forgotten()
    }

    /// The message with this key waits no more.
    pub(crate) fn settle(&mut self, conversation: &ConversationId, key: &DedupKey) {
        self.sids.settle(SidKey::of(conversation.shard(), key));
    }

    pub(crate) fn shard(&mut self, conversation: &ConversationId) -> &mut Shard {
        &mut self.shards[usize::from(conversation.shard())]
    }

    /// The shard and its time, for a verb of an owner or of a callback.
    pub(crate) fn shard_at(
        &mut self,
        conversation: &ConversationId,
        now: Millis,
    ) -> (&mut Shard, Millis) {
        let shard = self.shard(conversation);
        let now = shard.time(now);
        (shard, now)
    }
}

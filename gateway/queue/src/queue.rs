//! The machine as its owner holds it: all shards, the store's key, and the rows that changed.
//!
//! Takes rows once, at the start, and verbs afterwards; gives answers and, when asked, the rows
//! that changed since it was last asked. The owner writes those before it passes an answer on.

use kanarie_words::Millis;
use kanarie_words::ids::{ConversationId, Epoch, RouteHash, SHARDS, StoreKey};

use crate::delivered::Deliveries;
use crate::load::{self, LoadError, Table};
use crate::pace::Booked;
use crate::rows::{self, Row};
use crate::shard::{Key, Shard};

/// The message machine. Its verbs are values: see [`crate::verb::Verb`].
pub struct Queue {
    pub(crate) shards: Vec<Shard>,
    pub(crate) paces: std::collections::BTreeMap<RouteHash, Booked>,
    pub(crate) deliveries: Deliveries,
    key: Option<StoreKey>,
    key_changed: bool,
}

impl Queue {
    /// The machine that wrote these rows; without any, a new one.
    pub fn load(rows: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, LoadError> {
        let mut queue = Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            paces: std::collections::BTreeMap::new(),
            deliveries: Deliveries::default(),
            key: None,
            key_changed: false,
        };
        let mut tables: Vec<Table> = (0..SHARDS).map(|_| Table::default()).collect();
        for (name, value) in rows {
            if name == rows::KEY {
                let key = value.try_into().map_err(|_| LoadError::new(&name))?;
                queue.key = Some(StoreKey::from_bytes(key));
                continue;
            }
            if let Some(field) = name.strip_prefix(rows::SHARDLESS) {
                let read = queue.deliveries.read(field, &value);
                read.ok_or_else(|| LoadError::new(&name))?;
                continue;
            }
            let (shard, field) = load::split(&name).ok_or_else(|| LoadError::new(&name))?;
            let table = tables.get_mut(usize::from(shard)).ok_or_else(|| LoadError::new(&name))?;
            table.read(&mut queue.shards[usize::from(shard)], field, value)?;
        }
        for (shard, table) in queue.shards.iter_mut().zip(tables) {
            table.assemble(shard)?;
        }
        Ok(queue)
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

    /// Marks every row as changed: rows of an older layout are written as this version writes them.
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
        changes
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

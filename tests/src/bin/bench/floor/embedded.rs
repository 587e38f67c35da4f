//! The floor's three steps in the embedded database: one commit each, shared by all that wait.
//!
//! Takes messages; gives each step's end once its rows are durable. One thread owns the database. A
//! conversation's rows lie side by side.

use std::path::Path;

use anyhow::{Context as _, Result};
use redb::{Database, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use crate::floor::rows::Message;

const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
/// As the gateway's.
const CACHE_BYTES: usize = 16 << 20;
/// Steps that share one commit, at most.
const BATCH: usize = 256;

/// Rows to write, or to delete without a value, and whom to tell.
struct Step {
    rows: Vec<(String, Option<Vec<u8>>)>,
    durable: oneshot::Sender<()>,
}

/// The way to the thread.
pub(crate) struct Embedded(mpsc::Sender<Step>);

impl Embedded {
    /// Makes the file and starts the thread.
    pub(crate) fn open(path: impl AsRef<Path>) -> Result<Self> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
        let (sender, steps) = mpsc::channel(BATCH);
        std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            if let Err(error) = work(&database, steps) {
                eprintln!("the floor's store ended: {error:#}");
            }
        })?;
        Ok(Self(sender))
    }

    /// Keeps a message and leases its conversation.
    pub(crate) async fn admit(&self, message: &Message, account: &str) -> Result<()> {
        let (shard, dedup) = (message.shard(), message.dedup_key(account));
        let ends = message.at.to_string();
        self.write(vec![
            (format!("{shard}:dd:{dedup}"), Some(ends.into_bytes())),
            (message_row(message), Some(message.envelope(account).into_bytes())),
            (conversation_row(message), Some(message.leased().into_bytes())),
        ])
        .await
    }

    /// Keeps the reply.
    pub(crate) async fn commit(&self, message: &Message, text: &str) -> Result<()> {
        self.write(vec![(conversation_row(message), Some(message.replied(text).into_bytes()))])
            .await
    }

    /// Takes the message off.
    pub(crate) async fn done(&self, message: &Message, sid: &str) -> Result<()> {
        self.write(vec![
            (message_row(message), None),
            (conversation_row(message), Some(message.rest(sid).into_bytes())),
        ])
        .await
    }

    async fn write(&self, rows: Vec<(String, Option<Vec<u8>>)>) -> Result<()> {
        let (durable, is_durable) = oneshot::channel();
        self.0.send(Step { rows, durable }).await.ok().context("the store has ended")?;
        is_durable.await.context("the store has ended")
    }
}

fn work(database: &Database, mut steps: mpsc::Receiver<Step>) -> Result<()> {
    while let Some(first) = steps.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(step) = steps.try_recv()
        {
            batch.push(step);
        }
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(ROWS)?;
            for (key, value) in batch.iter().flat_map(|step| &step.rows) {
                match value {
                    Some(value) => drop(table.insert(key.as_str(), value.as_slice())?),
                    None => drop(table.remove(key.as_str())?),
                }
            }
        }
        transaction.commit()?;
        for step in batch {
            // Whoever asked may be gone.
            let _ = step.durable.send(());
        }
    }
    Ok(())
}

fn conversation_row(message: &Message) -> String {
    format!("{}:{}:row", message.shard(), message.conversation())
}

fn message_row(message: &Message) -> String {
    format!("{}:{}:msg:0", message.shard(), message.conversation())
}

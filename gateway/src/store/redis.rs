//! The store of a fleet: one Redis server, one script a verb.
//!
//! Takes the verbs of [`Store`]; gives their answers within the deadline. Every verb is one round
//! trip and atomic. Decides nothing: the rules stand in the scripts, next to this file. Never logs
//! or repeats an argument, and never shows the URL it was opened with.

mod address;
mod answers;
mod calls;
mod connection;
mod failure;
mod handshake;
mod scripts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::try_join_all;
use kanarie_queue::types::{
    Admission, Admit, Buried, Claimed, Committed, ConversationId, Count, DeadLetters, Evidence,
    Intent, Lease, Marked, Millis, Nonce, Owned, Reserved, SHARDS,
};
use redis::{Cmd, Value, cmd};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::store::redis::address::{Address, AddressError};
use crate::store::redis::calls::Call;
use crate::store::redis::connection::Connection;
use crate::store::redis::handshake::Unfit;
use crate::store::{Answer, ChannelCounts, Heartbeat, ReplicaState, Store, StoreError};

/// A Redis server as the store.
pub struct RedisStore {
    connection: Connection,
    clock: Option<Arc<AtomicU64>>,
    /// What each replica of this process has announced, to say it all again to a server that lost
    /// it: after a restart without its data no change would ever mention the other routes.
    announced: Mutex<BTreeMap<String, Announced>>,
}

/// How to speak to the server. The defaults are for every use but tests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Deadline of a verb, time between pings, and longest wait before connecting again.
    pub beat: Duration,
    /// A clock in Unix milliseconds that the scripts use instead of the server's.
    pub clock: Option<Arc<AtomicU64>>,
}

/// Why there is no store. Nothing here shows the URL's credentials.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The server.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// A replica's account as the server confirmed it.
#[derive(Default)]
struct Announced {
    digest: Option<String>,
    routes: BTreeMap<String, (u64, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { beat: Duration::from_secs(1), clock: None }
    }
}

impl RedisStore {
    /// Opens the server at a `redis://` or `rediss://` URL. A server that is away is waited for in
    /// the background and its verbs are `Unavailable`; one that must not be used is an error.
    pub async fn open(url: &str, settings: Settings) -> Result<Self, OpenError> {
        let connection = Connection::open(Address::parse(url)?, settings.beat).await?;
        Ok(Self { connection, clock: settings.clock, announced: Mutex::default() })
    }

    async fn run(&self, call: Call) -> Result<Value, StoreError> {
        let Call { script, keys, arguments } = call;
        let clock = self.clock.as_ref().map(|clock| clock.load(Ordering::Relaxed).to_string());
        let mut command = Cmd::with_capacity(
            4 + keys.len() + arguments.len(),
            arguments.iter().map(String::len).sum::<usize>() + 32 * keys.len() + 64,
        );
        command.arg("EVALSHA").arg(script.get_hash()).arg(keys.len()).arg(&keys);
        command.arg(clock.unwrap_or_default()).arg(&arguments);
        self.connection.send(&command, Some(script)).await
    }

    /// Renews leases shard by shard: a script knows one shard only.
    async fn extend_all(
        &self,
        leases: Vec<(ConversationId, Nonce)>,
        lease_ms: u64,
    ) -> Result<Vec<ConversationId>, StoreError> {
        let mut by_shard: BTreeMap<u8, Vec<(ConversationId, Nonce)>> = BTreeMap::new();
        for lease in leases {
            by_shard.entry(lease.0.shard()).or_default().push(lease);
        }
        let calls = by_shard.iter().map(|(shard, leases)| calls::extend(*shard, leases, lease_ms));
        let lost = try_join_all(calls.map(|call| self.run(call))).await?;
        let mut conversations = Vec::new();
        for text in lost.into_iter().map(answers::plain::<Vec<String>>) {
            for text in text? {
                let conversation = ConversationId::parse(&text);
                conversations.push(conversation.ok_or_else(|| answers::corrupt("a conversation"))?);
            }
        }
        Ok(conversations)
    }

    /// Says what changed, or everything when the server does not know what was said before.
    async fn announce(&self, beat: Heartbeat) -> Result<(), StoreError> {
        let mut announced = self.announced.lock().await;
        let known = announced.entry(beat.replica.clone()).or_default();
        for (channel, serving, hash) in &beat.acknowledged {
            known.routes.insert(channel.clone(), (*serving, hash.clone()));
        }
        for channel in &beat.forgotten {
            known.routes.remove(channel);
        }
        let continued = match known.digest.as_deref() {
            Some(last) => answers::flag(self.run(calls::heartbeat(&beat, Some(last))).await?)?,
            None => false,
        };
        if !continued {
            let routes = known.routes.iter();
            let all = Heartbeat {
                acknowledged: routes.map(|(c, (s, h))| (c.clone(), *s, h.clone())).collect(),
                forgotten: Vec::new(),
                ..beat.clone()
            };
            answers::flag(self.run(calls::heartbeat(&all, None)).await?)?;
        }
        known.digest = Some(beat.digest);
        Ok(())
    }

    /// Sums over all shards; the digest changes when any shard lost its rows.
    async fn count_all(
        &self,
        channels: Vec<String>,
    ) -> Result<(String, ChannelCounts), StoreError> {
        let mut shards = Vec::with_capacity(usize::from(SHARDS));
        for shard in 0..SHARDS {
            shards.push(self.run(calls::counts(shard, &channels, random_hex::<8>()?)));
        }
        let mut epochs = Sha256::new();
        let mut sums: Vec<BTreeMap<Evidence, u64>> = vec![BTreeMap::new(); channels.len()];
        for answer in try_join_all(shards).await? {
            let (epoch, counts) = answers::counts(answer)?;
            epochs.update(epoch.as_bytes());
            epochs.update(b"\n");
            for (sum, counts) in sums.iter_mut().zip(counts) {
                for Count { evidence, messages } in counts {
                    *sum.entry(evidence).or_default() += messages;
                }
            }
        }
        let counts = sums.into_iter().map(|sum| {
            sum.into_iter().map(|(evidence, messages)| Count { evidence, messages }).collect()
        });
        Ok((hex(&epochs.finalize()), channels.into_iter().zip(counts).collect()))
    }

    async fn dead_letters_of_all(&self) -> Result<Vec<DeadLetters>, StoreError> {
        let shards = (0..SHARDS).map(|shard| self.run(calls::dead_letters(shard)));
        let mut channels: BTreeMap<String, (DeadLetters, Millis)> = BTreeMap::new();
        for answer in try_join_all(shards).await? {
            for (letters, newest_at) in answers::dead_letters(answer)? {
                let Some((sum, newest)) = channels.get_mut(&letters.channel) else {
                    channels.insert(letters.channel.clone(), (letters, newest_at));
                    continue;
                };
                sum.count += letters.count;
                sum.oldest_at = sum.oldest_at.min(letters.oldest_at);
                if newest_at >= *newest {
                    (*newest, sum.class) = (newest_at, letters.class);
                }
            }
        }
        Ok(channels.into_values().map(|(letters, _)| letters).collect())
    }

    /// Sets the key if there is none and reads the one that stands, in one command.
    async fn key_of_all(&self) -> Result<[u8; 32], StoreError> {
        let fresh = random_hex::<32>()?;
        let mut command = cmd("SET");
        command.arg(calls::KEY).arg(&fresh).arg("NX").arg("GET");
        let standing: Option<String> = answers::plain(self.connection.send(&command, None).await?)?;
        unhex(&standing.unwrap_or(fresh)).ok_or_else(|| answers::corrupt("the store's key"))
    }
}

impl Store for RedisStore {
    fn admit(&self, admit: Admit) -> Answer<'_, Admission> {
        async move {
            let epoch = random_hex::<8>()?;
            answers::admission(self.run(calls::admit(admit, epoch)).await?)
        }
        .boxed()
    }

    fn claim(&self, shard: u8, nonce: Nonce, lease_ms: u64) -> Answer<'_, Claimed> {
        let call = calls::claim(shard, &nonce, lease_ms);
        async move { answers::claimed(self.run(call).await?, nonce) }.boxed()
    }

    fn extend(
        &self,
        leases: Vec<(ConversationId, Nonce)>,
        lease_ms: u64,
    ) -> Answer<'_, Vec<ConversationId>> {
        self.extend_all(leases, lease_ms).boxed()
    }

    fn keep_run(&self, lease: Lease, run: Option<String>) -> Answer<'_, Owned> {
        let call = calls::keep_run(&lease, run);
        async move { answers::owned(self.run(call).await?) }.boxed()
    }

    fn end_attempt(
        &self,
        lease: Lease,
        evidence: Evidence,
        failed_on: Option<String>,
    ) -> Answer<'_, Owned> {
        let call = calls::end_attempt(&lease, &evidence, failed_on);
        async move { answers::owned(self.run(call).await?) }.boxed()
    }

    fn commit_reply(
        &self,
        lease: Lease,
        intent: Intent,
        evidence: Option<Evidence>,
    ) -> Answer<'_, Committed> {
        let call = calls::commit_reply(&lease, intent, evidence.as_ref());
        async move { answers::committed(self.run(call).await?) }.boxed()
    }

    fn mark_sending(
        &self,
        lease: Lease,
        intent: String,
        segment: u32,
        attempt: String,
        expected: Option<String>,
    ) -> Answer<'_, Marked> {
        let call = calls::mark_sending(&lease, intent, segment, attempt, expected);
        async move { answers::marked(self.run(call).await?) }.boxed()
    }

    fn unmark(
        &self,
        lease: Lease,
        intent: String,
        segment: u32,
        attempt: String,
    ) -> Answer<'_, Owned> {
        let call = calls::unmark(&lease, intent, segment, attempt);
        async move { answers::owned(self.run(call).await?) }.boxed()
    }

    fn mark_sent(
        &self,
        conversation: ConversationId,
        intent: String,
        segment: u32,
        sid: String,
    ) -> Answer<'_, bool> {
        let call = calls::mark_sent(&conversation, intent, segment, sid);
        async move { answers::flag(self.run(call).await?) }.boxed()
    }

    fn complete(&self, lease: Lease, evidence: Option<Evidence>) -> Answer<'_, Owned> {
        let call = calls::complete(&lease, evidence.as_ref());
        async move { answers::owned(self.run(call).await?) }.boxed()
    }

    fn retry(&self, lease: Lease, delay_ms: u64, counted: bool) -> Answer<'_, Owned> {
        let call = calls::retry(&lease, delay_ms, counted);
        async move { answers::owned(self.run(call).await?) }.boxed()
    }

    fn release(&self, lease: Lease) -> Answer<'_, Owned> {
        let call = calls::release(&lease);
        async move { answers::owned(self.run(call).await?) }.boxed()
    }

    fn bury(&self, lease: Lease, class: String) -> Answer<'_, Buried> {
        let call = calls::bury(&lease, class);
        async move { answers::buried(self.run(call).await?) }.boxed()
    }

    fn reserve(&self, sender: String, per_second: u32) -> Answer<'_, Reserved> {
        let call = calls::reserve(&sender, per_second);
        async move { answers::reserved(self.run(call).await?) }.boxed()
    }

    fn sweep(&self, shard: u8) -> Answer<'_, ()> {
        async move { answers::flag(self.run(calls::sweep(shard)).await?).map(drop) }.boxed()
    }

    fn heartbeat(&self, heartbeat: Heartbeat) -> Answer<'_, ()> {
        self.announce(heartbeat).boxed()
    }

    fn replicas(&self) -> Answer<'_, (Millis, Vec<ReplicaState>)> {
        async move { answers::replicas(self.run(calls::replicas()).await?) }.boxed()
    }

    fn acknowledged(
        &self,
        replica: String,
        channels: Option<Vec<String>>,
    ) -> Answer<'_, Vec<(String, u64, String)>> {
        let call = calls::acknowledged(&replica, channels);
        async move { answers::acknowledged(self.run(call).await?) }.boxed()
    }

    fn counts(&self, channels: Vec<String>) -> Answer<'_, (String, ChannelCounts)> {
        self.count_all(channels).boxed()
    }

    fn dead_letters(&self) -> Answer<'_, Vec<DeadLetters>> {
        self.dead_letters_of_all().boxed()
    }

    fn key(&self) -> Answer<'_, [u8; 32]> {
        self.key_of_all().boxed()
    }

    fn ping(&self) -> Answer<'_, ()> {
        async move { self.connection.send(&cmd("PING"), None).await.map(drop) }.boxed()
    }
}

fn random_hex<const N: usize>() -> Result<String, StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|_| StoreError::Unavailable("the system gives no random bytes".to_owned()))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    (text.len() == 64).then_some(bytes)
}

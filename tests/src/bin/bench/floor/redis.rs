//! The floor's three steps in Redis: one script each.
//!
//! Takes messages; each step is one EVALSHA on one connection. A script reads the row that it
//! depends on and writes those that it changes. The server's own settings say when that is durable.

use anyhow::{Result, ensure};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Script, ScriptInvocation};

use crate::floor::rows::Message;

/// As many as the gateway lets wait for one socket.
const IN_FLIGHT: usize = 1_024;
/// Milliseconds for which a message is recognised again.
const DEDUP_MS: u64 = 86_400_000;
/// Milliseconds that a lease lasts.
const LEASE_MS: u64 = 15_000;

/// KEYS: dedup, conversations, messages, leases. ARGV: dedup ms, conversation, message, its row, the
/// conversation's row, end of the lease.
const ADMIT: &str = r#"
if not redis.call("SET", KEYS[1], ARGV[6], "NX", "PX", ARGV[1]) then return 0 end
redis.call("HGET", KEYS[2], ARGV[2])
redis.call("HSET", KEYS[3], ARGV[3], ARGV[4])
redis.call("HSET", KEYS[2], ARGV[2], ARGV[5])
redis.call("ZADD", KEYS[4], ARGV[6], ARGV[2])
return 1
"#;

/// KEYS: conversations, leases. ARGV: conversation, its row, end of the lease.
const COMMIT: &str = r#"
if not redis.call("HGET", KEYS[1], ARGV[1]) then return 0 end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("ZADD", KEYS[2], ARGV[3], ARGV[1])
return 1
"#;

/// KEYS: conversations, messages, leases. ARGV: conversation, message, what is left.
const DONE: &str = r#"
if not redis.call("HGET", KEYS[1], ARGV[1]) then return 0 end
redis.call("HDEL", KEYS[2], ARGV[2])
redis.call("ZREM", KEYS[3], ARGV[1])
redis.call("HSET", KEYS[1], ARGV[1], ARGV[3])
return 1
"#;

/// A connection with its scripts.
pub(crate) struct Redis {
    connection: MultiplexedConnection,
    admit: Script,
    commit: Script,
    done: Script,
}

impl Redis {
    /// Connects.
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_pipeline_buffer_size(IN_FLIGHT);
        let client = redis::Client::open(url)?;
        Ok(Self {
            connection: client.get_multiplexed_async_connection_with_config(&config).await?,
            admit: Script::new(ADMIT),
            commit: Script::new(COMMIT),
            done: Script::new(DONE),
        })
    }

    /// Keeps a message and leases its conversation.
    pub(crate) async fn admit(&self, message: &Message, account: &str) -> Result<()> {
        let (shard, conversation) = (message.shard(), message.conversation());
        let mut call = self.admit.key(format!("{{fl:{shard}}}:dd:{}", message.dedup_key(account)));
        call.key(format!("{{fl:{shard}}}:conv"))
            .key(format!("{{fl:{shard}}}:msg"))
            .key(format!("{{fl:{shard}}}:lse"))
            .arg(DEDUP_MS)
            .arg(&conversation)
            .arg(format!("{conversation}:0"))
            .arg(message.envelope(account))
            .arg(message.leased())
            .arg(message.at + LEASE_MS);
        self.did(&call).await
    }

    /// Keeps the reply.
    pub(crate) async fn commit(&self, message: &Message, text: &str) -> Result<()> {
        let shard = message.shard();
        let mut call = self.commit.key(format!("{{fl:{shard}}}:conv"));
        call.key(format!("{{fl:{shard}}}:lse"))
            .arg(message.conversation())
            .arg(message.replied(text))
            .arg(message.at + 2 * LEASE_MS);
        self.did(&call).await
    }

    /// Takes the message off.
    pub(crate) async fn done(&self, message: &Message, sid: &str) -> Result<()> {
        let (shard, conversation) = (message.shard(), message.conversation());
        let mut call = self.done.key(format!("{{fl:{shard}}}:conv"));
        call.key(format!("{{fl:{shard}}}:msg"))
            .key(format!("{{fl:{shard}}}:lse"))
            .arg(&conversation)
            .arg(format!("{conversation}:0"))
            .arg(message.rest(sid));
        self.did(&call).await
    }

    async fn did(&self, call: &ScriptInvocation<'_>) -> Result<()> {
        let mut connection = self.connection.clone();
        let done: bool = call.invoke_async(&mut connection).await?;
        ensure!(done, "a step found another state than it left");
        Ok(())
    }
}

//! The leases of a process that died, ended before their time.
//!
//! Takes the process, gives how many of its leases ended; each is a crash of its head, as if it had
//! run out (I22). Never asks whether the process is dead: whoever calls knows. One that lives after
//! all loses what it holds, as with any lease that is taken over (I4).

use kanarie_words::Millis;
use kanarie_words::ids::{ConversationId, Holder, Nonce};

use crate::claim;
use crate::queue::Queue;
use crate::shard::Shard;
use crate::verb::Verb;

/// Ends every lease of a process, or of all of them; gives how many there were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpireLeases {
    /// The process; none for all: then nobody else uses this store.
    pub holder: Option<Holder>,
}

impl Verb for ExpireLeases {
    type Answer = u64;

    fn apply(self, queue: &mut Queue, now: Millis) -> u64 {
        let holder = self.holder.as_ref();
        queue.shards.iter_mut().map(|shard| expire_all(shard, now, holder)).sum()
    }
}

fn expire_all(shard: &mut Shard, now: Millis, holder: Option<&Holder>) -> u64 {
    let of_holder = |nonce: &Nonce| holder.is_none_or(|of| nonce.is_held_by(of));
    let held = shard.nonces.iter().filter(|(nonce, _)| of_holder(nonce));
    let held: Vec<ConversationId> = held.map(|(_, id)| id.clone()).collect();
    let now = shard.time(now);
    held.iter().for_each(|id| claim::take_back(shard, now, id));
    held.len() as u64
}

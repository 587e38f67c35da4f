//! A verb as calls of a script: the keys it declares, its arguments after the clock, its answer.
//!
//! Takes verbs of the machine; gives the calls that do the same in Redis, one for each shard that the
//! verb concerns, and reads their answers. Does no I/O and reads no clock. All keys of a call lie in
//! one slot, and a value that no script of this version says is `Corrupt` and never repeated.

use std::sync::LazyLock;

use kanarie_queue::lease::{Lease, NewLease, Owned};
use kanarie_queue::verb::Verb;
use kanarie_words::ids::SHARDS;
use redis::{FromRedisValue, Script, Value, from_redis_value};

use crate::store::error::StoreError;

/// A verb that both stores run.
pub trait Scripted: Verb {
    /// Whether a call whose connection breaks is made once more at once. Not one that ends a lease and
    /// whose caller acts on the answer: repeated it is stale as if the lease were somebody else's, so he
    /// must know. (Nobody acts on what `Release` says: it is made again as often as he likes.)
    const AT_ONCE: bool = true;

    /// The calls, of one shard each.
    fn calls(&self) -> Vec<Call>;

    /// The answer, from those of the calls in their order.
    ///
    /// # Errors
    /// `Corrupt` for anything that no script says.
    fn answer(self, values: Vec<Value>) -> Result<Self::Answer, StoreError>;
}

/// One call of a script.
pub struct Call {
    /// What runs.
    pub(super) script: &'static LazyLock<Script>,
    /// KEYS, all of one slot.
    pub(super) keys: Keys,
    /// ARGV after the clock.
    pub(super) arguments: Vec<String>,
}

/// The keys that a call declares.
pub(super) struct Keys {
    /// Those that every verb of the shard declares.
    pub(super) rows: &'static [String],
    /// Those that follow them.
    pub(super) own: Vec<String>,
}

impl From<Vec<String>> for Keys {
    /// Keys of no shard.
    fn from(own: Vec<String>) -> Self {
        Self { rows: &[], own }
    }
}

/// Key of the store's key.
pub(super) const KEY: &str = "{gw:sys}:key";
/// Key of the number of the rows' layout.
pub(super) const LAYOUT: &str = "{gw:sys}:layout";

/// What a script says, decoded.
pub(super) type Decoded<T> = Result<T, StoreError>;

/// Joins files to one script, as Redis gets it: a line of flags, what several share, the verb's own.
/// Scripts that may not run when Redis is out of memory are `admit` and `deliveries` alone: all others
/// drain, or are needed while it drains.
macro_rules! script {
    ($flags:literal, $($file:literal),+) => {
        LazyLock::new(|| {
            Script::new(concat!("#!lua", $flags, "\n", $(include_str!(concat!("../scripts/", $file))),+))
        })
    };
}
pub(super) use script;

/// The keys that every verb of a shard declares, in the order of `shard.lua`, then its own.
pub(super) fn keys(shard: u8, own: &[&str]) -> Keys {
    let shard = &RENDERED[usize::from(shard % SHARDS)];
    let own = own.iter().map(|name| [shard.prefix.as_str(), name].concat()).collect();
    Keys { rows: &shard.rows, own }
}

/// The keys of a shard as text.
struct Rendered {
    prefix: String,
    rows: [String; 13],
}

static RENDERED: LazyLock<[Rendered; SHARDS as usize]> = LazyLock::new(|| {
    std::array::from_fn(|shard| {
        let prefix = format!("{{gw:{shard:02}}}:");
        let names = [
            "meta", "conv", "msg", "int", "bod", "rdy", "lse", "dly", "vt", "own", "load", "prb",
            "prk",
        ];
        Rendered { rows: names.map(|name| [&prefix, name].concat()), prefix }
    })
});

/// A verb of an owner: conversation and nonce, then its own arguments.
pub(super) fn owner<const N: usize>(
    script: &'static LazyLock<Script>,
    lease: &Lease,
    own: &[&str],
    rest: [String; N],
) -> Vec<Call> {
    let mut arguments = vec![lease.conversation.to_string(), lease.nonce.to_string()];
    arguments.extend(rest);
    vec![Call { script, keys: keys(lease.conversation.shard(), own), arguments }]
}

/// The nonce of a lease that is wanted and its length; "" and 0 when none is.
pub(super) fn new_lease(lease: Option<&NewLease>) -> [String; 2] {
    let (nonce, lease_ms) = lease.map_or(("", 0), |of| (of.nonce.as_str(), of.lease_ms));
    [nonce.to_owned(), lease_ms.to_string()]
}

/// "" is none, "=text" is text.
pub(super) fn optional(value: Option<&str>) -> String {
    value.map(|text| format!("={text}")).unwrap_or_default()
}

/// The answer of a verb that makes one call.
pub(super) fn only(values: Vec<Value>) -> Value {
    values.into_iter().next().unwrap_or_default()
}

pub(super) fn owned(values: Vec<Value>) -> Decoded<Owned> {
    Ok(if flag(only(values))? { Owned::Done } else { Owned::Stale })
}

pub(super) fn flag(value: Value) -> Decoded<bool> {
    match plain::<i64>(value)? {
        1 => Ok(true),
        0 => Ok(false),
        _ => Err(corrupt("a yes or no")),
    }
}

/// Plain values of the client's own conversions.
pub(super) fn plain<T: FromRedisValue>(value: Value) -> Decoded<T> {
    from_redis_value(value).map_err(|_| corrupt("the form of an answer"))
}

pub(super) fn number(text: Option<&str>) -> Decoded<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| corrupt("a number"))
}

/// An id of an answer.
pub(super) fn id<T: std::str::FromStr>(text: &str) -> Decoded<T> {
    text.parse().map_err(|_| corrupt("an id"))
}

pub(super) fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} cannot be read"))
}

//! Heartbeats, acknowledgements and the store's key in Redis.
//!
//! Takes a replica's whole account; tells the server what of it is news, and everything when the
//! server does not know what was said before. No key here belongs to a shard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ReplicaName, RouteHash, StoreKey};
use redis::{Script, Value, cmd};
use tokio::sync::Mutex;

use crate::random;
use crate::store::error::StoreError;
use crate::store::fleet::{Acknowledgement, Asked, Heard, Heartbeat, Obeyed, ReplicaState};
use crate::store::redis::call::{Call, Decoded, KEY, LAYOUT, corrupt, id, number, plain, script};
use crate::store::redis::server::Server;

static HEARTBEAT: LazyLock<Script> = script!(" flags=allow-oom", "time.lua", "heartbeat.lua");
static NOTE_ASKED: LazyLock<Script> = script!(" flags=allow-oom", "time.lua", "asked.lua");
static GOODBYE: LazyLock<Script> = script!(" flags=allow-oom", "time.lua", "goodbye.lua");
static REPLICAS: LazyLock<Script> = script!(" flags=no-writes", "time.lua", "replicas.lua");
static ACKNOWLEDGED: LazyLock<Script> = script!(" flags=no-writes", "time.lua", "acknowledged.lua");

/// Key of the last control request.
const ASKED: &str = "{gw:sys}:asked";
/// Key of the times of the last heartbeats.
const REPLICA: &str = "{gw:sys}:rep";
/// Key of the digests that came with them.
const DIGEST: &str = "{gw:sys}:dig";

/// What each replica of this process has told the server, as the server confirmed it.
#[derive(Default)]
pub(crate) struct Fleet(Mutex<BTreeMap<ReplicaName, Told>>);

/// A heartbeat that the server knows.
pub(super) struct Told {
    digest: RouteHash,
    obeyed: Obeyed,
    cut: BTreeSet<ChannelUid>,
}

/// `<serving> <hash>` by channel, and ` cut` where the canary is.
type Rows = BTreeMap<ChannelUid, String>;

impl Fleet {
    /// Says what changed, or everything when the server does not know what was said before.
    pub(crate) async fn heartbeat(
        &self,
        server: &Server,
        beat: Heartbeat,
    ) -> Result<Heard, StoreError> {
        let mut told = self.0.lock().await;
        let known = told.remove(&beat.replica);
        let mut heard = match &known {
            Some(last) => tell(server, &beat, Some(last)).await?,
            None => None,
        };
        if heard.is_none() {
            heard = tell(server, &beat, None).await?;
        }
        let heard = heard.ok_or_else(|| corrupt("the answer to a heartbeat"))?;
        if matches!(heard, Heard::Done { .. }) {
            let Heartbeat { replica, digest, obeyed, cut, .. } = beat;
            told.insert(replica, Told { digest, obeyed, cut });
        }
        Ok(heard)
    }

    pub(crate) async fn note_asked(&self, server: &Server) -> Result<(), StoreError> {
        server.call(note_asked()).await.map(drop)
    }

    pub(crate) async fn goodbye(
        &self,
        server: &Server,
        replica: ReplicaName,
    ) -> Result<(), StoreError> {
        self.0.lock().await.remove(&replica);
        server.call(goodbye(&replica)).await.map(drop)
    }

    pub(crate) async fn replicas(
        &self,
        server: &Server,
    ) -> Result<(Millis, Vec<ReplicaState>), StoreError> {
        read_replicas(server.call(replicas()).await?)
    }

    pub(crate) async fn acknowledged(
        &self,
        server: &Server,
        replica: ReplicaName,
        channels: Option<Vec<ChannelUid>>,
    ) -> Result<Vec<Acknowledgement>, StoreError> {
        read_acknowledged(server.call(acknowledged(&replica, channels)).await?)
    }

    /// Sets the key if there is none and reads the one that stands, in one command.
    pub(crate) async fn key(&self, server: &Server) -> Result<StoreKey, StoreError> {
        let fresh = StoreKey::from_bytes(random::bytes()).to_hex();
        let mut command = cmd("SET");
        command.arg(KEY).arg(&fresh).arg("NX").arg("GET");
        let standing: Option<String> = plain(server.command(&command).await?)?;
        StoreKey::parse(&standing.unwrap_or(fresh)).ok_or_else(|| corrupt("the store's key"))
    }
}

/// None when the server does not know the account that this one continues.
async fn tell(
    server: &Server,
    beat: &Heartbeat,
    last: Option<&Told>,
) -> Result<Option<Heard>, StoreError> {
    let (word, age, gap, live): (i64, i64, u64, u64) =
        plain(server.call(heartbeat(beat, last)).await?)?;
    match word {
        1 => {
            let age_ms = u64::try_from(age).ok();
            let asked = age_ms.map(|age_ms| Asked { age_ms, gap_ms: gap });
            Ok(Some(Heard::Done { asked, live }))
        }
        0 => Ok(None),
        -1 => Ok(Some(Heard::OtherKey)),
        _ => Err(corrupt("the answer to a heartbeat")),
    }
}

/// `last` is the account that this one continues; none makes it a complete one.
pub(super) fn heartbeat(beat: &Heartbeat, last: Option<&Told>) -> Call {
    let keys = vec![
        REPLICA.to_owned(),
        DIGEST.to_owned(),
        acknowledgements(&beat.replica),
        KEY.to_owned(),
        LAYOUT.to_owned(),
        ASKED.to_owned(),
    ];
    // Mostly nothing is news, and then no row is made.
    let is_known = last.is_some_and(|last| last.obeyed == beat.obeyed && last.cut == beat.cut);
    let (before, rows) = if is_known {
        (Rows::new(), Rows::new())
    } else {
        let before = last.map(|last| rows(&last.obeyed, &last.cut)).unwrap_or_default();
        (before, rows(&beat.obeyed, &beat.cut))
    };
    let news: Vec<_> = rows.iter().filter(|(uid, row)| before.get(*uid) != Some(row)).collect();
    let mut arguments = vec![
        beat.replica.to_string(),
        beat.digest.to_string(),
        last.map(|last| last.digest.to_string()).unwrap_or_default(),
        beat.key.to_hex(),
        news.len().to_string(),
    ];
    for (uid, row) in news {
        arguments.extend([uid.to_string(), row.clone()]);
    }
    let gone = before.keys().filter(|uid| !rows.contains_key(*uid));
    arguments.extend(gone.map(ToString::to_string));
    Call { script: &HEARTBEAT, keys: keys.into(), arguments }
}

fn rows(obeyed: &Obeyed, cut: &BTreeSet<ChannelUid>) -> Rows {
    let row = |uid: &ChannelUid, serving: u64, hash: &RouteHash| {
        let mark = if cut.contains(uid) { " cut" } else { "" };
        (uid.clone(), format!("{serving} {hash}{mark}"))
    };
    obeyed.iter().map(|(uid, (serving, hash))| row(uid, *serving, hash)).collect()
}

pub(super) fn note_asked() -> Call {
    Call { script: &NOTE_ASKED, keys: vec![ASKED.to_owned()].into(), arguments: Vec::new() }
}

pub(super) fn goodbye(replica: &ReplicaName) -> Call {
    let keys = vec![REPLICA.to_owned(), DIGEST.to_owned(), acknowledgements(replica)];
    Call { script: &GOODBYE, keys: keys.into(), arguments: vec![replica.to_string()] }
}

pub(super) fn replicas() -> Call {
    let keys = vec![REPLICA.to_owned(), DIGEST.to_owned()];
    Call { script: &REPLICAS, keys: keys.into(), arguments: Vec::new() }
}

pub(super) fn acknowledged(replica: &ReplicaName, channels: Option<Vec<ChannelUid>>) -> Call {
    let keys = vec![REPLICA.to_owned(), acknowledgements(replica)];
    let scope = if channels.is_some() { "named" } else { "all" };
    let mut arguments = vec![replica.to_string(), scope.to_owned()];
    arguments.extend(channels.into_iter().flatten().map(String::from));
    Call { script: &ACKNOWLEDGED, keys: keys.into(), arguments }
}

fn acknowledgements(replica: &ReplicaName) -> String {
    format!("{{gw:sys}}:ack:{replica}")
}

fn read_replicas(value: Value) -> Decoded<(Millis, Vec<ReplicaState>)> {
    let parts: Vec<String> = plain(value)?;
    let (now, rest) = parts.split_first().ok_or_else(|| corrupt("the replicas"))?;
    let replicas = rest.chunks(3).map(|three| match three {
        [replica, seen_at, digest] => Ok(ReplicaState {
            replica: id(replica)?,
            seen_at: number(Some(seen_at))?,
            digest: id(digest)?,
        }),
        _ => Err(corrupt("a replica")),
    });
    let mut replicas = replicas.collect::<Decoded<Vec<_>>>()?;
    replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
    Ok((number(Some(now))?, replicas))
}

fn read_acknowledged(value: Value) -> Decoded<Vec<Acknowledgement>> {
    let routes: BTreeMap<String, String> = plain(value)?;
    // The nameless one only keeps the account from being empty.
    let routes = routes.into_iter().filter(|(channel, _)| !channel.is_empty());
    routes
        .map(|(channel, route)| {
            let mut words = route.split(' ');
            let (serving, hash) = (number(words.next())?, words.next().unwrap_or_default());
            let (channel, hash, cut) = (id(&channel)?, id(hash)?, words.next() == Some("cut"));
            Ok(Acknowledgement { channel, serving, hash, cut })
        })
        .collect()
}

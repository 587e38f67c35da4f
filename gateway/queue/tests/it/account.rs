//! An account of the machine's work, kept from its answers alone, and the invariants held against
//! it after every step.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_queue::admit::{Admission, Admit};
use kanarie_queue::claim::{Claimed, Head};
use kanarie_queue::dead::{Buried, Load};
use kanarie_queue::intent::{Intent, Post};
use kanarie_queue::lease::{Lease, Owned};
use kanarie_queue::outcome::Evidence;
use kanarie_queue::queue::Queue;
use kanarie_words::Millis;
use kanarie_words::ids::{ChannelUid, ConversationId, IntentId, Nonce};

use crate::schedule::WINDOW_MS;
use crate::tally::Tally;
use crate::words::{
    LEASE_MS, Words as _, channel, conversation, lease_of, message, new_lease, nonce,
};

pub(crate) const DEDUP_MS: u64 = 300_000;
const LIMIT: usize = 3;

/// What a worker believes.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    pub(crate) sid: u32,
    pub(crate) intent: Option<Intent>,
    pub(crate) marked: Option<(Post, Millis)>,
}

/// A POST that Twilio took.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Posted {
    pub(crate) conversation: ConversationId,
    pub(crate) intent: IntentId,
    pub(crate) segment: u32,
}

/// What the account knows of a message that is owed an answer.
#[derive(Clone, Default)]
pub(crate) struct Owed {
    pub(crate) sid: u32,
    pub(crate) tries: u32,
    crashes: u32,
    alone: bool,
    crashed_alone: bool,
    pub(crate) counted: bool,
    pub(crate) intent: Option<IntentId>,
}

impl Owed {
    /// A dead letter that waits again.
    pub(crate) fn again(sid: u32, counted: bool) -> Self {
        Self { sid, counted, ..Self::default() }
    }
}

/// The machine, its rows as its owner has them, three workers, and the account.
pub(crate) struct World {
    pub(crate) queue: Queue,
    pub(crate) rows: BTreeMap<String, Vec<u8>>,
    pub(crate) now: Millis,
    pub(crate) is_ahead: bool,
    pub(crate) fresh: u32,
    pub(crate) workers: [Option<Held>; 3],
    /// Each POST that Twilio took, and when a listing has it.
    pub(crate) posts: BTreeMap<Posted, Millis>,
    pub(crate) owed: BTreeMap<ConversationId, Vec<Owed>>,
    pub(crate) leases: BTreeMap<ConversationId, (Nonce, Millis)>,
    pub(crate) channels: BTreeMap<ConversationId, ChannelUid>,
    pub(crate) admitted: BTreeMap<u32, Millis>,
    /// Those that a clock that was put back may have forgotten.
    pub(crate) unsure: BTreeSet<u32>,
    pub(crate) stamps: BTreeMap<ConversationId, Vec<Millis>>,
    /// Those that a clock which was ahead took for old: their row may be read again.
    pub(crate) unsure_stamps: BTreeMap<ConversationId, Vec<Millis>>,
    pub(crate) ended: BTreeMap<u32, u32>,
    pub(crate) times_admitted: BTreeMap<u32, u32>,
    pub(crate) dead: BTreeMap<ChannelUid, u64>,
    /// What counts as evidence.
    pub(crate) tally: Tally,
}

/// Three conversations; the first two share a shard and differ in their channel.
pub(crate) fn customer(number: usize) -> ConversationId {
    conversation([1, 33, 2][number])
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            queue: Queue::load([]).expect("no row can be wrong"),
            rows: BTreeMap::new(),
            now: 1_000_000,
            is_ahead: false,
            fresh: 0,
            workers: [None, None, None],
            posts: BTreeMap::new(),
            owed: BTreeMap::new(),
            leases: BTreeMap::new(),
            channels: BTreeMap::new(),
            admitted: BTreeMap::new(),
            unsure: BTreeSet::new(),
            stamps: BTreeMap::new(),
            unsure_stamps: BTreeMap::new(),
            ended: BTreeMap::new(),
            times_admitted: BTreeMap::new(),
            dead: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn fresh(&mut self, word: &str) -> String {
        self.fresh += 1;
        format!("{word}{}", self.fresh)
    }

    /// Runs a verb twice; the second time changes nothing (I20). Gives both answers.
    pub(crate) fn twice<T>(&mut self, verb: impl Fn(&mut Queue, Millis) -> T) -> (T, T) {
        let first = verb(&mut self.queue, self.now);
        self.take_rows();
        let before = self.rows.clone();
        let second = verb(&mut self.queue, self.now);
        self.take_rows();
        assert_eq!(before, self.rows, "I20: a repeated verb changed a row");
        (first, second)
    }

    fn take_rows(&mut self) {
        for row in self.queue.take_changes() {
            match row.value {
                Some(value) => drop(self.rows.insert(row.key, value)),
                None => drop(self.rows.remove(&row.key)),
            }
        }
    }

    /// A message always comes to the same conversation; its channel may have been made anew. An idle
    /// worker that brings it wants its lease.
    pub(crate) fn admit(&mut self, sid: u32, anew: bool, worker: Option<usize>) {
        let number = sid as usize % 3;
        let worker = worker.filter(|worker| self.workers[*worker].is_none());
        let lease = worker.map(|_| new_lease(&self.fresh("nonce")));
        let gets_lease = lease.is_some() && self.is_alone(&customer(number));
        let admit = Admit {
            channel: channel(&format!("channel-{number}{}", if anew { "-anew" } else { "" })),
            conversation: customer(number),
            limit: u32::try_from(LIMIT).unwrap_or(u32::MAX),
            window_ms: WINDOW_MS,
            dedup_ms: DEDUP_MS,
            lease,
            ..message(0, &sid.to_string())
        };
        let id = admit.conversation.clone();
        let before = self.rows.clone();
        let (first, second) = self.twice(|queue, now| queue.admit(now, admit.clone()));
        let known = self.admitted.get(&sid).is_some_and(|at| at + DEDUP_MS > self.now);
        // What waits is remembered whatever the clock says.
        let is_owed = self.owed.values().flatten().any(|owed| owed.sid == sid);
        let unsure = is_owed || self.unsure.contains(&sid);
        let stamps = self.stamps.entry(id.clone()).or_default();
        let counts = |stamp: &Millis| *stamp <= self.now && stamp + WINDOW_MS > self.now;
        let reached = stamps.iter().filter(|stamp| counts(stamp)).count();
        let unsure_stamps = self.unsure_stamps.get(&id).into_iter().flatten();
        let may_reach = reached + unsure_stamps.filter(|stamp| counts(stamp)).count();
        let is_admitted = matches!(first, Admission::Queued | Admission::Leased(_));
        match &first {
            Admission::Queued | Admission::Leased(_) => {
                let forgot = self.unsure.remove(&sid) && !is_owed;
                assert!(!known || forgot, "I5: admitted twice in its window");
                assert!(reached < LIMIT, "I6: over the limit");
                assert_eq!(second, Admission::Duplicate);
                stamps.retain(counts);
                stamps.push(self.now);
                self.admitted.insert(sid, self.now);
                *self.times_admitted.entry(sid).or_default() += 1;
                self.channels.insert(id.clone(), admit.channel);
                self.owed.entry(id).or_default().push(Owed { sid, ..Owed::default() });
            }
            Admission::Duplicate => assert!(known || unsure, "I7: refused before, or forgotten"),
            Admission::Limited { .. } => {
                let is_limit = reached == LIMIT || (reached < LIMIT && may_reach >= LIMIT);
                assert!((!known || unsure) && is_limit, "I7");
            }
            Admission::Full => unreachable!("so few messages fill nothing"),
        }
        assert!(is_admitted || before == self.rows, "I7: a refusal changed a row");
        assert_eq!(matches!(first, Admission::Leased(_)), is_admitted && gets_lease, "I14, I15");
        if let (Admission::Leased(head), Some(worker)) = (first, worker) {
            self.workers[worker] = Some(self.note_claim(*head));
        }
    }

    /// Whether a message of this conversation would wait behind nothing.
    fn is_alone(&self, id: &ConversationId) -> bool {
        let waiting = self.owed.iter().filter(|(_, owed)| !owed.is_empty());
        let mut beside = waiting.map(|(other, _)| other).filter(|of| of.shard() == id.shard());
        beside.all(|other| other != id && self.place(other) != "rdy")
    }

    pub(crate) fn claim(&mut self, worker: usize, shard: u8) {
        if self.workers[worker].is_some() {
            return;
        }
        let nonce = nonce(&self.fresh("nonce"));
        let (first, second) =
            self.twice(|queue, now| queue.claim(now, shard, nonce.clone(), LEASE_MS));
        assert_eq!(first, second, "I20: a repeated claim gives the same head");
        self.note_found(worker, shard, first);
    }

    /// What a claim found for a worker that has nothing to do.
    pub(crate) fn note_found(&mut self, worker: usize, shard: u8, found: Claimed) {
        if let Claimed::Head(head) = found {
            self.workers[worker] = Some(self.note_claim(*head));
        } else {
            let ready =
                self.owed.iter().filter(|(id, owed)| id.shard() == shard && !owed.is_empty());
            let untaken = ready.filter(|(id, _)| self.place(id) == "rdy").count();
            assert_eq!(untaken, 0, "I14: a conversation that nobody holds was not given");
        }
    }

    fn place(&self, id: &ConversationId) -> serde_json::Value {
        let row = &self.rows[&format!("{:02}:conv:{id}", id.shard())];
        let mut row: serde_json::Value = serde_json::from_slice(row).expect("a row is JSON");
        row["place"].take()
    }

    fn note_claim(&mut self, head: Head) -> Held {
        let id = head.conversation.clone();
        assert_eq!(head.channel, self.channels[&id], "claimed for another channel");
        let queue = self.owed.get_mut(&id).expect("only what is owed is claimed");
        let owed = &mut queue[0];
        assert_eq!(owed.sid.to_string(), head.envelope, "I3, I17: not the oldest message");
        if let Some((_, until)) = self.leases.insert(id, (head.nonce.clone(), self.now + LEASE_MS))
        {
            assert!(until <= self.now, "I4: taken over before the lease ended");
            owed.crashes += 1;
            owed.crashed_alone = std::mem::take(&mut owed.alone);
        }
        owed.tries += 1;
        assert_eq!((head.tries, head.crashes), (owed.tries, owed.crashes), "I22");
        assert_eq!(head.crashed_alone, owed.crashed_alone, "somebody else's crash");
        assert_eq!(head.counted, owed.counted, "the end of the first attempt is forgotten");
        let standing = head.intent.as_ref().map(|intent| intent.id.clone());
        assert_eq!(standing, owed.intent, "I9: the intent of a head is kept");
        Held { sid: owed.sid, lease: lease_of(&head), intent: head.intent, marked: None }
    }

    /// I4: whoever was told that a verb was done must be the owner.
    pub(crate) fn assert_owner(&self, lease: &Lease) {
        let owner = self.leases.get(&lease.conversation).map(|(nonce, _)| nonce);
        assert_eq!(owner, Some(&lease.nonce), "I4: done for somebody who owns nothing");
    }

    /// The head of an owner, in the account.
    pub(crate) fn head(&mut self, lease: &Lease) -> &mut Owed {
        &mut self.owed.get_mut(&lease.conversation).expect("a held head is owed")[0]
    }

    pub(crate) fn renew(&mut self, lease: &Lease) {
        self.assert_owner(lease);
        let until = self.now + LEASE_MS;
        self.leases.insert(lease.conversation.clone(), (lease.nonce.clone(), until));
    }

    pub(crate) fn end_head(&mut self, held: &Held, done: bool) {
        if done {
            self.assert_owner(&held.lease);
            let id = &held.lease.conversation;
            self.leases.remove(id);
            let ended = self.owed.get_mut(id).expect("a held head is owed").remove(0);
            assert_eq!(ended.sid, held.sid, "I1: another message was ended");
            *self.ended.entry(ended.sid).or_default() += 1;
        }
    }

    /// Ends a worker's lease by a verb that keeps the head.
    pub(crate) fn give_back(
        &mut self,
        worker: usize,
        counted: bool,
        verb: impl Fn(&mut Queue, Millis, &Lease) -> Owned,
    ) {
        let Some(held) = self.workers[worker].take() else { return };
        self.put_back(&held.lease, counted, verb);
    }

    pub(crate) fn put_back(
        &mut self,
        lease: &Lease,
        counted: bool,
        verb: impl Fn(&mut Queue, Millis, &Lease) -> Owned,
    ) {
        let (first, again) = self.twice(|queue, now| verb(queue, now, lease));
        assert_eq!(again, Owned::Stale);
        if first == Owned::Done {
            self.assert_owner(lease);
            self.leases.remove(&lease.conversation);
            let owed = self.head(lease);
            owed.tries -= u32::from(!counted);
            owed.alone = false;
        }
    }

    /// An agent is well again: of this channel nobody waits for it any more.
    pub(crate) fn wake(&mut self, number: usize) {
        let Some(of) = self.channels.get(&customer(number)).cloned() else { return };
        let of = of.as_str();
        self.twice(|queue, now| queue.wake(now, of));
        assert_eq!(self.queue.wake(self.now, of), 0, "a wake left some behind");
        let left = self.parked().into_iter().filter(|park| park.starts_with(&format!("{of} ")));
        assert_eq!(left.count(), 0, "a wake left some behind");
    }

    /// What each parked conversation waits for, by the rows.
    fn parked(&self) -> BTreeSet<String> {
        let waiting = self.owed.iter().filter(|(_, owed)| !owed.is_empty());
        let parks = waiting.filter_map(|(id, _)| {
            let revision = self.place(id)["dly"]["park"].as_str()?.to_owned();
            Some(format!("{} {revision}", self.channels[id]))
        });
        parks.collect()
    }

    pub(crate) fn isolate(&mut self, worker: usize) {
        let Some(held) = self.workers[worker].clone() else { return };
        let (first, again) = self.twice(|queue, now| queue.isolate(now, &held.lease));
        assert_eq!(first, again);
        if first == Owned::Done {
            self.assert_owner(&held.lease);
            self.head(&held.lease).alone = true;
        }
    }

    pub(crate) fn end_attempt(&mut self, worker: usize, evidence: Option<&Evidence>) {
        let Some(held) = self.workers[worker].clone() else { return };
        let lease = &held.lease;
        let verb = |queue: &mut Queue, now| queue.end_attempt(now, lease, evidence, Some("c"));
        let (first, again) = self.twice(verb);
        assert_eq!(first, again);
        if first == Owned::Done {
            self.assert_owner(lease);
            if !std::mem::replace(&mut self.head(lease).counted, true) {
                evidence.into_iter().for_each(|evidence| self.tally.count(lease, evidence));
            }
        }
    }

    pub(crate) fn bury(&mut self, worker: usize) {
        let Some(held) = self.workers[worker].take() else { return };
        let (first, again) = self.twice(|queue, now| queue.bury(now, &held.lease, "agent"));
        assert_eq!(again, Buried::Stale);
        if first == Buried::Done {
            let counted = self.head(&held.lease).counted;
            let newest = self.letters(held.lease.conversation.shard()).pop();
            assert_eq!(newest.map(|letter| letter.counted), Some(counted), "I23");
            let of = self.channels[&held.lease.conversation].clone();
            *self.dead.entry(of).or_default() += 1;
        }
        self.end_head(&held, first == Buried::Done);
    }

    pub(crate) fn extend(&mut self, worker: usize) {
        let Some(held) = self.workers[worker].clone() else { return };
        let leases = [(held.lease.conversation.clone(), held.lease.nonce.clone())];
        let (lost, again) = self.twice(|queue, now| queue.extend(now, &leases, LEASE_MS));
        assert_eq!(lost, again);
        if lost.is_empty() {
            self.renew(&held.lease);
        }
    }

    pub(crate) fn restart(&mut self) {
        self.queue = Queue::load(self.rows.clone()).expect("its own rows are good");
        assert_eq!(self.queue.take_changes(), [], "reading changes nothing");
    }

    pub(crate) fn sweep(&mut self) {
        self.twice(|queue, now| (1..3).for_each(|shard| queue.sweep(now, shard)));
    }

    /// Everything that must hold after every step.
    pub(crate) fn check(&mut self) {
        self.check_messages();
        self.check_loads();
        self.tally.check(&mut self.queue);
        for park in self.parked() {
            let probed = self.rows.keys().any(|row| row.ends_with(&format!(":pr:{park}")));
            assert!(probed, "{park} is waited for and nobody will try it");
        }
    }

    /// I1, I2: rows and account name the same messages.
    fn check_messages(&self) {
        let of = |kind: &str| {
            let kind = format!(":{kind}:");
            self.rows.keys().filter(move |key| key.contains(&kind)).count()
        };
        let owed = self.owed.values().map(Vec::len).sum::<usize>();
        assert_eq!(of("msg"), owed, "I1: a message is lost or kept too long");
        let waiting = self.owed.values().filter(|owed| !owed.is_empty()).count();
        assert_eq!(of("conv"), waiting, "I2: a conversation without messages, or the reverse");
        assert_eq!(of("int"), of("bod"));
        for (sid, times) in &self.times_admitted {
            let ended = self.ended.get(sid).copied().unwrap_or(0);
            let waiting = self.owed.values().flatten().filter(|owed| owed.sid == *sid).count();
            assert_eq!(*times, ended + waiting as u32, "I1: {sid}");
        }
    }

    /// I8: what each channel has waiting is the sum over its messages.
    fn check_loads(&mut self) {
        let mut expected: BTreeMap<ChannelUid, [u64; 3]> = BTreeMap::new();
        for (id, owed) in self.owed.iter().filter(|(_, owed)| !owed.is_empty()) {
            let load = expected.entry(self.channels[id].clone()).or_default();
            load[0] += owed.len() as u64;
            load[1] += owed.iter().map(|owed| owed.sid.to_string().len() as u64).sum::<u64>();
        }
        for (of, letters) in self.dead.iter().filter(|(_, letters)| **letters > 0) {
            expected.entry(of.clone()).or_default()[2] += letters;
        }
        let loads = self.queue.loads().into_iter();
        let loads = loads.map(|Load { channel, messages, bytes, dead_letters }| {
            (channel, [messages, bytes, dead_letters])
        });
        assert_eq!(loads.collect::<BTreeMap<_, _>>(), expected, "I8");
    }
}

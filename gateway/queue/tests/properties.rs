//! Random schedules of several workers that crash, freeze, repeat verbs and lose answers, with late
//! callbacks and restarts of the machine; after every step the invariants hold against an account
//! of its own, kept from the answers alone. Workers are as careful as the contract asks: they post
//! within 5 s of a mark, and refute a mark by a listing after 20 s at the earliest.

use std::collections::{BTreeMap, BTreeSet};

use kanarie_queue::queue::Queue;
use kanarie_queue::send::Attempt;
use kanarie_queue::types::{
    Admission, Admit, Buried, Claim, Claimed, Committed, ConversationId, Intent, Lease, Marked,
    Millis, Nonce, Owned,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};

const LEASE_MS: u64 = 15_000;
const SEND_DEADLINE_MS: u64 = 5_000;
const SETTLE_MS: u64 = 20_000;
const WINDOW_MS: u64 = 60_000;
const DEDUP_MS: u64 = 300_000;
const LIMIT: usize = 3;

/// One step of a schedule; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Admit { sid: u32 },
    Claim { worker: usize, shard: u8 },
    Work { worker: usize, luck: Luck },
    Retry { worker: usize, delay_ms: u64, counted: bool },
    Release { worker: usize },
    Bury { worker: usize },
    Extend { worker: usize },
    Crash { worker: usize },
    Callback { post: usize },
    Pass { ms: u64 },
    Restart,
    Sweep,
}

/// What happens to a POST.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Answered,
    AnswerLost,
    NeverLeft,
    DiedAfter,
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..3_usize;
    let luck = prop_oneof![
        4 => Just(Luck::Answered),
        1 => Just(Luck::AnswerLost),
        1 => Just(Luck::NeverLeft),
        1 => Just(Luck::DiedAfter),
    ];
    let pass = prop_oneof![0..3_000_u64, Just(LEASE_MS), Just(SETTLE_MS), Just(WINDOW_MS)];
    prop_oneof![
        6 => (0..12_u32).prop_map(|sid| Step::Admit { sid }),
        6 => (worker.clone(), 1..3_u8).prop_map(|(worker, shard)| Step::Claim { worker, shard }),
        12 => (worker.clone(), luck).prop_map(|(worker, luck)| Step::Work { worker, luck }),
        1 => (worker.clone(), 0..30_000_u64, proptest::bool::ANY)
            .prop_map(|(worker, delay_ms, counted)| Step::Retry { worker, delay_ms, counted }),
        1 => worker.clone().prop_map(|worker| Step::Release { worker }),
        1 => worker.clone().prop_map(|worker| Step::Bury { worker }),
        1 => worker.clone().prop_map(|worker| Step::Extend { worker }),
        1 => worker.prop_map(|worker| Step::Crash { worker }),
        2 => (0..8_usize).prop_map(|post| Step::Callback { post }),
        5 => pass.prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Restart),
        1 => Just(Step::Sweep),
    ]
}

/// What a worker believes.
#[derive(Clone)]
struct Held {
    lease: Lease,
    sid: u32,
    intent: Option<Intent>,
    marked: Option<(Attempt, Millis)>,
}

/// A POST that Twilio took.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Posted {
    conversation: ConversationId,
    intent: String,
    segment: u32,
}

/// What the account knows of a message that is owed an answer.
#[derive(Clone, Default)]
struct Owed {
    sid: u32,
    tries: u32,
    crashes: u32,
    intent: Option<String>,
}

struct World {
    queue: Queue,
    rows: BTreeMap<String, Vec<u8>>,
    now: Millis,
    fresh: u32,
    workers: [Option<Held>; 3],
    posts: Vec<Posted>,
    owed: BTreeMap<ConversationId, Vec<Owed>>,
    leases: BTreeMap<ConversationId, (Nonce, Millis)>,
    admitted: BTreeMap<u32, Millis>,
    stamps: BTreeMap<ConversationId, Vec<Millis>>,
    ended: BTreeMap<u32, u32>,
    times_admitted: BTreeMap<u32, u32>,
}

/// Three conversations; the first two share a shard and differ in their channel.
fn conversation(number: usize) -> ConversationId {
    ConversationId::from_bytes([[1, 33, 2][number]; 16])
}

impl World {
    fn new() -> Self {
        let queue = Queue::load([]).expect("no row can be wrong");
        Self {
            queue,
            rows: BTreeMap::new(),
            now: 1_000_000,
            fresh: 0,
            workers: [None, None, None],
            posts: Vec::new(),
            owed: BTreeMap::new(),
            leases: BTreeMap::new(),
            admitted: BTreeMap::new(),
            stamps: BTreeMap::new(),
            ended: BTreeMap::new(),
            times_admitted: BTreeMap::new(),
        }
    }

    fn fresh(&mut self, word: &str) -> String {
        self.fresh += 1;
        format!("{word}{}", self.fresh)
    }

    /// Runs a verb twice; the second time changes nothing (I20). Gives both answers.
    fn twice<T>(&mut self, verb: impl Fn(&mut Queue, Millis) -> T) -> (T, T) {
        let first = verb(&mut self.queue, self.now);
        self.take_rows();
        let before = self.rows.clone();
        let second = verb(&mut self.queue, self.now);
        self.take_rows();
        assert_eq!(before, self.rows, "a repeated verb changed a row");
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

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Admit { sid } => self.admit(sid),
            Step::Claim { worker, shard } => self.claim(worker, shard),

            Step::Work { worker, luck } => self.work(worker, luck),
            Step::Retry { worker, delay_ms, counted } => self.retry(worker, delay_ms, counted),
            Step::Release { worker } => {
                self.give_back(worker, |queue, now, lease| queue.release(now, lease), false);
            }
            Step::Bury { worker } => self.bury(worker),
            Step::Extend { worker } => self.extend(worker),
            Step::Crash { worker } => self.workers[worker] = None,
            Step::Callback { post } => self.callback(post),
            Step::Pass { ms } => self.now += ms,
            Step::Restart => self.restart(),
            Step::Sweep => {
                self.twice(|queue, now| (1..3).for_each(|shard| queue.sweep(now, shard)));
            }
        }
        self.check_rows();
    }

    fn admit(&mut self, sid: u32) {
        let number = sid as usize % 3;
        let admit = Admit {
            channel: format!("channel-{number}"),
            dedup_key: sid.to_string(),
            // A message always comes to the same conversation.
            conversation: conversation(number),
            envelope: sid.to_string(),
            limit: u32::try_from(LIMIT).unwrap_or(u32::MAX),
            window_ms: WINDOW_MS,
            dedup_ms: DEDUP_MS,
        };
        let id = admit.conversation.clone();
        let before = self.rows.clone();
        let (first, second) = self.twice(|queue, now| queue.admit(now, admit.clone()));
        let known = self.admitted.get(&sid).is_some_and(|at| at + DEDUP_MS > self.now);
        let stamps = self.stamps.entry(id.clone()).or_default();
        stamps.retain(|stamp| stamp + WINDOW_MS > self.now);
        match first {
            Admission::Queued => {
                assert!(!known, "I5: admitted twice in its window");
                assert!(stamps.len() < LIMIT, "I6: over the limit");
                assert_eq!(second, Admission::Duplicate);
                stamps.push(self.now);
                self.admitted.insert(sid, self.now);
                *self.times_admitted.entry(sid).or_default() += 1;
                self.owed.entry(id).or_default().push(Owed { sid, ..Owed::default() });
            }
            Admission::Duplicate => assert!(known, "I7: refused before, or forgotten"),
            Admission::Limited { .. } => assert!(!known && stamps.len() == LIMIT, "I7"),
            Admission::Full => unreachable!("so few messages fill nothing"),
        }
        assert!(first == Admission::Queued || before == self.rows, "I7: a refusal changed a row");
    }

    fn claim(&mut self, worker: usize, shard: u8) {
        if self.workers[worker].is_some() {
            return;
        }
        let nonce = Nonce(self.fresh("nonce"));
        let (first, second) =
            self.twice(|queue, now| queue.claim(now, shard, nonce.clone(), LEASE_MS));
        assert_eq!(first, second, "I20: a repeated claim gives the same head");
        if let Claimed::Head(head) = first {
            self.workers[worker] = Some(self.note_claim(*head));
        } else {
            let ready =
                self.owed.iter().filter(|(id, owed)| id.shard() == shard && !owed.is_empty());
            let untaken = ready.filter(|(id, _)| self.is_free(id)).count();
            assert_eq!(untaken, 0, "I14: a conversation that nobody holds was not given");
        }
    }

    /// Whether a conversation is neither leased nor delayed.
    fn is_free(&self, id: &ConversationId) -> bool {
        let row = &self.rows[&format!("{:02}:conv:{}", id.shard(), id.as_str())];
        let row: serde_json::Value = serde_json::from_slice(row).expect("a row is JSON");
        row["place"] == "rdy"
    }

    fn note_claim(&mut self, head: Claim) -> Held {
        let id = head.conversation.clone();
        let queue = self.owed.get_mut(&id).expect("only what is owed is claimed");
        let owed = &mut queue[0];
        assert_eq!(owed.sid.to_string(), head.envelope, "I3, I17: not the oldest message");
        if let Some((_, until)) = self.leases.insert(id, (head.nonce.clone(), self.now + LEASE_MS))
        {
            assert!(until <= self.now, "I4: taken over before the lease ended");
            owed.crashes += 1;
        }
        owed.tries += 1;
        assert_eq!((head.tries, head.crashes), (owed.tries, owed.crashes), "I22");
        let standing = head.intent.as_ref().map(|intent| intent.id.clone());
        assert_eq!(standing, owed.intent, "I9: the intent of a head is kept");
        Held {
            sid: owed.sid,
            lease: Lease {
                channel: head.channel,
                conversation: head.conversation,
                nonce: head.nonce,
            },
            intent: head.intent,
            marked: None,
        }
    }

    /// I4: whoever was told that a verb was done must be the owner.
    fn assert_owner(&self, lease: &Lease) {
        let owner = self.leases.get(&lease.conversation).map(|(nonce, _)| nonce);
        assert_eq!(owner, Some(&lease.nonce), "I4: done for somebody who owns nothing");
    }

    fn work(&mut self, worker: usize, luck: Luck) {
        let Some(mut held) = self.workers[worker].take() else { return };
        let goes_on = match &held.intent {
            None => self.commit(&mut held),
            Some(intent) if (intent.sent.len() as u32) < intent.segments => {
                match held.marked.take() {
                    Some((attempt, at)) => self.post(&mut held, attempt, at, luck),
                    None => self.mark(&mut held),
                }
            }
            Some(_) => {
                let lease = held.lease.clone();
                let (done, again) = self.twice(|queue, now| queue.complete(now, &lease, None));
                assert_eq!(again, Owned::Stale);
                self.end_head(&held, done == Owned::Done);
                false
            }
        };
        if goes_on {
            self.workers[worker] = Some(held);
        }
    }

    fn end_head(&mut self, held: &Held, done: bool) {
        if done {
            self.assert_owner(&held.lease);
            let id = &held.lease.conversation;
            self.leases.remove(id);
            let ended = self.owed.get_mut(id).expect("a held head is owed").remove(0);
            assert_eq!(ended.sid, held.sid, "I1: another message was ended");
            *self.ended.entry(ended.sid).or_default() += 1;
        }
    }

    fn commit(&mut self, held: &mut Held) -> bool {
        let id = self.fresh("intent");
        let intent = Intent {
            segments: 1 + self.fresh % 2,
            body: id.clone(),
            id,
            sent: Vec::new(),
            sending: None,
            resent: false,
        };
        let lease = held.lease.clone();
        let (first, _) =
            self.twice(|queue, now| queue.commit_reply(now, &lease, intent.clone(), None));
        match first {
            Committed::Done => {
                self.assert_owner(&lease);
                let until = self.now + LEASE_MS;
                self.leases.insert(lease.conversation.clone(), (lease.nonce.clone(), until));
                let owed = &mut self.owed.get_mut(&lease.conversation).expect("owed")[0];
                assert_eq!(owed.sid, held.sid, "I3: committed out of order");
                assert_eq!(owed.intent.replace(intent.id.clone()), None, "I9");
                held.intent = Some(intent);
                true
            }
            Committed::Exists(_) => unreachable!("I9: the claim said that there is none"),
            Committed::Stale => false,
        }
    }

    fn mark(&mut self, held: &mut Held) -> bool {
        let intent = held.intent.clone().expect("marked after a commit");
        let segment = intent.sent.len() as u32;
        let attempt = self.fresh("attempt");
        let post = Attempt { intent: intent.id.clone(), segment, attempt };
        let lease = held.lease.clone();
        let (first, _) = self.twice(|queue, now| queue.mark_sending(now, &lease, &post, None));
        match first {
            Marked::Go => held.marked = Some((post, self.now)),
            Marked::Sent => {
                held.intent.iter_mut().for_each(|intent| intent.sent.push(String::new()))
            }
            Marked::Stale => return false,
            Marked::Ambiguous { sending, now, .. } => {
                assert_ne!(sending.attempt, post.attempt, "I11");
                if now < sending.at + SETTLE_MS {
                    self.queue.retry(now, &lease, SETTLE_MS, false);
                    self.take_rows();
                    self.forget_lease(&lease, true);
                    return false;
                }
                let posted = self.posted(&lease, &intent.id, segment);
                if self.posts.contains(&posted) {
                    self.queue.mark_sent(now, &lease.conversation, &intent.id, segment, "listed");
                    self.take_rows();
                    return true;
                }
                let expected = Some(sending.attempt.as_str());
                let (go, _) =
                    self.twice(|queue, now| queue.mark_sending(now, &lease, &post, expected));
                assert_eq!(go, Marked::Go, "a refuted mark is replaced");
                held.marked = Some((post, now));
            }
        }
        self.assert_owner(&lease);
        true
    }

    fn posted(&self, lease: &Lease, intent: &str, segment: u32) -> Posted {
        Posted { conversation: lease.conversation.clone(), intent: intent.to_owned(), segment }
    }

    fn post(&mut self, held: &mut Held, post: Attempt, at: Millis, luck: Luck) -> bool {
        let lease = held.lease.clone();
        let posted = self.posted(&lease, &post.intent, post.segment);
        if self.now > at + SEND_DEADLINE_MS || matches!(luck, Luck::NeverLeft) {
            let (answer, _) = self.twice(|queue, now| queue.unmark(now, &lease, &post));
            return answer == Owned::Done;
        }
        assert!(!self.posts.contains(&posted), "a segment was posted twice");
        let before = Posted { segment: post.segment.wrapping_sub(1), ..posted.clone() };
        assert!(post.segment == 0 || self.posts.contains(&before), "I12: posted out of order");
        self.posts.push(posted);
        match luck {
            Luck::DiedAfter => return false,
            Luck::AnswerLost => {
                let done = self.queue.retry(self.now, &lease, SETTLE_MS, false);
                self.take_rows();
                if done == Owned::Done {
                    self.forget_lease(&lease, true);
                }
                return false;
            }
            _ => {}
        }
        let id = lease.conversation;
        let verb =
            |queue: &mut Queue, now| queue.mark_sent(now, &id, &post.intent, post.segment, "S");
        let (_, again) = self.twice(verb);
        assert!(!again, "a segment has one SID");
        held.intent.iter_mut().for_each(|intent| intent.sent.push("S".to_owned()));
        true
    }

    /// A late report of a POST: it may come for a reply that is long gone.
    fn callback(&mut self, nth: usize) {
        let count = self.posts.len();
        let Some(posted) = self.posts.get(nth % count.max(1)).cloned() else { return };
        self.twice(|queue, now| {
            queue.mark_sent(now, &posted.conversation, &posted.intent, posted.segment, "late")
        });
    }

    fn retry(&mut self, worker: usize, delay_ms: u64, counted: bool) {
        self.give_back(
            worker,
            |queue, now, lease| queue.retry(now, lease, delay_ms, counted),
            counted,
        );
    }

    fn give_back(
        &mut self,
        worker: usize,
        verb: impl Fn(&mut Queue, Millis, &Lease) -> Owned,
        counted: bool,
    ) {
        let Some(held) = self.workers[worker].take() else { return };
        let (first, again) = self.twice(|queue, now| verb(queue, now, &held.lease));
        assert_eq!(again, Owned::Stale);
        if first == Owned::Done {
            self.assert_owner(&held.lease);
            self.forget_lease(&held.lease, !counted);
        }
    }

    fn forget_lease(&mut self, lease: &Lease, uncounted: bool) {
        if self.leases.get(&lease.conversation).is_some_and(|(nonce, _)| *nonce == lease.nonce) {
            self.leases.remove(&lease.conversation);
            let owed = &mut self.owed.get_mut(&lease.conversation).expect("held is owed")[0];
            owed.tries -= u32::from(uncounted);
        }
    }

    fn bury(&mut self, worker: usize) {
        let Some(held) = self.workers[worker].take() else { return };
        let (first, again) = self.twice(|queue, now| queue.bury(now, &held.lease, "agent"));
        assert_eq!(again, Buried::Stale);
        self.end_head(&held, first == Buried::Done);
    }

    fn extend(&mut self, worker: usize) {
        let Some(held) = self.workers[worker].clone() else { return };
        let leases = [(held.lease.conversation.clone(), held.lease.nonce.clone())];
        let (lost, again) = self.twice(|queue, now| queue.extend(now, &leases, LEASE_MS));
        assert_eq!(lost, again);
        if lost.is_empty() {
            self.assert_owner(&held.lease);
            let until = self.now + LEASE_MS;
            self.leases.insert(held.lease.conversation, (held.lease.nonce, until));
        }
    }

    fn restart(&mut self) {
        self.queue = Queue::load(self.rows.clone()).expect("its own rows are good");
        assert_eq!(self.queue.take_changes(), [], "reading changes nothing");
    }

    /// I1, I2: rows and account name the same messages.
    fn check_rows(&self) {
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

    /// I14: once everybody works properly, everything owed is answered.
    fn drain(&mut self) {
        for _ in 0..1_000 {
            if self.owed.values().all(Vec::is_empty) {
                return;
            }
            self.now += 1_000;
            for worker in 0..3 {
                self.claim(worker, 1 + (worker as u8 & 1));
                self.work(worker, Luck::Answered);
            }
        }
        unreachable!("I14: something is never answered");
    }
}

/// Heads in the order in which one worker would get them.
fn order(mut queue: Queue, mut now: Millis) -> Vec<(String, u32)> {
    let mut order = Vec::new();
    for nth in 0..200 {
        now += 1_000;
        for shard in [1, 2] {
            let nonce = Nonce(format!("order-{nth}-{shard}"));
            let Claimed::Head(head) = queue.claim(now, shard, nonce, LEASE_MS) else { continue };
            let lease =
                Lease { channel: head.channel, conversation: head.conversation, nonce: head.nonce };
            queue.complete(now, &lease, None);
            order.push((head.envelope, head.tries));
        }
    }
    order
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_after_every_step(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.run(step));
        world.drain();
        assert_eq!(world.posts.len(), world.posts.iter().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn a_machine_read_back_gives_the_same_heads_in_the_same_order(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.run(step));
        let read_back = Queue::load(world.rows.clone()).expect("its own rows are good");
        assert_eq!(order(world.queue, world.now), order(read_back, world.now));
    }
}

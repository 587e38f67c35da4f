//! Random schedules of several workers that crash, freeze, repeat verbs and lose answers, with agents
//! that are waited for, channels made anew, late callbacks, a clock that is a day ahead for a while and
//! restarts of the machine; after every step the invariants hold against an account that is kept from the answers alone.

use kanarie_queue::claim::Claimed;
use kanarie_queue::queue::Queue;
use kanarie_words::Millis;
use kanarie_words::class::Class;
use kanarie_words::track::Track;
use proptest::prelude::{ProptestConfig, proptest};

use crate::account::World;
use crate::schedule::{Luck, Step, step};
use crate::words::{LEASE_MS, Words as _, evidence, lease_of, nonce};

impl World {
    fn run(&mut self, step: &Step) {
        match *step {
            Step::Admit { sid, anew, worker } => self.admit(sid, anew, worker),
            Step::Claim { worker, shard } => self.claim(worker, shard),
            Step::Work { worker, luck, hurry } => self.work(worker, luck, hurry),
            Step::Retry { worker, delay_ms, counted } => {
                self.give_back(worker, counted, |queue, now, lease| {
                    queue.retry(now, lease, delay_ms, counted)
                });
            }
            Step::Release { worker } => {
                self.give_back(worker, false, |queue, now, lease| queue.release(now, lease));
            }
            Step::Park { worker, until_ms, probe_ms } => {
                self.give_back(worker, false, |queue, now, lease| {
                    queue.park(now, lease, until_ms, probe_ms)
                });
            }
            Step::Wake { number } => self.wake(number),
            Step::Isolate { worker } => self.isolate(worker),
            Step::EndAttempt { worker, ref evidence } => {
                self.end_attempt(worker, evidence.as_ref());
            }
            Step::Rescue { worker, serving } => {
                let failure = evidence(serving, Track::Canary, Class::Http);
                self.end_attempt(worker, Some(&failure));
                self.rescue_silently(worker, serving);
            }
            Step::Bury { worker } => self.bury(worker),
            Step::Replay { shard, nth } => self.replay(shard, nth),
            Step::EraseLetter { shard, nth } => self.erase_letter(shard, nth),
            Step::EraseConversation { number } => self.erase_conversation(number),
            Step::Extend { worker } => self.extend(worker),
            Step::Crash { worker } => self.workers[worker] = None,
            Step::Callback { post } => self.callback(post),
            Step::Pass { ms } => self.now += ms,
            Step::Jump => self.jump(),
            Step::Restart => self.restart(),
            Step::Sweep => self.sweep(),
        }
        self.check();
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
                self.work(worker, Luck::Answered, false);
            }
        }
        unreachable!("I14: something is never answered");
    }
}

/// Heads in the order in which one worker would get them.
fn order(mut queue: Queue, mut now: Millis) -> Vec<(String, u32, bool)> {
    let mut order = Vec::new();
    for nth in 0..200 {
        now += 1_000;
        for shard in [1, 2] {
            let nonce = nonce(&format!("order-{nth}-{shard}"));
            let Claimed::Head(head) = queue.claim(now, shard, nonce, LEASE_MS) else { continue };
            queue.complete(now, &lease_of(&head), None);
            order.push((head.envelope, head.tries, head.crashed_alone));
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

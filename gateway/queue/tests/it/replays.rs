//! What a person does to the queue, in random schedules: dead letters sent again or erased, and a
//! conversation erased, with what the account makes of it (I1, I3, I23).

use kanarie_queue::letters::DeadLetterRead;
use kanarie_queue::replay::Replayed;

use crate::account::{DEDUP_MS, Owed, World, customer};
use crate::words::{Words as _, channel};

impl World {
    /// All dead letters of a shard.
    pub(crate) fn letters(&mut self, shard: u8) -> Vec<DeadLetterRead> {
        self.queue.letters(shard)
    }

    /// Sends the letters of a shard again, from the nth on.
    pub(crate) fn replay(&mut self, shard: u8, nth: usize) {
        let letters: Vec<DeadLetterRead> =
            // One that a day's jump took the text of stays where it is.
            self.letters(shard).into_iter().filter(|of| of.text.is_some()).skip(nth).take(2).collect();
        let (first, again) = self.twice(|queue, now| queue.replay(now, &letters, DEDUP_MS));
        assert!(again.iter().all(|of| *of == Replayed::Gone), "I23: replayed twice");
        for (letter, replayed) in letters.into_iter().zip(first) {
            self.note_replay(letter, replayed);
        }
    }

    fn note_replay(&mut self, letter: DeadLetterRead, replayed: Replayed) {
        let sid: u32 = letter.text.expect("nothing here loses its text").parse().unwrap();
        let id = letter.conversation.expect("every letter has one");
        let owed = self.owed.entry(id.clone()).or_default();
        let waits = owed.iter().any(|owed| owed.sid == sid);
        *self.dead.entry(letter.channel).or_default() -= 1;
        assert_eq!(replayed, if waits { Replayed::Waits } else { Replayed::Done }, "I23");
        if waits {
            return;
        }
        if owed.is_empty() {
            self.channels.insert(id, channel("channel-again"));
        }
        owed.push(Owed::again(sid, letter.counted));
        *self.ended.entry(sid).or_default() -= 1;
        // Remembered by a clock that was ahead, it may be so for longer.
        if self.admitted.insert(sid, self.now).is_some_and(|at| at > self.now) {
            self.unsure.insert(sid);
        }
    }

    /// Erases the nth dead letter of a shard.
    pub(crate) fn erase_letter(&mut self, shard: u8, nth: usize) {
        let Some(letter) = self.letters(shard).into_iter().nth(nth) else { return };
        let numbers = [letter.id.number];
        let erased = self.twice(|queue, now| queue.erase_letters(now, shard, &numbers));
        assert_eq!(erased, (1, 0));
        *self.dead.entry(letter.channel).or_default() -= 1;
    }

    /// Erases what waits for a customer. Who was counted stays counted here.
    pub(crate) fn erase_conversation(&mut self, number: usize) {
        let id = customer(number);
        let (first, again) = self.twice(|queue, now| queue.erase(now, &id, &[]));
        let owed = std::mem::take(self.owed.entry(id.clone()).or_default());
        assert_eq!((first.messages, again.messages), (owed.len() as u64, 0));
        let was_leased = self.leases.remove(&id).is_some();
        assert!(was_leased || !first.was_leased, "I4: leased to nobody");
        for owed in owed {
            *self.ended.entry(owed.sid).or_default() += 1;
        }
        self.stamps.remove(&id);
        self.unsure_stamps.remove(&id);
    }
}

//! What becomes of the place that is kept for a message, by what the store says of it.

use std::sync::{Arc, Mutex};

use kanarie_gateway::handover::{KeptPlace, Turns};
use kanarie_queue::claim::Head;
use kanarie_queue::lease::NewLease;
use kanarie_words::ids::{ChannelUid, ConversationId, Nonce};

use crate::inbound::gateway::{Gateway, text};

/// What became of the places, in order.
type Ends = Arc<Mutex<Vec<&'static str>>>;

/// A second line that keeps a place for everybody.
struct Keeper(Ends);

struct Kept {
    ends: Ends,
    end: &'static str,
}

impl Turns for Keeper {
    fn keep_place(&self, _: &ChannelUid, _: &ConversationId) -> Option<Box<dyn KeptPlace>> {
        Some(Box::new(Kept { ends: Arc::clone(&self.0), end: "its lease is given back" }))
    }
}

impl KeptPlace for Kept {
    fn lease(&self) -> NewLease {
        NewLease { nonce: Nonce::from_bytes([1; 16]), lease_ms: 15_000 }
    }

    fn begin(mut self: Box<Self>, _: Head) {
        self.end = "its turn begins";
    }

    fn leave(mut self: Box<Self>) {
        self.end = "it has no lease";
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.ends.lock().unwrap().push(self.end);
    }
}

#[tokio::test]
async fn a_repetition_gives_back_the_lease_that_a_lost_answer_may_have_told_of() {
    let (gateway, ends) = (Gateway::new(), Ends::default());
    let turns = Arc::new(Keeper(Arc::clone(&ends)));
    gateway.handover.open(&turns);
    for (sid, end) in
        [("SM1", "its turn begins"), ("SM1", "its lease is given back"), ("SM2", "it has no lease")]
    {
        assert_eq!(gateway.message(&text(sid, "Hallo")).await.status, 200);
        assert_eq!(ends.lock().unwrap().pop(), Some(end), "{sid}");
    }
}

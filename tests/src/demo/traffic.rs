//! Customers who write all the time while a channel changes.
//!
//! Takes a world, gives how many messages were accepted. Each customer keeps below the limit of
//! fifty messages a minute and numbers the messages, so that a reply out of order is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kanarie_fakes::customer::customer;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::world::World;

/// So many that one draw in a hundred thousand gives a canary at 10 % fewer than the three customers
/// whom it must fail before it is taken back.
const CUSTOMERS: u32 = 160;
const PAUSE: Duration = Duration::from_secs(4);

/// Customers at work.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    customers: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Lets 160 customers write every four seconds.
    pub fn start(world: &World) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let customers = (1..=CUSTOMERS).map(|who| {
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            let (client, account) = (world.client.clone(), world.account.clone());
            let gateway = world.gateways[0].authority();
            tokio::spawn(async move {
                sleep(PAUSE * who / CUSTOMERS).await; // not all at once
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let text = format!("Staat hij er nog? #{number}");
                    let said = account.say(&client, &gateway, &customer(100 + who), &text).await;
                    if said.is_ok_and(|(_, answer)| answer.status == 200) {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                    sleep(PAUSE).await;
                }
            })
        });
        let customers = customers.collect();
        Self { stop, accepted, customers }
    }

    /// Lets them finish their sentence, and gives how many messages were accepted.
    pub async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for customer in self.customers {
            // One that failed has accepted nothing more; what is missing shows in the count.
            let _ = customer.await;
        }
        self.accepted.load(Ordering::Relaxed)
    }
}

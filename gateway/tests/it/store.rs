//! The two stores, held to one contract and to what each of them adds.
//!
//! Every rule of `docs/queue.md` that can be seen through a verb is one sentence here, run on the
//! embedded store and on a real Redis server with a clock that the test moves; the same random
//! schedules are compared on both. What only one of them can show stands in files of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

/// Runs each rule on both stores.
macro_rules! on_both_stores {
    ($($rule:ident),+ $(,)?) => {
        $(mod $rule {
            #[tokio::test]
            async fn embedded() {
                super::$rule(&crate::store::stage::Stage::embedded()).await;
            }

            #[tokio::test]
            async fn redis() {
                super::$rule(&crate::store::stage::Stage::redis().await).await;
            }
        })+
    };
}

mod admission;
mod calls;
mod clocks;
mod compaction;
mod customers;
mod damage;
mod dead_letters;
mod deliveries;
mod differential;
mod disk_model;
mod embedded;
mod embedded_disk;
mod embedded_memory;
mod evidence;
mod fake_redis;
mod fast;
mod layout2;
mod layouts;
mod lean;
mod leases;
mod letters;
mod loads;
mod memos;
mod pace;
mod parking;
mod promises;
mod redis_connection;
mod redis_store;
mod replicas;
mod replies;
mod rescues;
mod stage;
mod steps;
mod suspects;
mod turns;

//! The contract of the queue, one sentence a test, held by both stores.
//!
//! Every rule of `docs/decisions/0002-queue-rows.md` and `0015-rows-in-redis.md` that can be seen
//! through `Store` is a test here, run on the embedded store and on a real Redis server with
//! a clock that the test moves.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

#[expect(dead_code, reason = "only tests of the connection stop and start the server")]
#[path = "common/redis_server.rs"]
mod redis_server;
#[expect(dead_code, reason = "only tests of Redis itself look at the server")]
#[path = "common/stage.rs"]
mod stage;

/// Runs each rule on both stores.
macro_rules! on_both_stores {
    ($($rule:ident),+ $(,)?) => {
        $(mod $rule {
            #[tokio::test]
            async fn embedded() {
                super::$rule(&crate::stage::Stage::embedded()).await;
            }

            #[tokio::test]
            async fn redis() {
                super::$rule(&crate::stage::Stage::redis().await).await;
            }
        })+
    };
}

#[path = "conformance/admission.rs"]
mod admission;
#[path = "conformance/dead_letters.rs"]
mod dead_letters;
#[path = "conformance/evidence.rs"]
mod evidence;
#[path = "conformance/leases.rs"]
mod leases;
#[path = "conformance/pace.rs"]
mod pace;
#[path = "conformance/replicas.rs"]
mod replicas;
#[path = "conformance/replies.rs"]
mod replies;
#[path = "conformance/turns.rs"]
mod turns;

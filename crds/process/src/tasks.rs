//! The tasks that a process cannot do without, each by its name.
//!
//! Takes futures that run until they are told to stop, gives the first one that ended before: by
//! itself, or by a panic. Never starts one again: a process whose heartbeat is dead looks well and
//! does nothing, so it ends and is started anew by whoever runs it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that run together; dropping them aborts what still runs.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<Result<(), Ended>>,
    names: HashMap<Id, String>,
}

/// A task that is over although nobody told it to stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the process cannot go on: its task \"{task}\" {how}")]
pub struct Ended {
    task: String,
    how: &'static str,
}

impl Tasks {
    /// Starts a task.
    pub fn spawn(&mut self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.supervise(name, async move {
            task.await;
            Ok(())
        });
    }

    /// Starts a task that itself cannot do without others.
    pub fn supervise(
        &mut self,
        name: &str,
        task: impl Future<Output = Result<(), Ended>> + Send + 'static,
    ) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name.to_owned());
    }

    /// Waits until `stop` says true.
    ///
    /// # Errors
    /// The first task that ended before, or that panicked.
    pub async fn until(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        let joined = tokio::select! {
            biased;
            () = stopped(stop) => return Ok(()),
            Some(joined) = self.running.join_next_with_id() => joined,
        };
        match self.named(joined) {
            // It was told so while we looked: the word came before its end.
            Ok(_) if *stop.borrow() => Ok(()),
            Ok(ended) | Err(ended) => Err(ended),
        }
    }

    /// Waits for all tasks, which were told to stop.
    ///
    /// # Errors
    /// The first one that ended otherwise.
    pub async fn finish(&mut self) -> Result<(), Ended> {
        let mut finished = Ok(());
        while let Some(joined) = self.running.join_next_with_id().await {
            if let Err(ended) = self.named(joined) {
                finished = finished.and(Err(ended));
            }
        }
        finished
    }

    /// How a task ended: by itself, which only its name tells from being told to, or as an error.
    fn named(
        &mut self,
        joined: Result<(Id, Result<(), Ended>), JoinError>,
    ) -> Result<Ended, Ended> {
        let (id, ended) = match joined {
            Ok((id, Ok(()))) => (id, None),
            Ok((_, Err(ended))) => return Err(ended),
            // What a panic says may hold a customer's text, so it is not repeated.
            Err(error) => (error.id(), Some("panicked")),
        };
        let task = self.names.remove(&id).unwrap_or_default();
        match ended {
            None => Ok(Ended { task, how: "ended by itself" }),
            Some(how) => Err(Ended { task, how }),
        }
    }
}

/// Waits for the word true; a sender that is gone says it too.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How many of one kind are alive. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Living(Arc<AtomicUsize>);

/// One that is alive until this is dropped.
#[derive(Debug)]
pub struct Alive(Arc<AtomicUsize>);

impl Living {
    /// One more, from now on.
    pub fn one(&self) -> Alive {
        self.0.fetch_add(1, Ordering::AcqRel);
        Alive(Arc::clone(&self.0))
    }

    /// How many are alive now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::watch;

    use super::{Ended, Tasks, stopped};

    /// How tasks end that nobody told to stop.
    async fn ended(tasks: &mut Tasks) -> Ended {
        let stop = watch::Sender::new(false);
        tasks.until(&mut stop.subscribe()).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_task_that_ends_by_itself_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("patient", pending());
        tasks.spawn("hasty", async {});
        let ended = ended(&mut tasks).await.to_string();
        assert_eq!(ended, "the process cannot go on: its task \"hasty\" ended by itself");
    }

    #[tokio::test]
    async fn a_task_that_panics_is_named_without_its_words() {
        let mut tasks = Tasks::default();
        tasks.spawn("clumsy", async { panic!("a customer's text") });
        let ended = ended(&mut tasks).await.to_string();
        assert_eq!(ended, "the process cannot go on: its task \"clumsy\" panicked");
    }

    #[tokio::test]
    async fn a_task_of_a_task_keeps_its_own_name() {
        let mut outer = Tasks::default();
        outer.supervise("outer", async {
            let mut inner = Tasks::default();
            inner.spawn("inner", async {});
            Err(ended(&mut inner).await)
        });
        assert!(ended(&mut outer).await.to_string().contains("\"inner\""));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_task_that_obeys_faster_than_we_hear_of_it_did_not_end_by_itself() {
        for _ in 0..2_000 {
            let stop = watch::Sender::new(false);
            let mut tasks = Tasks::default();
            for _ in 0..4 {
                let mut told = stop.subscribe();
                tasks.spawn("obedient", async move { stopped(&mut told).await });
            }
            let mut told = stop.subscribe();
            tokio::spawn(async move { stop.send_replace(true) });
            assert_eq!(tasks.until(&mut told).await, Ok(()));
            assert_eq!(tasks.finish().await, Ok(()));
        }
    }

    #[tokio::test]
    async fn told_to_stop_only_a_panic_is_an_error() {
        let mut tasks = Tasks::default();
        tasks.spawn("obedient", async {});
        assert_eq!(tasks.finish().await, Ok(()));
        tasks.spawn("obedient", async {});
        tasks.spawn("clumsy", async { panic!("x") });
        assert!(tasks.finish().await.is_err_and(|ended| ended.to_string().contains("clumsy")));
    }

    #[test]
    fn who_is_dropped_is_not_alive() {
        let living = super::Living::default();
        let (one, _two) = (living.one(), living.one());
        drop(one);
        assert_eq!(living.count(), 1);
    }
}

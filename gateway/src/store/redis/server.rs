//! The server as the verbs speak to it: a call of a script, within the deadline.
//!
//! Takes calls, gives what the script says. Decides nothing, and never logs an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{Cmd, Value, cmd};

use crate::store::error::StoreError;
use crate::store::redis::call::Call;
use crate::store::redis::connection::Connection;

/// The connection, and the clock that the scripts are told to use.
pub(super) struct Server {
    pub(super) connection: Connection,
    /// None: the server's own.
    pub(super) clock: Option<Arc<AtomicU64>>,
}

impl Server {
    /// Runs a script, once more if its connection breaks.
    pub(super) async fn call(&self, call: Call) -> Result<Value, StoreError> {
        self.run(call, true).await
    }

    /// Runs a script; `at_once` says whether also once more if its connection breaks.
    pub(super) async fn run(&self, call: Call, at_once: bool) -> Result<Value, StoreError> {
        let Call { script, keys, arguments } = call;
        let clock = self.clock.as_ref().map(|clock| clock.load(Ordering::Relaxed).to_string());
        let count = keys.rows.len() + keys.own.len();
        let texts = keys.rows.iter().chain(&keys.own).chain(&arguments);
        let mut command = Cmd::with_capacity(
            4 + count + arguments.len(),
            texts.map(String::len).sum::<usize>() + 64,
        );
        command.arg("EVALSHA").arg(script.get_hash()).arg(count).arg(keys.rows).arg(&keys.own);
        command.arg(clock.unwrap_or_default()).arg(&arguments);
        self.connection.send(&command, Some(script), at_once).await
    }

    /// Sends a command that is no script.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.connection.send(command, None, true).await
    }

    /// Connections that can be used now.
    pub(super) fn lanes_up(&self) -> usize {
        self.connection.lanes_up()
    }

    /// Whether the server answers.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.command(&cmd("PING")).await.map(drop)
    }
}

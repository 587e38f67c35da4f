//! How many files this process may have open, and so how many connections the public port takes.
//!
//! Takes the limit that the process was started with, raises it as far as it may without asking anybody,
//! and gives the connections that fit below it. A line says so when they are fewer than wanted. Never
//! fails: a limit that cannot be raised stays.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::events::{Event, emit};

/// How many connections there may be when `wanted` are.
pub fn connections(wanted: usize) -> usize {
    let Some(files) = raised() else { return wanted };
    let connections = fitting(wanted, files);
    if connections < wanted {
        emit(Event::FewFiles { files, connections: connections as u64 });
    }
    connections
}

/// Files beside the connections of the public port: those of the admin port, of turns to agents and to
/// Twilio, and of the store.
const OTHERS: u64 = 1_024;

/// The limit as it is now; none when there is no limit.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let before = current?;
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => Some(before),
    }
}

/// With a very low limit the port has half of the files.
fn fitting(wanted: usize, files: u64) -> usize {
    let left = files.saturating_sub(OTHERS).max(files / 2);
    usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn connections_leave_files_to_everything_else() {
        for (files, connections) in [
            (64, 32),
            (1_024, 512),
            (4_096, 3_072),
            (5_119, 4_095),
            (5_120, 4_096),
            (1 << 20, 4_096),
        ] {
            assert_eq!(fitting(4_096, files), connections, "{files}");
        }
    }
}

//! Child processes that never outlive us.
//!
//! Takes a command, gives a handle with its log. Each child leads a process group of its own. A
//! watchdog, one shell for the whole test process, reads a pipe that only we hold: when we end in
//! whatever way, the pipe ends, and the watchdog kills what is left and removes our folders.
//!
//! A test that is killed must not leave an API server behind. A destructor does not run then, a
//! handler cannot catch SIGKILL, and the kernel's parent-death signal follows the thread that
//! started the child, which in a test binary is one of many. The watchdog stands in a process group
//! of its own, so that Ctrl-C does not reach it before it has done its work.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// A running child and the file that its output goes to.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command with its output appended to `log` and without input.
    ///
    /// # Errors
    /// The program cannot be started, or the log cannot be written.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = append(log)?;
        let err = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        watchdog(&format!("add {}", child.id()))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// The name that it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends a signal to its process group; nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) {
        let ended = matches!(self.child.try_wait(), Ok(Some(_)));
        if let (false, Some(group)) = (ended, Pid::from_raw(self.child.id().cast_signed())) {
            // It may have ended a moment ago: then there is nothing to signal.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Kills it at once, as a power cut would, and reaps it.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Everything that it has written so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of that, for error messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let _ = watchdog(&format!("remove {}", self.child.id()));
    }
}

/// A folder that goes when it is dropped, and at the latest when we end.
///
/// # Errors
/// There is no room for temporary files.
pub fn folder(name: &str) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(&format!("kanarie-{name}-")).tempdir()?;
    watchdog(&format!("folder {}", folder.path().display()))?;
    Ok(folder)
}

fn append(log: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {}", log.display()))
}

/// Reads one order a line; acts when the pipe ends. Signals of a terminal are not for it.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT
left=' ' folders=
while read -r order value; do
	case $order in
	add) left="$left$value " ;;
	remove) left="${left%% $value *} ${left#* $value }" ;;
	folder) folders="$folders $value" ;;
	esac
done
for pid in $left; do kill -KILL "-$pid" 2>/dev/null; done
[ -z "$folders" ] || rm -rf $folders 2>/dev/null || { sleep 1; rm -rf $folders; }
"#;

fn watchdog(order: &str) -> Result<()> {
    static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| Mutex::new(None));
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    if pipe.is_none() {
        let child = Command::new("/bin/sh")
            .args(["-c", WATCHDOG])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the watchdog")?;
        *pipe = child.stdin;
    }
    let pipe = pipe.as_mut().context("the watchdog has no input")?;
    writeln!(pipe, "{order}").context("tell the watchdog")
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_killed_child_is_reaped_and_its_log_stays() {
        let folder = folder("process").unwrap();
        let log = folder.path().join("log");
        let mut child =
            Process::spawn("sh", Command::new("sh").args(["-c", "echo begun; sleep 60"]), &log)
                .unwrap();
        while child.log().is_empty() {
            std::thread::yield_now();
        }
        child.kill();
        assert!(child.ended().unwrap().is_some());
        assert_eq!(child.log(), "begun\n");
    }

    #[test]
    fn the_watchdog_kills_what_its_owner_leaves_behind() {
        let folder = folder("watchdog").unwrap();
        let mut orphan = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let mut other = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let mut shell = Command::new("/bin/sh")
            .args(["-c", WATCHDOG])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let left = folder.path().join("left");
        std::fs::create_dir(&left).unwrap();
        let mut pipe = shell.stdin.take().unwrap();
        writeln!(pipe, "add {}\nadd {}\nremove {0}", other.id(), orphan.id()).unwrap();
        writeln!(pipe, "folder {}", left.display()).unwrap();
        drop(pipe);
        assert!(!orphan.wait().unwrap().success(), "killed");
        assert!(shell.wait().unwrap().success());
        assert!(!left.exists());
        assert!(other.try_wait().unwrap().is_none(), "taken off the list");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

//! A child process that cannot outlive its test.
//!
//! Output is read by two threads into [`Journal`]s of lines. The child leads its own process group, which is killed and
//! reaped on drop; `setpriv --pdeathsig` (util-linux) covers a test process that dies without unwinding.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::eventually::eventually;
use super::journal::{Entry, Journal};

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    readers: Vec<JoinHandle<()>>,
    stdout: Journal<String>,
    stderr: Journal<String>,
}

impl Process {
    /// Starts `argv`; its standard input stays open and empty until [`Process::type_line`].
    pub fn start<S: AsRef<OsStr>>(name: &str, argv: &[S]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(argv).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let (stdout, stderr) = (Journal::default(), Journal::default());
        let readers =
            [record(child.stdout.take(), stdout.clone()), record(child.stderr.take(), stderr.clone())];
        Process { name: name.into(), child, readers: readers.into_iter().flatten().collect(), stdout, stderr }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    pub fn type_line(&mut self, line: &str) {
        let mut stdin = self.child.stdin.as_ref().expect("a pipe");
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .unwrap_or_else(|e| panic!("input of {}: {e}", self.name));
    }

    pub fn stdout(&self) -> &Journal<String> {
        &self.stdout
    }

    pub fn stderr(&self) -> &Journal<String> {
        &self.stderr
    }

    /// Waits for a line of standard error, written since the journal had `mark` entries, that contains every one
    /// of `parts`.
    #[track_caller]
    pub fn wait_log(&self, mark: usize, within: Duration, parts: &[&str]) -> Entry<String> {
        let found = self.stderr.wait_since(mark, within, |line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("{}: no line with {parts:?} within {within:?}", self.name))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal)
            .unwrap_or_else(|e| panic!("signal {signal:?} to {}: {e}", self.name));
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for it to end by itself: when, and how.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> (Instant, ExitStatus) {
        let what = format!("{} exits", self.name);
        let status = eventually(&what, within, || self.child.try_wait().ok().flatten());
        (Instant::now(), status)
    }

    /// Waits for it to end by itself with this exit code.
    #[track_caller]
    pub fn wait_code(&mut self, within: Duration, code: i32) -> Instant {
        let (at, status) = self.wait_exit(within);
        assert_eq!(
            status.code(),
            Some(code),
            "{}: exit {:?}, signal {:?}",
            self.name,
            status,
            status.signal()
        );
        at
    }
}

/// How a command that ran to its end went.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `argv` to its end.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(name: &str, argv: &[S]) -> Ran {
    let mut process = Process::start(name, argv);
    let (_, status) = process.wait_exit(Duration::from_secs(60));
    for reader in process.readers.drain(..) {
        let _ = reader.join();
    }
    let text = |journal: &Journal<String>| journal.since(0).iter().map(|e| format!("{}\n", e.what)).collect();
    Ran { code: status.code(), stdout: text(&process.stdout), stderr: text(&process.stderr) }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group outlives its leader if the leader left children behind; ESRCH when it did not.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
        if thread::panicking() {
            for (stream, journal) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
                for line in journal.since(0) {
                    eprintln!("[{} {stream}] {}", self.name, line.what);
                }
            }
        }
    }
}

/// Reads lines into `journal` on a thread of its own, until the stream ends.
fn record(stream: Option<impl Read + Send + 'static>, journal: Journal<String>) -> Option<JoinHandle<()>> {
    let stream = BufReader::new(stream?);
    Some(thread::spawn(move || stream.lines().map_while(Result::ok).for_each(|line| journal.push(line))))
}

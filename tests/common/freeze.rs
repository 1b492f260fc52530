//! Freezes single threads of a child process, as a thread that hangs in a lock or a device would look from outside.
#![allow(unsafe_code, reason = "ptrace(2) has no safe wrapper")]

use std::io;

use super::process::Process;

/// Threads that stand still until this is dropped. To be used and dropped by the thread that made it: the kernel knows
/// who traces.
#[derive(Debug)]
pub struct Frozen(Vec<libc::pid_t>);

impl Frozen {
    /// Freezes the threads of `process` whose name begins so; at least one.
    #[track_caller]
    pub fn threads(process: &Process, name: &str) -> Self {
        let tasks = format!("/proc/{}/task", process.id());
        let mut frozen = Frozen(Vec::new());
        for task in std::fs::read_dir(&tasks).expect("its threads").flatten() {
            let called = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let id = task.file_name().to_string_lossy().parse().expect("a thread id");
            if called.starts_with(name) {
                freeze(id).unwrap_or_else(|e| panic!("cannot freeze thread {id} ({}): {e}", called.trim()));
                frozen.0.push(id);
            }
        }
        assert!(!frozen.0.is_empty(), "no thread of {} is called {name}…", process.id());
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for id in &self.0 {
            // SAFETY: no memory is passed, and what became of the thread is not asked for.
            unsafe {
                if libc::ptrace(libc::PTRACE_DETACH, *id, 0, 0) < 0 {
                    // It died meanwhile, and its process is not gone before its tracer has taken note.
                    libc::waitpid(*id, std::ptr::null_mut(), libc::__WALL);
                }
            }
        }
    }
}

fn freeze(id: libc::pid_t) -> io::Result<()> {
    let check = |result: libc::c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    let mut status = 0;
    // SAFETY: none of these is passed memory but `status`, which outlives its call.
    unsafe {
        check(libc::ptrace(libc::PTRACE_SEIZE, id, 0, 0))?;
        check(libc::ptrace(libc::PTRACE_INTERRUPT, id, 0, 0))?;
        check(libc::c_long::from(libc::waitpid(id, &raw mut status, libc::__WALL)))
    }
}

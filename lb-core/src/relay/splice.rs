//! Moving bulk without copying it: socket → pipe → socket, by splice(2).
//!
//! Owns a worker's pipes and the two calls. Which direction is worth it, [`super::copy`] decides.
//!
//! EAGAIN of a splice into a pipe is ambiguous: the socket may be empty or the pipe full (of small pieces, long before it
//! is full of bytes). So a pipe is only ever filled when it is empty, and emptied before it is filled again. A pipe
//! stays with a connection only as long as it holds bytes that the destination does not take, just as a buffer
//! does; there are few of them, and whoever finds none left copies.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Result;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Pipes of a worker, two descriptors each: so many bulk streams can be held back by their readers before others copy.
pub(crate) const PIPES: usize = 16;

/// What a pipe holds at most, if the kernel allows it (pipe(7), `pipe-user-pages-soft`). Fewer, larger moves save calls.
const CAPACITY: usize = 1 << 20;

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

#[derive(Debug)]
pub(crate) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in it.
    held: usize,
    /// Counts it among the worker's.
    _permit: Arc<()>,
}

impl Pipe {
    /// Fills it from a socket; 0 is the end of the stream. It has to be empty.
    pub(super) fn fill(&mut self, socket: &OwnedFd) -> Result<usize> {
        let moved = splice(socket, None, &self.writer, None, CAPACITY, FLAGS)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what it holds into a socket, as much as the kernel takes.
    pub(super) fn drain(&mut self, socket: &OwnedFd) -> Result<usize> {
        let moved = splice(&self.reader, None, socket, None, self.held, FLAGS)?;
        self.held -= moved;
        Ok(moved)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held
    }
}

/// A worker's pipes that no connection holds.
#[derive(Debug)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    permit: Arc<()>,
    /// Fewer than [`PIPES`] once the host did not give another.
    most: usize,
}

impl Pipes {
    pub(super) fn new() -> Self {
        Pipes { free: Vec::new(), permit: Arc::new(()), most: PIPES }
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Pipes { most: 0, ..Pipes::new() }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// An empty one; `None`: bytes have to be copied.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        let made = Arc::strong_count(&self.permit) - 1;
        if made >= self.most {
            return None;
        }
        match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok((reader, writer)) => {
                // Where it is refused, a smaller one serves.
                let _ = fcntl_setpipe_size(&writer, CAPACITY);
                Some(Pipe { reader, writer, held: 0, _permit: self.permit.clone() })
            }
            Err(_) => {
                self.most = made;
                None
            }
        }
    }

    /// A pipe that still holds bytes is closed.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        if pipe.is_empty() {
            self.free.push(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_and_one_that_is_closed_gives_its_place_free() {
        let mut pipes = Pipes::new();
        let mut taken: Vec<_> = (0..PIPES).map(|_| pipes.take().unwrap()).collect();
        assert!(pipes.take().is_none());
        drop(taken.pop());
        assert!(pipes.take().is_some(), "a new one");
        pipes.give_back(taken.pop().unwrap());
        assert_eq!(pipes.free.len(), 1);
        assert!(pipes.take().is_some(), "the same again");
    }

    #[test]
    fn a_pipe_that_holds_bytes_is_not_used_again() {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut far, b"left over").unwrap();
        let mut pipes = Pipes::new();
        let mut pipe = pipes.take().unwrap();
        assert_eq!(pipe.fill(&near.into()), Ok(9));
        pipes.give_back(pipe);
        assert!(pipes.free.is_empty());
    }
}

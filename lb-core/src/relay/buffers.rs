//! A worker's relay buffers: one in use, and spare ones for when it is put aside with what a slow reader did not take.
//! And its pipes, of which the same holds.

use super::splice::Pipes;
use crate::tls::Scratch;

/// Bytes moved by one read and write.
pub(crate) const BUFFER: usize = 64 * 1024;
/// Buffers kept for the next slow reader.
const SPARE: usize = 16;

#[derive(Debug)]
pub(crate) struct Buffers {
    pub(super) current: Box<[u8]>,
    pub(super) spare: Vec<Box<[u8]>>,
    /// For what is not copied.
    pub(super) pipes: Pipes,
    /// Not there before it is needed.
    scratch: Option<Box<Scratch>>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Buffers { current: new_buffer(), spare: Vec::new(), pipes: Pipes::new(), scratch: None }
    }

    /// The buffer that whoever has the turn reads into and writes from. Nothing in it outlasts the turn.
    pub(crate) fn current(&mut self) -> &mut [u8] {
        &mut self.current
    }

    /// The same buffer, and what a relay that encrypts needs besides.
    pub(crate) fn secure(&mut self) -> (&mut [u8], &mut Scratch) {
        (&mut self.current, self.scratch.get_or_insert_default())
    }

    /// Puts the current buffer aside with what is in it.
    pub(super) fn take(&mut self) -> Box<[u8]> {
        let next = self.spare.pop().unwrap_or_else(new_buffer);
        std::mem::replace(&mut self.current, next)
    }

    pub(super) fn give_back(&mut self, buffer: Box<[u8]>) {
        if self.spare.len() < SPARE && buffer.len() == self.current.len() {
            self.spare.push(buffer);
        }
    }
}

fn new_buffer() -> Box<[u8]> {
    vec![0; BUFFER].into_boxed_slice()
}

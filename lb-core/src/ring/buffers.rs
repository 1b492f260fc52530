//! The buffers that the kernel receives into: it takes one only when something has come, so that an idle connection has none.
//!
//! A buffer is the kernel's until an answer names it, then its [`Chunk`]'s, until that is given back.
#![allow(
    unsafe_code,
    reason = "the kernel writes into this memory; who may touch which part of it when is said above"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering::Release};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// Names them towards the kernel.
pub(super) const GROUP: u16 = 0;
/// Octets in one.
pub(crate) const SIZE: usize = 16 * 1024;
/// How many, a power of two. Each is out for one turn at most, so more would only spread over more of the cache.
const COUNT: u16 = 128;

const PAGE: usize = 4096;

/// What was received at once. It has to be given back: [`Provided::give_back`].
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost"]
pub(crate) struct Chunk {
    id: u16,
    length: u16,
    /// The number under which it is being sent.
    pub(super) number: u32,
}

impl Chunk {
    pub(crate) fn length(&self) -> usize {
        usize::from(self.length)
    }

    #[cfg(test)]
    pub(crate) fn of(length: u16) -> Self {
        Chunk { id: 0, length, number: 0 }
    }

    /// Whether this number is the one under which it is being sent.
    pub(crate) fn is_sent_as(&self, number: u32) -> bool {
        self.number == number
    }
}

pub(super) struct Provided {
    /// The queue in which buffers are handed to the kernel.
    entries: Memory,
    bytes: Memory,
    /// Where the next one goes.
    tail: u16,
}

impl Provided {
    /// Hands all of them to the kernel. They have to outlive its ring, which is dropped first where both are fields.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Self> {
        let entries = Memory::new(usize::from(COUNT) * size_of::<BufRingEntry>());
        let bytes = Memory::new(usize::from(COUNT) * SIZE);
        // SAFETY: it has room for COUNT entries, begins at a page, and is not freed before the ring is gone.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.start.as_ptr() as u64, COUNT, GROUP, 0)?;
        }
        let mut provided = Provided { entries, bytes, tail: 0 };
        (0..COUNT).for_each(|id| provided.put(id));
        provided.publish();
        Ok(provided)
    }

    /// The buffer that an answer of the kernel names.
    pub(super) fn chunk(&self, id: u16, length: u32) -> Chunk {
        Chunk { id: id % COUNT, length: (length as usize).min(SIZE) as u16, number: 0 }
    }

    pub(super) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        // SAFETY: a chunk stands for a buffer that the kernel has filled so far and given away.
        unsafe {
            let start = self.bytes.start.as_ptr().add(usize::from(chunk.id) * SIZE);
            std::slice::from_raw_parts(start, chunk.length())
        }
    }

    pub(super) fn give_back(&mut self, chunk: Chunk) {
        self.put(chunk.id);
    }

    fn put(&mut self, id: u16) {
        let slot = usize::from(self.tail % COUNT);
        // SAFETY: `slot` is below COUNT, for which there is room, aligned as a page is; the kernel reads an entry only once the
        // tail has passed it.
        unsafe {
            let entry = &mut *self.entries.start.as_ptr().cast::<BufRingEntry>().add(slot);
            entry.set_addr(self.bytes.start.as_ptr().add(usize::from(id) * SIZE) as u64);
            entry.set_len(SIZE as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// The kernel may use what was given back.
    pub(super) fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry, which is there, is aligned for it, and is only ever stored to here.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.start.as_ptr().cast());
            AtomicU16::from_ptr(tail.cast_mut()).store(self.tail, Release);
        }
    }
}

/// Whole pages of zeros, which cost nothing before they are touched.
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it is memory that has one owner.
unsafe impl Send for Memory {}

impl Memory {
    fn new(size: usize) -> Self {
        // SAFETY: PAGE is a power of two, and the sizes above are far below the limit.
        let layout = unsafe { Layout::from_size_align_unchecked(size.next_multiple_of(PAGE), PAGE) };
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        Memory { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated so.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

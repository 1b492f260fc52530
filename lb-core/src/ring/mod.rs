//! A worker's io_uring: what is read, written and waited for without a system call of its own.
//!
//! Owns the two queues it shares with the kernel and the buffers that the kernel reads into. It knows sockets ([`End`]) and
//! where they belong ([`Place`]); what an answer means, its caller decides.
//!
//! Rules, on which memory safety and the right bytes depend:
//!
//! - *A socket has one open question at a time* (to receive, or whether it is connected), noted in its [`Flight`] by number. An
//!   answer with another number is for what is gone already.
//! - *Something sent is sent when the queue is handed over*: it is asked for with `MSG_DONTWAIT`, so no answer is ever
//!   outstanding after [`Ring::turn`], and a buffer is lent for no longer.
//! - *The kernel keeps a socket open while a question about it is*: [`Ring::forget`] comes before a socket is closed.
//! - *The queue names descriptors by number*: none is closed while it stands in what has not been handed over.
#![allow(
    unsafe_code,
    reason = "entries of the queue name memory and descriptors; the rules above are why they hold"
)]

mod buffers;
mod operation;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use crate::relay::End;
pub(crate) use buffers::Chunk;
use buffers::{GROUP, Provided};
pub(crate) use operation::{Operation, Place};

/// Questions that can be handed over at once; the kernel has room for four times as many answers.
const ENTRIES: u32 = 1024;

/// While the kernel has no memory to take the queue: how often it is tried, and the pause before the next time. Longer than it takes until a thread that
/// stands still withdraws its VIPs.
const TRIES: usize = 5000;
const BREATH: Duration = Duration::from_millis(1);

/// What a socket has to do with a ring.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Flight {
    question: Option<Operation>,
    /// When an entry that names the socket was queued last.
    queued_in: u64,
}

impl Flight {
    /// Whether the kernel has, or is about to be given, a question about it.
    pub(crate) fn is_open(&self) -> bool {
        self.question.is_some()
    }

    /// Takes an answer in; false: it is not one to the open question.
    pub(crate) fn land(&mut self, operation: Operation) -> bool {
        self.question.take_if(|open| *open == operation).is_some()
    }
}

/// Whether a socket is read at once, or only when the kernel has been told that something came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    Now,
    OnceReadable,
}

/// One answer of the kernel.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) operation: Operation,
    /// A number of octets, or what a poll has seen.
    pub(crate) result: Result<u32, Errno>,
    /// What was received.
    pub(crate) chunk: Option<Chunk>,
    /// More can be received at once.
    pub(crate) receive: Receive,
    /// The question is answered for good.
    pub(crate) last: bool,
}

pub(crate) struct Ring {
    ring: IoUring,
    buffers: Provided,
    /// Numbers questions.
    number: u32,
    /// How often the queue was handed over.
    handed_over: u64,
    /// What was asked and not answered yet, but for the event queue.
    outstanding: usize,
}

impl Ring {
    /// Fails where the kernel has none, is too old for this one (6.1), or its administrator forbids it. Whoever makes it is the only one who may use it.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(4 * ENTRIES)
            .build(ENTRIES)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let buffers = Provided::register(&ring.submitter())?;
        let mut ring = Ring { ring, buffers, number: 0, handed_over: 1, outstanding: 0 };
        // To have a ring is not to be permitted to use it.
        ring.turn(Duration::ZERO)?;
        Ok(ring)
    }

    /// Tells with [`Operation::Poll`] that something has become readable, until an answer is the last.
    pub(crate) fn watch(&mut self, source: impl AsFd) {
        let fd = Fd(source.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.push(entry.user_data(Operation::Poll.encode()));
        self.outstanding -= 1;
    }

    /// Whether it has nothing to tell but of the event queue.
    pub(crate) fn is_idle(&self) -> bool {
        self.outstanding == 0
    }

    /// Asks whether a socket that is connecting has been connected, or not.
    pub(crate) fn connect(&mut self, end: &mut End, place: Place) {
        let entry = opcode::PollAdd::new(Fd(end.socket.as_raw_fd()), libc::POLLOUT as u32).build();
        self.ask(end, entry, |number| Operation::Connect(place, number));
    }

    /// Asks for what comes in, once.
    pub(crate) fn receive(&mut self, end: &mut End, place: Place, when: Receive) {
        // include/uapi/linux/io_uring.h: IORING_RECVSEND_POLL_FIRST.
        const POLL_FIRST: u16 = 1;
        let ioprio = if when == Receive::OnceReadable { POLL_FIRST } else { 0 };
        let fd = Fd(end.socket.as_raw_fd());
        let entry = opcode::Recv::new(fd, std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .ioprio(ioprio)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.ask(end, entry, |number| Operation::Receive(place, number));
    }

    fn ask(&mut self, end: &mut End, entry: squeue::Entry, operation: impl FnOnce(u32) -> Operation) {
        let operation = operation(self.next_number());
        self.push(entry.user_data(operation.encode()));
        end.flight = Flight { question: Some(operation), queued_in: self.handed_over };
    }

    fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// Sends what is in `chunk`, as much as the socket takes at once. The chunk has to live until the answer is here.
    pub(crate) fn send(&mut self, end: &mut End, place: Place, chunk: &mut Chunk) {
        chunk.number = self.next_number();
        let bytes = self.buffers.bytes(chunk);
        let entry = opcode::Send::new(Fd(end.socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build();
        end.flight.queued_in = self.handed_over;
        self.push(entry.user_data(Operation::Send(place, chunk.number).encode()));
    }

    /// Takes the open question back: its answer comes all the same, with what it got or with `CANCELED`.
    pub(crate) fn cancel(&mut self, end: &End) {
        let Some(question) = end.flight.question else { return };
        self.push(opcode::AsyncCancel::new(question.encode()).build().user_data(Operation::Cancel.encode()));
    }

    /// The socket is about to be closed: nothing that is still queued names it, and the kernel lets it go with the next
    /// turn.
    pub(crate) fn forget(&mut self, end: &mut End) {
        if end.flight.queued_in == self.handed_over {
            self.hand_over();
        }
        self.cancel(end);
        end.flight.question = None;
    }

    /// Hands over what is queued, and waits for an answer, at most `patience`. It fails for want of memory, without waiting; another turn may find
    /// some.
    pub(crate) fn turn(&mut self, patience: Duration) -> io::Result<()> {
        self.buffers.publish();
        self.handed_over += 1;
        let timeout = Timespec::from(patience);
        let submitter = self.ring.submitter();
        let want = usize::from(!patience.is_zero());
        match submitter.submit_with_args(want, &SubmitArgs::new().timespec(&timeout)) {
            // BUSY: answers have to be taken first.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {
                Err(error)
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Takes the answers that are there.
    pub(crate) fn take(&mut self, completions: &mut Vec<Completion>) {
        for entry in self.ring.completion() {
            let result = entry.result();
            let flags = entry.flags();
            let length = u32::try_from(result).map_err(|_| Errno::from_raw_os_error(-result));
            let operation = Operation::decode(entry.user_data());
            if operation != Operation::Poll {
                self.outstanding = self.outstanding.saturating_sub(1);
            }
            completions.push(Completion {
                operation,
                result: length,
                chunk: cqueue::buffer_select(flags).map(|id| self.buffers.chunk(id, length.unwrap_or(0))),
                receive: if cqueue::sock_nonempty(flags) { Receive::Now } else { Receive::OnceReadable },
                last: !cqueue::more(flags),
            });
        }
    }

    /// What is in a chunk.
    pub(crate) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        self.buffers.bytes(chunk)
    }

    pub(crate) fn give_back(&mut self, chunk: Chunk) {
        self.buffers.give_back(chunk);
    }

    /// Hands over what is queued, and does not wait.
    fn hand_over(&mut self) {
        self.buffers.publish();
        self.handed_over += 1;
        // The kernel takes part of it only when it is out of memory. To wait for some is to stand still, of which the plane's
        // heartbeat tells; to go on would be to close what the queue still names.
        for _ in 0..TRIES {
            let _ = self.ring.submit();
            if self.ring.submission().is_empty() {
                return;
            }
            std::thread::park_timeout(BREATH);
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.outstanding += 1;
        // SAFETY: the descriptor is open, and stays open until the entry was handed over (`forget`). What a Send names is a
        // buffer that is lent until its answer is here; a receive names none of ours, but the group of `Provided`, which lives
        // as long as the ring.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.hand_over();
        }
    }
}

/// What a poll has seen, in the words of epoll, whose bits are the same.
pub(crate) fn seen(result: u32) -> EventFlags {
    EventFlags::from_bits_truncate(result)
}

#[cfg(test)]
mod tests;

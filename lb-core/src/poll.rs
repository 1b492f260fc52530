//! The kernel's event queue of one worker, and what its events are about.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Result;
use rustix::time::Timespec;

use crate::relay::Side;
use crate::slab::Key;

/// What an event is about. Keys go stale, so an event for what is already closed is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Wake,
    Listener(Key),
    End(Key, Side),
}

impl Token {
    fn encode(self) -> EventData {
        let (kind, key) = match self {
            Token::Wake => (0, Key { index: 0, generation: 0 }),
            Token::Listener(key) => (1, key),
            Token::End(key, Side::Client) => (2, key),
            Token::End(key, Side::Backend) => (3, key),
        };
        EventData::new_u64(kind << 62 | u64::from(key.generation) << 32 | u64::from(key.index))
    }

    fn decode(data: EventData) -> Self {
        let data = data.u64();
        let key = Key { index: data as u32, generation: (data >> 32) as u32 & 0x3FFF_FFFF };
        match data >> 62 {
            0 => Token::Wake,
            1 => Token::Listener(key),
            2 => Token::End(key, Side::Client),
            _ => Token::End(key, Side::Backend),
        }
    }
}

/// What a relayed socket is watched for, each change once. Urgent data too: a read stops short at it.
const READS: EventFlags =
    EventFlags::ET.union(EventFlags::IN).union(EventFlags::RDHUP).union(EventFlags::PRI);

/// What the loop wants to know of a relayed socket. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watch {
    /// Only that the connection is gone, of which the kernel tells unasked, or that its peer has ended its stream.
    Gone,
    Reads,
    ReadsAndWrites,
}

impl Watch {
    fn flags(self) -> EventFlags {
        match self {
            Watch::Gone => EventFlags::ET.union(EventFlags::RDHUP),
            Watch::Reads => READS,
            Watch::ReadsAndWrites => READS | EventFlags::OUT,
        }
    }
}

/// Events taken from the kernel at once.
const BATCH: usize = 256;

#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        Ok(Poll { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches a relayed socket until it is closed.
    pub(crate) fn add(&self, socket: impl AsFd, token: Token, watch: Watch) -> Result<()> {
        epoll::add(&self.epoll, socket, token.encode(), watch.flags())
    }

    /// Watches it for something else. What is already the case is reported again.
    pub(crate) fn watch(&self, socket: impl AsFd, token: Token, watch: Watch) -> Result<()> {
        epoll::modify(&self.epoll, socket, token.encode(), watch.flags())
    }

    /// Watches something that is reported for as long as it is readable.
    pub(crate) fn add_level(&self, source: impl AsFd, token: Token) -> Result<()> {
        epoll::add(&self.epoll, source, token.encode(), EventFlags::IN)
    }

    pub(crate) fn remove(&self, source: impl AsFd) -> Result<()> {
        epoll::delete(&self.epoll, source)
    }

    /// Waits for events, at most `patience`. An interrupted wait has no events.
    pub(crate) fn wait(&self, events: &mut Events, patience: Duration) {
        events.0.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events.0), Some(&timeout));
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Ends the wait of a worker from another thread.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> Result<Self> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Wake)
    }

    pub(crate) fn signal(&self) {
        // It can only fail when it is signalled more often than it can count, and then it is signalled.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn drain(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Room for one batch of events.
pub(crate) struct Events(Vec<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Events(Vec::with_capacity(BATCH))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, EventFlags)> + '_ {
        self.0.iter().map(|event| (Token::decode(event.data), event.flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let key = Key { index: u32::MAX, generation: (1 << 30) - 1 };
        for token in
            [Token::Wake, Token::Listener(key), Token::End(key, Side::Client), Token::End(key, Side::Backend)]
        {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}

//! One of the two sockets of a connection, and what is known of its readiness.
//!
//! Events come edge-triggered, so what is known of a socket is kept in flags: `readable` and `writable` hold until the
//! kernel says otherwise. Every kind of relay reads and writes through here, so that none can forget to take down what
//! a call has told.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::splice::Pipe;
use crate::ring::Flight;
use crate::socket;
use crate::wheel::Tick;

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) socket: OwnedFd,
    /// When bytes last went in or out, or were first waited for.
    pub(crate) touched: Tick,
    /// What the worker's ring has been asked about it.
    pub(crate) flight: Flight,
    pub(super) readable: bool,
    pub(crate) writable: bool,
    /// The peer's FIN is here, so a short read has come to the end.
    fin: bool,
    /// A short read does not prove that nothing is left: an error or urgent data may follow.
    more: bool,
    /// The kernel reported an error.
    error: bool,
    /// Everything the peer sent has been read, and its FIN.
    pub(crate) eof: bool,
    /// A write failed. What the peer sent before is still read and delivered.
    pub(crate) broken: bool,
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// So many, at least one.
    Bytes(usize),
    /// Nothing until the kernel reports something.
    Waiting,
    /// The stream has ended well.
    Finished,
    /// The connection is gone.
    Broken,
}

impl End {
    /// A socket of which nothing is known: the first read and write will tell.
    pub(crate) fn new(socket: OwnedFd, now: Tick) -> Self {
        End {
            socket,
            touched: now,
            flight: Flight::default(),
            readable: true,
            writable: true,
            fin: false,
            more: false,
            error: false,
            eof: false,
            broken: false,
        }
    }

    /// Takes in what the kernel reported.
    pub(crate) fn note(&mut self, flags: EventFlags) {
        const MORE: EventFlags = EventFlags::HUP.union(EventFlags::ERR).union(EventFlags::PRI);
        self.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
        self.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | MORE);
        self.fin |= flags.contains(EventFlags::RDHUP);
        self.more |= flags.intersects(MORE);
        self.error |= flags.contains(EventFlags::ERR);
    }

    /// Whether the peer's FIN is known to be here.
    pub(crate) fn has_fin(&self) -> bool {
        self.fin
    }

    /// Whether the kernel reported that its connection is gone.
    pub(crate) fn has_failed(&self) -> bool {
        self.error
    }

    /// The socket is connected, and the kernel reported `flags` of it: all that there is to know, as nobody has read
    /// yet.
    pub(crate) fn connected(&mut self, flags: EventFlags, now: Tick) {
        self.touched = now;
        self.readable = false;
        self.note(flags);
    }

    /// The ring is done with it: what there is to know of it is found out anew.
    pub(super) fn landed(&mut self) {
        self.readable = true;
        self.writable = true;
    }

    /// Reads what is there, unless it is known that nothing is.
    pub(crate) fn read(&mut self, buffer: &mut [u8], now: Tick) -> Read {
        if self.eof {
            return self.ended();
        }
        if !self.readable {
            return Read::Waiting;
        }
        loop {
            match socket::receive(&self.socket, buffer) {
                Ok(0) => {
                    self.eof = true;
                    return self.ended();
                }
                Ok(read) => {
                    self.touched = now;
                    if read < buffer.len() && !self.more {
                        self.readable = false;
                        self.eof = self.fin;
                    }
                    return Read::Bytes(read);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !self.broken => {
                    self.readable = false;
                    self.more = false;
                    return Read::Waiting;
                }
                Err(_) => return Read::Broken,
            }
        }
    }

    /// Whether a write has failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether a write may be tried.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable && !self.broken
    }

    /// Whether what there is to read may be spliced: urgent data would stop it for good, and errors are told by reads.
    pub(super) fn may_splice(&self) -> bool {
        !self.more && !self.broken
    }

    /// Like [`End::read`], into an empty pipe. Only EAGAIN tells that there is no more.
    pub(super) fn splice_into(&mut self, pipe: &mut Pipe, now: Tick) -> Read {
        if self.eof {
            return self.ended();
        }
        if !self.readable {
            return Read::Waiting;
        }
        loop {
            match pipe.fill(&self.socket) {
                Ok(0) => {
                    self.eof = true;
                    return self.ended();
                }
                Ok(moved) => {
                    self.touched = now;
                    return Read::Bytes(moved);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Read::Waiting;
                }
                Err(_) => return Read::Broken,
            }
        }
    }

    /// Like [`End::write`], from a pipe. Returns how much was taken.
    pub(super) fn splice_from(&mut self, pipe: &mut Pipe, now: Tick) -> usize {
        let mut taken = 0;
        // A part that was taken does not tell that the socket is full.
        while !pipe.is_empty() {
            match pipe.drain(&self.socket) {
                Ok(moved) => {
                    self.touched = now;
                    taken += moved;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.writable = false;
                    break;
                }
                Err(_) => {
                    self.broken();
                    break;
                }
            }
        }
        taken
    }

    /// What to make of the end of what this side sent.
    pub(super) fn ended(&mut self) -> Read {
        // After a FIN reading never shows an error, so it has to be asked for.
        if std::mem::take(&mut self.error) && socket::outcome(&self.socket).is_err() {
            self.broken = true;
        }
        if self.broken { Read::Broken } else { Read::Finished }
    }

    /// Writes, and returns how much was taken. Less than everything: full for now, or broken.
    pub(crate) fn write(&mut self, bytes: &[u8], now: Tick) -> usize {
        loop {
            match socket::send(&self.socket, bytes) {
                Ok(taken) => {
                    self.touched = now;
                    self.writable = taken == bytes.len();
                    return taken;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.writable = false;
                    return 0;
                }
                Err(_) => {
                    self.broken();
                    return 0;
                }
            }
        }
    }

    /// A write failed: reads what came before the reset, then the end.
    pub(super) fn broken(&mut self) {
        self.broken = true;
        self.readable = true;
        self.more = true;
    }
}

//! The one thread of all BFD sessions, and the handle to it.
//!
//! A thread of its own at real-time priority, where that is permitted, so that packets leave on time while every core is
//! busy relaying. In: the desired sessions over a `watch` (the last value wins) with an eventfd to wake it, and UDP. Out: a
//! [`super::BfdStatus`] per session over its `watch`. It never waits for anybody else, and what the network sends makes it
//! neither allocate nor run on without a pause.
#![allow(clippy::disallowed_methods, reason = "this driver owns the clock of BFD")]

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::watch;

use super::demux::{self, Neighbor};
use super::packet::Discard;
use super::session::{Receiver, Session, SessionConfig};
use super::status::Discards;
use super::sys;

/// Datagrams taken from a socket in one turn: more than its buffer holds of ones this small.
const BUDGET: usize = 1024;
/// How long a socket that had more than that is left alone.
const BREATH: Duration = Duration::from_millis(1);
/// Before a thread that died is made again.
const RESTART: Duration = Duration::from_secs(1);
/// Longer than any packet we read; what is cut off is not looked at.
const BUFFER: usize = 256;

/// What should be.
#[derive(Debug, Clone, Default)]
struct Desired {
    sessions: Vec<SessionConfig>,
    /// All AdminDown.
    held_down: bool,
    /// The handle is gone.
    is_over: bool,
}

/// The running thread. When dropped, it says AdminDown and ends.
#[derive(Debug)]
pub(crate) struct Bfd {
    desired: watch::Sender<Desired>,
    wake: Arc<OwnedFd>,
}

impl Bfd {
    pub(crate) fn start() -> io::Result<Bfd> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (desired, receiver) = watch::channel(Desired::default());
        let thread = std::thread::Builder::new().name("bfd".to_owned());
        thread.spawn({
            let wake = Arc::clone(&wake);
            move || run(&receiver, &wake)
        })?;
        Ok(Bfd { desired, wake })
    }

    /// Exactly these sessions from now on. One that stays keeps its state, and takes changed timers over by a Poll
    /// Sequence.
    pub(crate) fn apply(&self, sessions: Vec<SessionConfig>) {
        self.change(|desired| desired.sessions = sessions);
    }

    /// Says AdminDown on every session, for good.
    pub(crate) fn hold_down(&self) {
        self.change(|desired| desired.held_down = true);
    }

    fn change(&self, change: impl FnOnce(&mut Desired)) {
        self.desired.send_modify(change);
        // An error: the counter is full, so the thread is about to look anyway.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Bfd {
    fn drop(&mut self) {
        self.change(|desired| desired.is_over = true);
    }
}

fn run(desired: &watch::Receiver<Desired>, wake: &OwnedFd) {
    let real_time = match sys::run_in_real_time() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "BFD runs at normal priority: real-time priority needs CAP_SYS_NICE or LimitRTPRIO");
            false
        }
    };
    loop {
        let mut driver = Driver::new(desired.clone(), wake, real_time);
        match catch_unwind(AssertUnwindSafe(|| driver.run())) {
            Ok(()) => return,
            Err(panic) => tracing::error!(text = panic_text(&*panic), "the BFD thread died"),
        }
        let _ = poll(&mut [], timespec(RESTART).as_ref());
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

struct Driver<'a> {
    desired: watch::Receiver<Desired>,
    wake: &'a OwnedFd,
    real_time: bool,
    sessions: Vec<Session>,
    receivers: Vec<Rc<Receiver>>,
    discarded: Discards,
    /// Discriminators and source ports that nobody can foretell.
    entropy: RandomState,
    drawn: u64,
}

impl<'a> Driver<'a> {
    fn new(mut desired: watch::Receiver<Desired>, wake: &'a OwnedFd, real_time: bool) -> Self {
        desired.mark_changed();
        Driver {
            desired,
            wake,
            real_time,
            sessions: Vec::new(),
            receivers: Vec::new(),
            discarded: Discards::default(),
            entropy: RandomState::new(),
            drawn: 0,
        }
    }

    /// Until the handle is gone.
    fn run(&mut self) {
        loop {
            if self.desired.has_changed().unwrap_or(true) {
                let desired = self.desired.borrow_and_update().clone();
                let is_over = desired.is_over;
                self.follow(desired, Instant::now());
                if is_over {
                    return;
                }
            }
            // What has arrived comes before what has expired. Where we were frozen or starved, the neighbor's packets
            // have waited in the socket's buffer meanwhile: a neighbor that kept sending is not dead, and one that has
            // missed us says so there, which is a better reason than silence.
            let is_flooded = self.receive();
            let now = Instant::now();
            for session in &mut self.sessions {
                session.machine.handle_timeout(now);
                session.serve(&mut self.receivers, &self.discarded, now);
            }
            self.sessions.retain(|session| !session.has_left(now));
            self.receivers.retain(|receiver| Rc::strong_count(receiver) > 1);
            self.wait(is_flooded, now);
        }
    }

    fn follow(&mut self, desired: Desired, now: Instant) {
        for session in &mut self.sessions {
            if !desired.sessions.iter().any(|config| config.path.neighbor == session.path.neighbor) {
                session.leave(now);
            }
        }
        for config in desired.sessions {
            let known =
                self.sessions.iter().position(|session| session.path.neighbor == config.path.neighbor);
            match known.and_then(|position| self.sessions.get_mut(position)) {
                Some(session) if session.path == config.path => session.configure(config, now),
                // Another way to the same neighbor is another session; the old one says goodbye, once.
                Some(session) => {
                    session.machine.disable(now);
                    session.serve(&mut self.receivers, &self.discarded, now);
                    self.sessions.retain(|session| session.path.neighbor != config.path.neighbor);
                    self.begin(config, now);
                }
                None => self.begin(config, now),
            }
        }
        for session in &mut self.sessions {
            if desired.held_down || desired.is_over {
                session.machine.disable(now);
            } else if !session.is_leaving() {
                session.machine.enable(now);
            }
            session.serve(&mut self.receivers, &self.discarded, now);
        }
    }

    fn begin(&mut self, config: SessionConfig, now: Instant) {
        let (discriminator, arbitrary) = (self.discriminator(), self.draw());
        self.sessions.push(Session::new(config, discriminator, arbitrary, self.real_time, now));
    }

    /// Takes what has arrived, at most [`BUDGET`] a socket; whether there may be more.
    fn receive(&mut self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut has_more = false;
        for position in 0..self.receivers.len() {
            let Some(receiver) = self.receivers.get(position).map(Rc::clone) else { break };
            let mut left = BUDGET;
            while left > 0 {
                left -= 1;
                match sys::receive(&receiver.socket, &mut buffer) {
                    Ok(datagram) => self.received(&datagram, receiver.multihop),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::debug!(%error, "cannot receive BFD packets");
                        break;
                    }
                }
            }
            has_more |= left == 0;
        }
        has_more
    }

    fn received(&mut self, datagram: &sys::Datagram<'_>, multihop: bool) {
        let scope = match datagram.from {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(from) => from.scope_id(),
        };
        let from = Neighbor { address: datagram.from.ip(), scope, multihop };
        let known = self.sessions.iter().map(Session::identity);
        match demux::select(datagram.payload, from, datagram.hop_limit, known) {
            Ok((position, packet)) => {
                let now = Instant::now();
                if let Some(session) = self.sessions.get_mut(position) {
                    session.received(&packet, now);
                    session.serve(&mut self.receivers, &self.discarded, now);
                }
            }
            Err(discard) => {
                tracing::trace!(from = %datagram.from, %discard, "a BFD packet is discarded");
                *match discard {
                    Discard::HopLimit => &mut self.discarded.hop_limit,
                    Discard::UnknownNeighbor | Discard::UnknownSession => &mut self.discarded.unknown,
                    Discard::Version
                    | Discard::Length
                    | Discard::Truncated
                    | Discard::DetectMult
                    | Discard::Multipoint
                    | Discard::MyDiscriminator
                    | Discard::YourDiscriminator
                    | Discard::Authentication => &mut self.discarded.invalid,
                } += 1;
            }
        }
    }

    /// Until the next timer, a change of what is desired, or a packet. A flood is not looked at for a moment, so that the
    /// highest priority on the host does not become all of it.
    fn wait(&self, is_flooded: bool, now: Instant) {
        let next = self.sessions.iter().map(Session::poll_timeout).min();
        let mut timeout = next.map(|at| at.saturating_duration_since(now));
        let mut sources = vec![PollFd::new(self.wake, PollFlags::IN)];
        if is_flooded {
            timeout = Some(timeout.map_or(BREATH, |timeout| timeout.min(BREATH)));
        } else {
            sources
                .extend(self.receivers.iter().map(|receiver| PollFd::new(&receiver.socket, PollFlags::IN)));
        }
        let timeout = timeout.and_then(timespec);
        // An error is an interruption, and what is due is looked at either way.
        if poll(&mut sources, timeout.as_ref()).is_ok() {
            let _ = rustix::io::read(self.wake, &mut [0u8; 8]);
        }
    }

    /// One that no session here has.
    fn discriminator(&mut self) -> NonZeroU32 {
        loop {
            let drawn = NonZeroU32::new((self.draw() >> 32) as u32);
            let is_free =
                |drawn: &NonZeroU32| self.sessions.iter().all(|s| s.machine.discriminator() != *drawn);
            if let Some(free) = drawn.filter(is_free) {
                return free;
            }
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.entropy.hash_one(self.drawn)
    }
}

fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration).ok()
}

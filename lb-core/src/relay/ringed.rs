//! The relay of small pieces by the worker's io_uring: what one side sent is in a buffer when the worker hears of it, and goes
//! to the other side with the next turn; no system call is made for one connection alone.
//!
//! It is for the usual case only, in which a piece is small and taken whole. Whatever else happens (a socket that takes no more,
//! one that broke, bulk), the connection *leaves*: the ring's open questions are taken back, what was received
//! meanwhile is kept in order, and [`super::copy`] goes on with it, which knows all cases. So this file has few.
//!
//! A source is asked for more when its last piece has been queued for the other side, and what is queued is sent before it is
//! asked: at most two pieces of a direction are held.

use rustix::io::Errno;

use super::copy::{BULK, Begun, LARGE, Plain};
use super::{Delivered, End, Side};
use crate::ring::Chunk;
use crate::wheel::Tick;

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Bytes delivered to the destination's kernel.
    bytes: u64,
    /// What is being sent.
    sending: Option<Chunk>,
    /// What was received and could not be sent, when it leaves.
    kept: Vec<u8>,
    /// How many of the last pieces were large.
    large: u8,
    /// The source ended, and that was passed on.
    finished: bool,
}

/// Both directions.
#[derive(Debug, Default)]
pub(crate) struct Ringed {
    /// Client to backend.
    up: Flow,
    /// Backend to client.
    down: Flow,
    leaving: bool,
}

/// What is to be done after an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Wait,
    /// Ask the source for more.
    Receive,
    /// Send what was received to the other side, then ask the source for more.
    Relay,
    /// The source has ended: tell the destination.
    Finish,
    /// Both have.
    Complete,
    /// The source's connection is gone.
    Broken,
    /// Go on with [`super::copy`] once the ring has no question about either side.
    Leave,
}

impl Ringed {
    /// What `source`, which is on this side, sent. Gives the chunk back where nobody needs it any more.
    pub(crate) fn received(
        &mut self,
        from: Side,
        source: &mut End,
        (chunk, bytes): (Chunk, &[u8]),
        now: Tick,
    ) -> (Step, Option<Chunk>) {
        let leaving = self.leaving;
        let flow = self.flow_from(from);
        source.touched = now;
        flow.large = if bytes.len() >= LARGE { (flow.large + 1).min(BULK) } else { 0 };
        // The answer about the piece before comes first, so nothing is being sent unless the order was broken.
        if leaving || flow.sending.is_some() || !flow.kept.is_empty() {
            flow.kept.extend_from_slice(bytes);
            return (Step::Leave, Some(chunk));
        }
        flow.sending = Some(chunk);
        (Step::Relay, None)
    }

    /// `source`, which is on this side, has no more, or its socket has failed.
    pub(crate) fn ended(&mut self, from: Side, source: &mut End, how: Result<(), Errno>) -> Step {
        match how {
            Ok(()) => source.eof = true,
            Err(Errno::CANCELED) => return Step::Leave,
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) if !self.leaving => return Step::Receive,
            Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => return Step::Leave,
            Err(_) if !self.leaving => return Step::Broken,
            Err(_) => source.broken(),
        }
        if self.leaving { Step::Leave } else { self.finish(from) }
    }

    /// What was sent to this side under this number.
    pub(crate) fn take_sent(&mut self, to: Side, number: u32) -> Option<Chunk> {
        let flow = self.flow_from(to.other());
        flow.sending.take_if(|chunk| chunk.is_sent_as(number))
    }

    /// The kernel took so much of these bytes for `destination`, which is on this side.
    pub(crate) fn sent(
        &mut self,
        to: Side,
        destination: &mut End,
        source_ended: bool,
        (bytes, taken): (&[u8], Result<usize, Errno>),
        now: Tick,
    ) -> Step {
        let leaving = self.leaving;
        let flow = self.flow_from(to.other());
        destination.touched = now;
        match taken {
            Err(Errno::AGAIN | Errno::INTR) => flow.kept.extend_from_slice(bytes),
            Err(_) => destination.broken(),
            Ok(taken) => {
                flow.bytes += taken as u64;
                flow.kept.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            }
        }
        if leaving || destination.broken || !flow.kept.is_empty() || flow.large == BULK {
            return Step::Leave;
        }
        if source_ended { self.finish(to.other()) } else { Step::Wait }
    }

    /// The source on this side has ended.
    fn finish(&mut self, from: Side) -> Step {
        let other = self.flow_from(from.other()).finished;
        let flow = self.flow_from(from);
        if flow.sending.is_some() || flow.finished {
            return Step::Wait; // until it is sent
        }
        flow.finished = true;
        if other { Step::Complete } else { Step::Finish }
    }

    /// From now on what is received is kept. Whether that is new.
    pub(crate) fn leave(&mut self) -> bool {
        !std::mem::replace(&mut self.leaving, true)
    }

    /// Whether nothing is being sent in either direction.
    pub(crate) fn is_quiet(&self) -> bool {
        self.up.sending.is_none() && self.down.sending.is_none()
    }

    /// Goes on with what was begun. The ring has no question about either side.
    pub(crate) fn into_plain(self, client: &mut End, backend: &mut End) -> Plain {
        client.landed();
        backend.landed();
        let [up, down] = [self.up, self.down].map(|flow| Begun {
            pending: flow.kept,
            bytes: flow.bytes,
            finished: flow.finished,
            bulk: flow.large == BULK,
        });
        Plain::resume(up, down)
    }

    /// What is being sent to this side, or about to be.
    pub(crate) fn sending_to(&mut self, side: Side) -> Option<&mut Chunk> {
        self.flow_from(side.other()).sending.as_mut()
    }

    /// The buffers it holds; it is over.
    pub(crate) fn take_chunks(&mut self) -> impl Iterator<Item = Chunk> + use<> {
        [self.up.sending.take(), self.down.sending.take()].into_iter().flatten()
    }

    pub(super) fn delivered(&self) -> Delivered {
        Delivered { up: self.up.bytes, down: self.down.bytes }
    }

    pub(super) fn owes(&self, side: Side) -> bool {
        let flow = self.flow_to(side);
        flow.sending.is_some() || !flow.kept.is_empty()
    }

    pub(super) fn waits_for(&self, side: Side, end: &End) -> bool {
        self.owes(side) || (!end.eof && !self.owes(side.other()))
    }

    fn flow_to(&self, side: Side) -> &Flow {
        match side {
            Side::Client => &self.down,
            Side::Backend => &self.up,
        }
    }

    fn flow_from(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Client => &mut self.up,
            Side::Backend => &mut self.down,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    const NOW: Tick = Tick(7);
    const ALL: [Side; 2] = [Side::Client, Side::Backend];

    fn end() -> End {
        End::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap(), Tick(0))
    }

    struct Lab {
        relay: Ringed,
        client: End,
        backend: End,
    }

    impl Lab {
        fn new() -> Self {
            Lab { relay: Ringed::default(), client: end(), backend: end() }
        }

        fn end(&mut self, side: Side) -> (&mut Ringed, &mut End) {
            match side {
                Side::Client => (&mut self.relay, &mut self.client),
                Side::Backend => (&mut self.relay, &mut self.backend),
            }
        }

        fn receive(&mut self, from: Side, bytes: &[u8]) -> Step {
            let (relay, source) = self.end(from);
            let (step, spent) = relay.received(from, source, (Chunk::of(bytes.len() as u16), bytes), NOW);
            assert_eq!(spent.is_some(), step == Step::Leave);
            step
        }

        fn sent(&mut self, to: Side, bytes: &[u8], taken: Result<usize, Errno>) -> Step {
            let (_, source) = self.end(to.other());
            let ended = source.eof;
            let (relay, destination) = self.end(to);
            assert!(relay.take_sent(to, 0).is_some());
            relay.sent(to, destination, ended, (bytes, taken), NOW)
        }

        fn ended(&mut self, from: Side, how: Result<(), Errno>) -> Step {
            let (relay, source) = self.end(from);
            relay.ended(from, source, how)
        }
    }

    #[test]
    fn a_piece_that_is_taken_whole_is_counted_and_the_next_is_waited_for() {
        for from in ALL {
            let mut lab = Lab::new();
            assert_eq!(lab.receive(from, b"hello"), Step::Relay);
            assert!(lab.relay.owes(from.other()) && !lab.relay.is_quiet());
            assert_eq!(lab.sent(from.other(), b"hello", Ok(5)), Step::Wait);
            assert!(!lab.relay.owes(from.other()) && lab.relay.is_quiet());
            let Delivered { up, down } = lab.relay.delivered();
            assert_eq!(if from == Side::Client { (up, down) } else { (down, up) }, (5, 0));
        }
    }

    #[test]
    fn the_end_of_a_stream_is_passed_on_after_its_last_byte_and_both_ends_complete_it() {
        let mut lab = Lab::new();
        lab.receive(Side::Client, b"bye");
        assert_eq!(lab.ended(Side::Client, Ok(())), Step::Wait, "the last piece is not sent yet");
        assert_eq!(lab.sent(Side::Backend, b"bye", Ok(3)), Step::Finish);
        assert_eq!(lab.ended(Side::Backend, Ok(())), Step::Complete);
    }

    #[test]
    fn what_is_not_taken_is_kept_in_order_with_what_comes_before_the_ring_lets_go() {
        for refused in [Ok(2), Err(Errno::AGAIN)] {
            let mut lab = Lab::new();
            lab.receive(Side::Client, b"abcd");
            assert_eq!(lab.sent(Side::Backend, b"abcd", refused), Step::Leave);
            assert!(lab.relay.leave(), "for the first time");
            assert_eq!(lab.receive(Side::Client, b"efgh"), Step::Leave);
            assert_eq!(lab.ended(Side::Client, Ok(())), Step::Leave);
            assert!(!lab.relay.leave());
            let kept = if refused.is_ok() { &b"cdefgh"[..] } else { b"abcdefgh" };
            assert_eq!(lab.relay.up.kept, kept);
            assert!(lab.relay.owes(Side::Backend) && lab.client.eof);
            assert!(!lab.relay.waits_for(Side::Client, &lab.client));
            let plain = lab.relay.into_plain(&mut lab.client, &mut lab.backend);
            assert!(plain.owes(Side::Backend) && !plain.owes(Side::Client));
            assert_eq!(plain.delivered().up, refused.unwrap_or(0) as u64);
        }
    }

    #[test]
    fn a_source_that_broke_ends_it_and_a_destination_that_broke_is_left_to_the_other_relay() {
        let mut lab = Lab::new();
        assert_eq!(lab.ended(Side::Backend, Err(Errno::CONNRESET)), Step::Broken);
        let mut lab = Lab::new();
        lab.receive(Side::Client, b"x");
        assert_eq!(lab.sent(Side::Backend, b"x", Err(Errno::PIPE)), Step::Leave);
        assert!(lab.backend.broken && lab.relay.up.kept.is_empty());
        assert_eq!(lab.relay.delivered(), Delivered::default());
    }

    #[test]
    fn a_source_that_breaks_while_it_leaves_is_known_to_have_afterwards() {
        let mut lab = Lab::new();
        lab.relay.leave();
        assert_eq!(lab.ended(Side::Backend, Err(Errno::CONNRESET)), Step::Leave);
        assert!(lab.backend.broken);
    }

    #[test]
    fn nobody_is_asked_again_without_a_buffer_while_leaving_and_else_at_once() {
        let mut lab = Lab::new();
        assert_eq!(lab.ended(Side::Client, Err(Errno::NOBUFS)), Step::Receive);
        lab.relay.leave();
        assert_eq!(lab.ended(Side::Client, Err(Errno::NOBUFS)), Step::Leave);
        assert_eq!(lab.ended(Side::Client, Err(Errno::CANCELED)), Step::Leave);
        assert!(!lab.client.eof && !lab.client.broken);
    }

    #[test]
    fn a_few_large_pieces_in_a_row_are_bulk_and_leave() {
        let mut lab = Lab::new();
        let piece = vec![1; LARGE];
        for count in 1..=BULK {
            assert_eq!(lab.receive(Side::Backend, &piece), Step::Relay);
            let step = lab.sent(Side::Client, &piece, Ok(LARGE));
            assert_eq!(step, if count == BULK { Step::Leave } else { Step::Wait });
        }
    }
}

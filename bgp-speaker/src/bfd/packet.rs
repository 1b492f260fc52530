//! BFD Control packets (RFC 5880 §4.1), and every reason for which §6.8.6 discards one, in its order.
//!
//! Pure. What can be told from the packet alone is checked by [`ControlPacket::decode`]; what needs to know the sessions
//! (the discriminators, authentication) by [`super::demux`].

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use serde::Serialize;

/// Octets of a packet without authentication: all we send.
pub const LENGTH: usize = 24;
/// The smallest packet with the A bit.
const LENGTH_AUTHENTICATED: usize = 26;
const VERSION: u8 = 1;

/// The states of RFC 5880 §6.2 with their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum SessionState {
    AdminDown = 0,
    Down = 1,
    Init = 2,
    Up = 3,
}

impl SessionState {
    #[cfg(test)]
    pub(super) const ALL: [SessionState; 4] =
        [SessionState::AdminDown, SessionState::Down, SessionState::Init, SessionState::Up];
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionState::AdminDown => "AdminDown",
            SessionState::Down => "Down",
            SessionState::Init => "Init",
            SessionState::Up => "Up",
        })
    }
}

/// Why a session last left Up (RFC 5880 §4.1), 5 bits; codes beyond 8 are reserved and kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    pub const NONE: Diagnostic = Diagnostic(0);
    pub const DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    pub const NEIGHBOR_SIGNALED_DOWN: Diagnostic = Diagnostic(3);
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);

    pub fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "control detection time expired",
            2 => "echo function failed",
            3 => "neighbor signaled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            code => return write!(f, "diagnostic {code}"),
        })
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Why a packet was discarded. In the order of the checks: the hop limit (RFC 5881 §5), then RFC 5880 §6.8.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Discard {
    #[error("TTL or hop limit too small")]
    HopLimit,
    #[error("version is not 1")]
    Version,
    #[error("Length below the minimum")]
    Length,
    #[error("Length beyond the payload")]
    Truncated,
    #[error("Detect Mult is zero")]
    DetectMult,
    #[error("Multipoint bit set")]
    Multipoint,
    #[error("My Discriminator is zero")]
    MyDiscriminator,
    #[error("Your Discriminator is no session's")]
    UnknownSession,
    #[error("Your Discriminator is zero in a state that knows it")]
    YourDiscriminator,
    #[error("from no configured neighbor")]
    UnknownNeighbor,
    #[error("authenticated, and we use none")]
    Authentication,
}

/// A packet as RFC 5880 §4.1 lays it out, without an authentication section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlPacket {
    pub diagnostic: Diagnostic,
    pub state: SessionState,
    pub poll: bool,
    pub is_final: bool,
    /// The sender's BFD shares no fate with its control plane. We never claim it.
    pub control_plane_independent: bool,
    /// An authentication section follows.
    pub authenticated: bool,
    pub demand: bool,
    pub detect_mult: NonZeroU8,
    pub my_discriminator: NonZeroU32,
    /// `None`: the sender has not heard of us.
    pub your_discriminator: Option<NonZeroU32>,
    /// In whole microseconds, as the two that follow.
    pub desired_min_tx: Duration,
    /// Zero: send me nothing periodically.
    pub required_min_rx: Duration,
    /// Zero: the sender answers no Echo packets. We never do.
    pub required_min_echo_rx: Duration,
}

impl ControlPacket {
    /// Reads the payload of a UDP datagram: the checks of §6.8.6 that need no session.
    pub fn decode(payload: &[u8]) -> Result<ControlPacket, Discard> {
        let octet = |at: usize| payload.get(at).copied();
        let word = |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?));
        let interval = |at| Some(Duration::from_micros(u64::from(word(at)?)));
        let first = octet(0).ok_or(Discard::Truncated)?;
        if first >> 5 != VERSION {
            return Err(Discard::Version);
        }
        let (flags, detect_mult, length) = octet(1)
            .zip(octet(2))
            .zip(octet(3))
            .map(|((flags, mult), length)| (flags, mult, usize::from(length)))
            .ok_or(Discard::Truncated)?;
        let authenticated = flags & 0x04 != 0;
        if length < if authenticated { LENGTH_AUTHENTICATED } else { LENGTH } {
            return Err(Discard::Length);
        }
        if length > payload.len() {
            return Err(Discard::Truncated);
        }
        let detect_mult = NonZeroU8::new(detect_mult).ok_or(Discard::DetectMult)?;
        if flags & 0x01 != 0 {
            return Err(Discard::Multipoint);
        }
        let my_discriminator = word(4).and_then(NonZeroU32::new).ok_or(Discard::MyDiscriminator)?;
        Ok(ControlPacket {
            diagnostic: Diagnostic(first & 0x1F),
            state: match flags >> 6 {
                0 => SessionState::AdminDown,
                1 => SessionState::Down,
                2 => SessionState::Init,
                _ => SessionState::Up,
            },
            poll: flags & 0x20 != 0,
            is_final: flags & 0x10 != 0,
            control_plane_independent: flags & 0x08 != 0,
            authenticated,
            demand: flags & 0x02 != 0,
            detect_mult,
            my_discriminator,
            your_discriminator: word(8).and_then(NonZeroU32::new),
            desired_min_tx: interval(12).ok_or(Discard::Truncated)?,
            required_min_rx: interval(16).ok_or(Discard::Truncated)?,
            required_min_echo_rx: interval(20).ok_or(Discard::Truncated)?,
        })
    }

    /// The payload of a UDP datagram. The A bit is left out with the section it announces.
    pub fn encode(&self) -> [u8; LENGTH] {
        let flags = (self.state as u8) << 6
            | u8::from(self.poll) << 5
            | u8::from(self.is_final) << 4
            | u8::from(self.control_plane_independent) << 3
            | u8::from(self.demand) << 1;
        let head = [VERSION << 5 | self.diagnostic.0, flags, self.detect_mult.get(), LENGTH as u8];
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator.map_or(0, NonZeroU32::get),
            microseconds(self.desired_min_tx),
            microseconds(self.required_min_rx),
            microseconds(self.required_min_echo_rx),
        ];
        let mut octets = [0; LENGTH];
        let fields = std::iter::once(head).chain(words.map(u32::to_be_bytes));
        for (place, field) in octets.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field);
        }
        octets
    }
}

fn microseconds(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet as another implementation sends it: Up, 300 ms, 3×.
    const UP: [u8; LENGTH] =
        [0x20, 0xC0, 3, 24, 0, 0, 0, 7, 0, 0, 0, 9, 0, 4, 0x93, 0xE0, 0, 4, 0x93, 0xE0, 0, 0, 0xC3, 0x50];

    fn with(changes: &[(usize, u8)]) -> [u8; LENGTH] {
        let mut octets = UP;
        for (at, octet) in changes {
            octets[*at] = *octet;
        }
        octets
    }

    #[test]
    fn a_packet_is_read_field_by_field() {
        let packet = ControlPacket::decode(&UP).unwrap();
        assert_eq!(
            packet,
            ControlPacket {
                diagnostic: Diagnostic::NONE,
                state: SessionState::Up,
                poll: false,
                is_final: false,
                control_plane_independent: false,
                authenticated: false,
                demand: false,
                detect_mult: NonZeroU8::new(3).unwrap(),
                my_discriminator: NonZeroU32::new(7).unwrap(),
                your_discriminator: NonZeroU32::new(9),
                desired_min_tx: Duration::from_millis(300),
                required_min_rx: Duration::from_millis(300),
                required_min_echo_rx: Duration::from_millis(50),
            }
        );
        assert_eq!(packet.encode(), UP);
    }

    #[test]
    fn another_version_is_discarded() {
        for version in [0, 2, 7] {
            assert_eq!(ControlPacket::decode(&with(&[(0, version << 5)])), Err(Discard::Version));
        }
    }

    #[test]
    fn a_length_below_the_minimum_is_discarded() {
        assert_eq!(ControlPacket::decode(&with(&[(3, 23)])), Err(Discard::Length));
        assert_eq!(ControlPacket::decode(&with(&[(1, 0xC4), (3, 25)])), Err(Discard::Length));
    }

    #[test]
    fn a_length_beyond_the_payload_is_discarded() {
        assert_eq!(ControlPacket::decode(&with(&[(3, 25)])), Err(Discard::Truncated));
        for length in 0..LENGTH {
            let refused = ControlPacket::decode(&UP[..length]);
            assert_eq!(refused, Err(Discard::Truncated), "{length} octets");
        }
        assert!(
            ControlPacket::decode(&[&UP[..], &[0; 8]].concat()).is_ok(),
            "octets behind it are no matter"
        );
    }

    #[test]
    fn a_zero_detect_mult_is_discarded() {
        assert_eq!(ControlPacket::decode(&with(&[(2, 0)])), Err(Discard::DetectMult));
    }

    #[test]
    fn the_multipoint_bit_is_discarded() {
        assert_eq!(ControlPacket::decode(&with(&[(1, 0xC1)])), Err(Discard::Multipoint));
    }

    #[test]
    fn a_zero_my_discriminator_is_discarded() {
        assert_eq!(ControlPacket::decode(&with(&[(7, 0)])), Err(Discard::MyDiscriminator));
    }

    #[test]
    fn the_checks_are_made_in_the_order_of_the_rfc() {
        // Each step heals the first thing that is wrong.
        let steps: [(&[(usize, u8)], Discard); 6] = [
            (&[(0, 0), (1, 1), (2, 0), (3, 20), (7, 0)], Discard::Version),
            (&[(1, 1), (2, 0), (3, 20), (7, 0)], Discard::Length),
            (&[(1, 1), (2, 0), (3, 60), (7, 0)], Discard::Truncated),
            (&[(1, 1), (2, 0), (7, 0)], Discard::DetectMult),
            (&[(1, 1), (7, 0)], Discard::Multipoint),
            (&[(7, 0)], Discard::MyDiscriminator),
        ];
        for (changes, expected) in steps {
            assert_eq!(ControlPacket::decode(&with(changes)), Err(expected));
        }
    }

    #[test]
    fn a_diagnostic_has_a_name_or_its_number() {
        assert_eq!(Diagnostic::NEIGHBOR_SIGNALED_DOWN.to_string(), "neighbor signaled session down");
        assert_eq!(Diagnostic(31).to_string(), "diagnostic 31");
    }

    proptest! {
        #[test]
        fn arbitrary_octets_are_read_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = ControlPacket::decode(&octets);
        }

        #[test]
        fn what_is_read_is_written_again(
            head in any::<(u8, u8)>(), mult in 1..=255u8, words in any::<[u32; 5]>()
        ) {
            let mut octets = [0; LENGTH];
            // Version 1; neither authenticated nor multipoint.
            octets[..4].copy_from_slice(&[0x20 | head.0 & 0x1F, head.1 & 0xFA, mult, LENGTH as u8]);
            for (place, word) in octets[4..].chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&word.to_be_bytes());
            }
            match ControlPacket::decode(&octets) {
                Ok(packet) => prop_assert_eq!(packet.encode(), octets),
                Err(discard) => prop_assert_eq!((discard, words[0]), (Discard::MyDiscriminator, 0)),
            }
        }
    }
}

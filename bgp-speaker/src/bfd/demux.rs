//! Which session a packet belongs to: the checks of RFC 5880 §6.8.6 that need to know the sessions, and the hop limit of
//! RFC 5881 §5.
//!
//! Pure. A neighbor has one address, and at an address there is one neighbor, so the source chooses the session, as §6.3 of
//! RFC 5881 has it for the first packet; the discriminator then has to be that session's. The order of the checks decides
//! only under which name a packet is discarded.

use std::net::IpAddr;
use std::num::NonZeroU32;

use super::packet::{ControlPacket, Discard, SessionState};

/// Where neighbors are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbor {
    pub(super) address: IpAddr,
    /// The interface of a link-local address; 0 with every other.
    pub(super) scope: u32,
    /// RFC 5883, on a port of its own.
    pub(super) multihop: bool,
}

/// What a session goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) neighbor: Neighbor,
    pub(super) discriminator: NonZeroU32,
    /// While it is Up, the neighbor's.
    pub(super) remote: Option<NonZeroU32>,
    /// 255 on one hop.
    pub(super) min_hop_limit: u8,
}

/// The position of the packet's session in `sessions`, and the packet. `hop_limit` is `None` where the kernel did not say.
pub(super) fn select(
    payload: &[u8],
    from: Neighbor,
    hop_limit: Option<u8>,
    sessions: impl IntoIterator<Item = Identity>,
) -> Result<(usize, ControlPacket), Discard> {
    let mut sessions = sessions.into_iter().enumerate();
    let (position, session) =
        sessions.find(|(_, session)| session.neighbor == from).ok_or(Discard::UnknownNeighbor)?;
    if hop_limit.is_none_or(|limit| limit < session.min_hop_limit) {
        return Err(Discard::HopLimit);
    }
    let packet = ControlPacket::decode(payload)?;
    match packet.your_discriminator {
        Some(discriminator) if discriminator != session.discriminator => return Err(Discard::UnknownSession),
        None if !matches!(packet.state, SessionState::Down | SessionState::AdminDown) => {
            return Err(Discard::YourDiscriminator);
        }
        // Anybody can send that; a neighbor that starts anew is known by its silence.
        None if session.remote.is_some_and(|known| known != packet.my_discriminator) => {
            return Err(Discard::YourDiscriminator);
        }
        Some(_) | None => {}
    }
    if packet.authenticated {
        return Err(Discard::Authentication);
    }
    Ok((position, packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEIGHBOR: Neighbor =
        Neighbor { address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), scope: 0, multihop: false };

    fn sessions() -> [Identity; 2] {
        let other = Neighbor { address: "2001:db8::1".parse().unwrap(), ..NEIGHBOR };
        [(other, 4), (NEIGHBOR, 9)].map(|(neighbor, discriminator)| Identity {
            neighbor,
            discriminator: NonZeroU32::new(discriminator).unwrap(),
            remote: None,
            min_hop_limit: 255,
        })
    }

    /// A packet with these flags, length and Your Discriminator.
    fn packet(flags: u8, length: u8, your_discriminator: u8) -> Vec<u8> {
        let mut octets = vec![0x20, flags, 3, length, 0, 0, 0, 7, 0, 0, 0, your_discriminator];
        octets.resize(length.into(), 1);
        octets
    }

    fn selected(octets: &[u8], from: Neighbor, hop_limit: Option<u8>) -> Result<usize, Discard> {
        select(octets, from, hop_limit, sessions()).map(|(position, _)| position)
    }

    #[test]
    fn a_packet_finds_its_session() {
        assert_eq!(selected(&packet(0xC0, 24, 9), NEIGHBOR, Some(255)), Ok(1));
        assert_eq!(
            selected(&packet(0x40, 24, 0), NEIGHBOR, Some(255)),
            Ok(1),
            "Down knows no discriminator yet"
        );
        assert_eq!(selected(&packet(0x00, 24, 0), NEIGHBOR, Some(255)), Ok(1), "nor does AdminDown");
    }

    #[test]
    fn one_hop_means_a_hop_limit_of_255() {
        for hop_limit in [Some(254), Some(0), None] {
            assert_eq!(selected(&packet(0xC0, 24, 9), NEIGHBOR, hop_limit), Err(Discard::HopLimit));
        }
    }

    #[test]
    fn an_unknown_discriminator_is_discarded() {
        assert_eq!(selected(&packet(0xC0, 24, 8), NEIGHBOR, Some(255)), Err(Discard::UnknownSession));
        assert_eq!(
            selected(&packet(0xC0, 24, 4), NEIGHBOR, Some(255)),
            Err(Discard::UnknownSession),
            "another neighbor's"
        );
    }

    #[test]
    fn without_a_discriminator_only_down_and_admin_down_are_let_in() {
        for flags in [0x80, 0xC0] {
            let refused = selected(&packet(flags, 24, 0), NEIGHBOR, Some(255));
            assert_eq!(refused, Err(Discard::YourDiscriminator));
        }
    }

    #[test]
    fn while_a_session_is_up_a_stranger_in_its_neighbors_name_cannot_take_it_down() {
        let up = |remote| sessions().map(|session| Identity { remote: NonZeroU32::new(remote), ..session });
        let down = packet(0x40, 24, 0);
        let let_in = |remote| select(&down, NEIGHBOR, Some(255), up(remote)).map(|(position, _)| position);
        assert_eq!(let_in(7), Ok(1), "the neighbor itself");
        assert_eq!(let_in(8), Err(Discard::YourDiscriminator));
    }

    #[test]
    fn a_sender_that_is_no_neighbor_is_discarded() {
        let strangers = [
            Neighbor { address: "192.0.2.2".parse().unwrap(), ..NEIGHBOR },
            Neighbor { multihop: true, ..NEIGHBOR },
            Neighbor { scope: 2, ..NEIGHBOR },
        ];
        for from in strangers {
            assert_eq!(selected(&packet(0x40, 24, 0), from, Some(255)), Err(Discard::UnknownNeighbor));
        }
    }

    #[test]
    fn an_authenticated_packet_is_discarded_where_no_authentication_is_in_use() {
        assert_eq!(selected(&packet(0xC4, 26, 9), NEIGHBOR, Some(255)), Err(Discard::Authentication));
        assert_eq!(
            selected(&packet(0x84, 26, 0), NEIGHBOR, Some(255)),
            Err(Discard::YourDiscriminator),
            "which comes before"
        );
    }
}

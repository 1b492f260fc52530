//! The UDP sockets of BFD (RFC 5881 §4, RFC 5883 §4): every option, no state, no decision.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};

use crate::sockopt;

const SINGLE_HOP_PORT: u16 = 3784;
const MULTIHOP_PORT: u16 = 4784;
/// Packets are sent from one of these (RFC 5881 §4).
const FIRST_SOURCE_PORT: u16 = 49152;
/// Tried before giving up on a free one.
const SOURCE_PORTS: u16 = 64;
/// DSCP CS6 in the place of the former TOS octet, as the BGP session has it.
const CS6: u32 = 48 << 2;
const HOP_LIMIT: u32 = 255;
/// A transmitting socket hears nothing that matters.
const SMALL_BUFFER: usize = 4096;

/// An address with the interface that a link-local one needs; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: IpAddr,
    pub(super) scope: u32,
}

impl Place {
    fn port(self, port: u16) -> SocketAddr {
        match self.address {
            IpAddr::V4(address) => SocketAddr::new(address.into(), port),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, self.scope).into(),
        }
    }

    /// Where a neighbor listens.
    pub(super) fn listening(self, multihop: bool) -> SocketAddr {
        self.port(if multihop { MULTIHOP_PORT } else { SINGLE_HOP_PORT })
    }

    /// The address from which the kernel would send there now.
    pub(super) fn source(self, multihop: bool) -> io::Result<Place> {
        let any = SocketAddr::new(if self.address.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0);
        let probe = UdpSocket::bind(any)?;
        probe.connect(self.listening(multihop))?;
        Ok(Place { address: probe.local_addr()?.ip(), scope: self.scope })
    }
}

/// The number of an interface.
pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    name_to_index(UdpSocket::bind("127.0.0.1:0")?, name).map_err(io::Error::from)
}

/// Hears what is sent to `local`.
pub(super) fn receiver(local: Place, multihop: bool) -> io::Result<Socket> {
    let socket = udp(local)?;
    if local.address.is_ipv4() {
        sockopt::set_receive_ttl(&socket)?;
    } else {
        socket.set_recv_hoplimit_v6(true)?;
    }
    socket.bind(&local.listening(multihop).into())?;
    Ok(socket)
}

/// Sends from `local`, from the first free port behind an arbitrary one.
pub(super) fn transmitter(local: Place, arbitrary: u64) -> io::Result<Socket> {
    let socket = udp(local)?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    if local.address.is_ipv4() {
        socket.set_ttl_v4(HOP_LIMIT)?;
        socket.set_tos_v4(CS6)?;
    } else {
        socket.set_unicast_hops_v6(HOP_LIMIT)?;
        socket.set_tclass_v6(CS6)?;
    }
    let range = u16::MAX - FIRST_SOURCE_PORT + 1;
    let mut outcome = Ok(());
    for step in 0..SOURCE_PORTS {
        let offset = (arbitrary % u64::from(range)) as u16;
        let port = FIRST_SOURCE_PORT + (offset + step) % range;
        outcome = socket.bind(&local.port(port).into());
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Ok(()) | Err(_) => break,
        }
    }
    outcome.map(|()| socket)
}

fn udp(local: Place) -> io::Result<Socket> {
    let domain = if local.address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if local.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

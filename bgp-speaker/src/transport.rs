//! TCP as BGP wants it: dialling, listening and every socket option. Owns no state and decides nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::md5::Md5Key;
use crate::sockopt;

/// DSCP CS6 (network control) in the place of the former TOS octet.
const CS6: u32 = 48 << 2;
const MAX_TTL: u8 = 255;
const BACKLOG: i32 = 1024;

/// How one peer's connections are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) remote: SocketAddr,
    /// The link of a link-local `remote` (RFC 4007 §11); looked up for each connection, since it may come and go.
    pub(crate) interface: Option<String>,
    /// `None`: what the kernel picks.
    pub(crate) local: Option<IpAddr>,
    /// `None`: the system's own (iBGP).
    pub(crate) ttl: Option<u8>,
    /// GTSM: the smallest TTL that is let in.
    pub(crate) min_ttl: Option<u8>,
    /// How long sent octets may stay unacknowledged before the kernel gives the connection up.
    pub(crate) user_timeout: Duration,
    /// TCP-MD5.
    pub(crate) key: Option<Md5Key>,
}

impl Endpoint {
    pub(crate) fn of(peer: &config::Peer, internal: bool, key: Option<Md5Key>) -> Self {
        const WITHOUT_HOLD_TIME: Duration = Duration::from_secs(90);
        let (ttl, min_ttl) = match (peer.ttl_security, internal) {
            (true, _) => (Some(MAX_TTL), Some(MAX_TTL.saturating_sub(peer.multihop.saturating_sub(1)))),
            (false, true) => (None, None),
            (false, false) => (Some(peer.multihop), None),
        };
        Endpoint {
            remote: SocketAddr::new(peer.address, peer.port),
            interface: peer.interface.clone(),
            local: peer.local_address,
            ttl,
            min_ttl,
            user_timeout: peer.hold_time.as_duration().unwrap_or(WITHOUT_HOLD_TIME),
            key,
        }
    }

    /// Dials; ends only with the kernel's verdict, the caller has the deadline.
    pub(crate) async fn dial(self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        self.prepare(SockRef::from(&socket))?;
        let scope = self.scope()?;
        if let Some(local) = self.local {
            socket.bind(&scoped(SocketAddr::new(local, 0), scope).into())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(scoped(self.remote, scope)).await
    }

    fn scope(&self) -> io::Result<u32> {
        let Some(interface) = &self.interface else { return Ok(0) };
        sockopt::interface_index(interface)
            .map_err(|error| io::Error::new(error.kind(), format!("interface {interface}: {error}")))
    }

    /// Options of a connection in either direction.
    pub(crate) fn prepare(&self, socket: SockRef<'_>) -> io::Result<()> {
        let ipv6 = socket.local_addr()?.is_ipv6();
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))?;
        if ipv6 {
            socket.set_tclass_v6(CS6)?;
        } else {
            socket.set_tos_v4(CS6)?;
        }
        if let Some(ttl) = self.ttl {
            set_ttl(&socket, ipv6, ttl)?;
        }
        if let Some(ttl) = self.min_ttl {
            sockopt::set_min_ttl(&*socket, ipv6, ttl)?;
        }
        if let Some(key) = &self.key {
            sockopt::set_md5_key(&*socket, self.remote.ip(), key.as_bytes())?;
        }
        Ok(())
    }
}

/// `address` on the link of that number, where the link matters.
fn scoped(address: SocketAddr, scope: u32) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into()
        }
        SocketAddr::V6(_) | SocketAddr::V4(_) => address,
    }
}

/// Whether a connection from `remote` is one of the peer with this address, on this interface if it is link-local.
pub(crate) fn is_from(remote: SocketAddr, address: IpAddr, interface: Option<&str>) -> bool {
    let on_link = match (remote, interface) {
        (SocketAddr::V6(v6), Some(interface)) => {
            sockopt::interface_index(interface).is_ok_and(|index| index == v6.scope_id())
        }
        (SocketAddr::V6(_) | SocketAddr::V4(_), _) => true,
    };
    remote.ip().to_canonical() == address && on_link
}

fn set_ttl(socket: &Socket, ipv6: bool, ttl: u8) -> io::Result<()> {
    if ipv6 { socket.set_unicast_hops_v6(ttl.into()) } else { socket.set_ttl_v4(ttl.into()) }
}

/// Listens on exactly `address`: an IPv6 wildcard does not take IPv4.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The SYN-ACK goes out with the listener's TTL, and a peer with GTSM takes nothing less.
    set_ttl(&socket, address.is_ipv6(), MAX_TTL)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(remote: SocketAddr) -> Endpoint {
        Endpoint {
            remote,
            interface: None,
            local: None,
            ttl: Some(1),
            min_ttl: None,
            user_timeout: Duration::from_secs(90),
            key: None,
        }
    }

    /// What the kernel says of a connection's options.
    fn check(socket: SockRef<'_>, ipv6: bool) {
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(90)));
        let (class, ttl) = if ipv6 {
            (socket.tclass_v6().unwrap(), socket.unicast_hops_v6().unwrap())
        } else {
            (socket.tos_v4().unwrap(), socket.ttl_v4().unwrap())
        };
        assert_eq!((class, ttl), (0xC0, 1), "DSCP CS6, one hop");
    }

    #[tokio::test]
    async fn the_kernel_has_the_options_of_connections_in_both_directions() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(address.parse().unwrap()).unwrap();
            let remote = listener.local_addr().unwrap();
            let (dialled, accepted) = tokio::join!(endpoint(remote).dial(), listener.accept());
            let (dialled, (accepted, from)) = (dialled.unwrap(), accepted.unwrap());
            endpoint(from).prepare(SockRef::from(&accepted)).unwrap();
            check(SockRef::from(&dialled), remote.is_ipv6());
            check(SockRef::from(&accepted), remote.is_ipv6());
        }
    }
}

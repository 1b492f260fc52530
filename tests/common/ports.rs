//! Addresses and ports that no other test uses, however many test processes run at once.
//!
//! All of 127.0.0.0/8 is local on Linux, so each [`Loopback`] is an address of its own on which every port is free. An
//! address is claimed by binding an abstract Unix socket of its name: atomic, and released by the kernel with the
//! process. The search starts at a place that depends on the process id, so claims seldom collide. Connections
//! *to* such an address come *from* 127.0.0.1, so no ephemeral port is ever taken on it either.
//!
//! IPv6 has the one address `::1`: there a port is held by a bound socket that never listens ([`HeldPort`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

/// Below Linux's ephemeral range, above what daemons use.
const FIRST_PORT: u16 = 20_000;

static CLAIMS: AtomicU32 = AtomicU32::new(0);

/// An IPv4 loopback address that is this value's alone until it is dropped.
#[derive(Debug)]
pub struct Loopback {
    ip: Ipv4Addr,
    next_port: AtomicU16,
    _claim: UnixListener,
}

impl Loopback {
    pub fn take() -> Self {
        let start = std::process::id().wrapping_mul(0x9E37_79B1) >> 8;
        loop {
            let host = start.wrapping_add(CLAIMS.fetch_add(1, Ordering::Relaxed)) & 0x00FF_FFFF;
            // 127.0.x.x is where others' fixed addresses live; host numbers 0 and 255 look odd in output.
            if host >> 16 == 0 || matches!(host & 0xFF, 0 | 255) {
                continue;
            }
            let ip = Ipv4Addr::from(0x7F00_0000 | host);
            let name = UnixAddr::from_abstract_name(format!("contrail-lb-test-{ip}")).expect("a short name");
            if let Ok(claim) = UnixListener::bind_addr(&name) {
                return Loopback { ip, next_port: AtomicU16::new(FIRST_PORT), _claim: claim };
            }
        }
    }

    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(self.ip)
    }

    /// This address with a port that was not handed out before.
    pub fn addr(&self) -> SocketAddr {
        loop {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            let addr = SocketAddr::new(self.ip(), port);
            // Refused only where a stranger listens on the wildcard address.
            if TcpListener::bind(addr).is_ok() {
                return addr;
            }
        }
    }
}

/// A port of `localhost`, kept from everybody but a listener that sets `SO_REUSEADDR` (as all servers do).
#[derive(Debug)]
pub struct HeldPort {
    addr: SocketAddr,
    _hold: OwnedFd,
}

impl HeldPort {
    pub fn v4() -> Self {
        Self::of(AddressFamily::INET, Ipv4Addr::LOCALHOST.into())
    }

    pub fn v6() -> Self {
        Self::of(AddressFamily::INET6, Ipv6Addr::LOCALHOST.into())
    }

    fn of(family: AddressFamily, ip: IpAddr) -> Self {
        let hold = socket(family, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_reuseaddr(&hold, true).expect("SO_REUSEADDR");
        sockopt::set_socket_reuseport(&hold, true).expect("SO_REUSEPORT");
        bind(&hold, &SocketAddr::new(ip, 0)).expect("a free port");
        let addr = getsockname(&hold).expect("its address").try_into().expect("an internet address");
        HeldPort { addr, _hold: hold }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

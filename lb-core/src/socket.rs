//! Every socket call and option of the data plane, so that what the kernel is asked for can be read in one place.
//!
//! Everything here is non-blocking and close-on-exec. No state, no policy.
#![allow(
    unsafe_code,
    reason = "SIOCOUTQ and two socket options have no safe wrapper; each call has its own comment"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use config::Endpoint;
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType,
    acceptfrom_with, bind, getsockname, ipproto, listen, shutdown, socket_with, sockopt,
};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Connections that may wait to be accepted, per worker and address. The kernel caps it at `net.core.somaxconn`.
pub(crate) const BACKLOG: u16 = 4096;

/// Whether an address may be listened on before the host has it (`IP_FREEBIND`): a VIP comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

/// A TCP listener of one worker. All workers listen on the same address (`SO_REUSEPORT`); the kernel spreads clients.
pub(crate) fn listener(address: SocketAddr, presence: Presence) -> Result<OwnedFd> {
    let socket = bindable(address, presence)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, i32::from(BACKLOG))?;
    Ok(socket)
}

/// What becomes of a client that begins a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newcomers {
    Admitted,
    /// Its SYN is dropped without a word, so that it asks again: after 1 s (RFC 6298 §2.1).
    Held,
}

/// For a listener. Handshakes that have begun, and connections, notice nothing.
pub(crate) fn set_newcomers(listener: &OwnedFd, newcomers: Newcomers) -> Result<()> {
    // Classic BPF over the TCP header: nothing of a segment with SYN is let in, all of any other.
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u32 = 0x02;
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS_OFFSET),
        instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, SYN),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let nothing = 0i32;
    let (option, value, size) = match newcomers {
        Newcomers::Held => (libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size_of_val(&filter)),
        Newcomers::Admitted => (libc::SO_DETACH_FILTER, (&raw const nothing).cast(), size_of_val(&nothing)),
    };
    // SAFETY: `value` points to `size` octets that outlive the call, as does the program that `filter` points to.
    let done = unsafe {
        libc::setsockopt(listener.as_raw_fd(), libc::SOL_SOCKET, option, value, size as libc::socklen_t)
    };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    match Errno::from_io_error(&error).unwrap_or(Errno::INVAL) {
        // It had no filter.
        Errno::NOENT if newcomers == Newcomers::Admitted => Ok(()),
        error => Err(error),
    }
}

/// Fails with `ADDRINUSE` if anybody listens on `address` already.
///
/// Needed before the first [`listener`] of an address: a second process of the same user that sets `SO_REUSEPORT` too
/// would otherwise be given a share of the clients without a word. A bind with only `SO_REUSEADDR` conflicts with
/// every socket that listens, and with none that merely lingers.
pub(crate) fn probe(address: SocketAddr, presence: Presence) -> Result<()> {
    bind(&bindable(address, presence)?, &address)
}

fn bindable(address: SocketAddr, presence: Presence) -> Result<OwnedFd> {
    let socket = stream(address)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    match (presence, address) {
        (Presence::Required, _) => {}
        (Presence::Optional, SocketAddr::V4(_)) => sockopt::set_ip_freebind(&socket, true)?,
        (Presence::Optional, SocketAddr::V6(_)) => sockopt::set_ipv6_freebind(&socket, true)?,
    }
    Ok(socket)
}

fn stream(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))
}

/// The next connection that waits at `listener`, and whom it is from.
pub(crate) fn accept(listener: impl AsFd) -> Result<(OwnedFd, SocketAddr)> {
    let (socket, peer) = acceptfrom_with(listener, FLAGS)?;
    Ok((socket, ip_address(peer)?))
}

/// The address that a client connected to.
pub(crate) fn local_address(socket: impl AsFd) -> Result<SocketAddr> {
    ip_address(Some(getsockname(socket)?))
}

fn ip_address(address: Option<SocketAddrAny>) -> Result<SocketAddr> {
    address.ok_or(Errno::CONNABORTED)?.try_into()
}

/// What a backend sees a connection come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// What the kernel picks.
    Kernel,
    /// An address of this host.
    Own(IpAddr),
    /// An address of somebody else (`IP_TRANSPARENT`).
    Foreign(IpAddr),
}

/// Begins to connect. The socket becomes writable once it is decided; then [`outcome`] tells how.
pub(crate) fn connect(endpoint: &Endpoint, source: Source, options: Options) -> Result<OwnedFd> {
    match endpoint {
        Endpoint::Tcp(address) => connect_tcp(*address, source, options),
        Endpoint::Unix(path) => connect_unix(path),
    }
}

fn connect_tcp(address: SocketAddr, source: Source, options: Options) -> Result<OwnedFd> {
    let socket = stream(address)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_tcp_user_timeout(&socket, options.user_timeout)?;
    if options.keepalive == KeepAlive::On {
        sockopt::set_socket_keepalive(&socket, true)?;
    }
    match source {
        Source::Kernel => {}
        Source::Own(ip) => bind_without_port(&socket, ip)?,
        Source::Foreign(ip) => {
            set_transparent(&socket, ip)?;
            bind_without_port(&socket, ip)?;
        }
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// The kernel decides at once about a Unix socket. It does not let one wait for a place in a full queue without blocking
/// (EAGAIN), so that is a refusal.
fn connect_unix(path: &Path) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(socket),
        Err(Errno::AGAIN) => Err(Errno::CONNREFUSED),
        Err(error) => Err(error),
    }
}

/// Binds to an address, and leaves the port to connect(2): one port then serves towards many destinations at once.
fn bind_without_port(socket: &OwnedFd, ip: IpAddr) -> Result<()> {
    set_flag(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    bind(socket, &SocketAddr::new(ip, 0))
}

fn set_transparent(socket: &OwnedFd, ip: IpAddr) -> Result<()> {
    match ip {
        IpAddr::V4(_) => set_flag(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        IpAddr::V6(_) => set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    }
}

/// Whether this process may use the addresses of others ([`Source::Foreign`]).
pub(crate) fn probe_transparent() -> Result<()> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    set_transparent(&stream(SocketAddr::new(any, 0))?, any)
}

/// Switches an option on that has no safe wrapper.
fn set_flag(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the kernel reads `length` bytes of `on`, which
    // is that long and lives until the call returns.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(&on).cast(), length) };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

/// The pending error of a socket, taken from it.
pub(crate) fn outcome(socket: impl AsFd) -> Result<()> {
    sockopt::socket_error(socket)?
}

/// TCP keep-alive, with the kernel's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    On,
    Off,
}

/// What the kernel does for a connection unasked. Accepted sockets inherit it from their listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) keepalive: KeepAlive,
    /// Milliseconds after which a connection is given up whose peer acknowledges nothing (RFC 5482); 0: the kernel's own.
    pub(crate) user_timeout: u32,
}

/// Makes a listener's clients behave so from now on.
pub(crate) fn set_options(socket: &OwnedFd, options: Options) -> Result<()> {
    sockopt::set_tcp_user_timeout(socket, options.user_timeout)?;
    sockopt::set_socket_keepalive(socket, options.keepalive == KeepAlive::On)
}

/// What to do with the bytes that the kernel still holds when the socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    /// Deliver them, then FIN.
    Plain,
    /// Drop them, RST at once.
    Reset,
}

/// Closes a socket.
pub(crate) fn close(socket: OwnedFd, how: Close) {
    if how == Close::Reset {
        reset_on_close(&socket);
    }
}

/// However the socket is closed, it is with a RST.
pub(crate) fn reset_on_close(socket: impl AsFd) {
    // If it fails the socket is closed all the same, only less abruptly.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Bytes (a FIN counts as one) that the peer has not acknowledged yet.
pub(crate) fn unacknowledged(socket: impl AsFd) -> Result<u32> {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    /// `SIOCOUTQ` of linux/sockios.h, the same number as `TIOCOUTQ`.
    const SIOCOUTQ: Opcode = 0x5411;
    // SAFETY: on a TCP socket SIOCOUTQ writes one `int` through its argument and reads nothing (tcp_ioctl); `Getter`
    // provides exactly that `int`.
    let bytes: i32 = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

/// Reads what is there; 0 is the end of the stream.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    rustix::net::recv(socket, buffer, RecvFlags::empty()).map(|(read, _)| read)
}

/// Writes as much as the kernel takes.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8]) -> Result<usize> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
}

/// Sends a FIN after what was written.
pub(crate) fn finish(socket: impl AsFd) -> Result<()> {
    shutdown(socket, Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    const OPTIONS: Options = Options { keepalive: KeepAlive::Off, user_timeout: 60_000 };

    fn endpoint_of(socket: &OwnedFd) -> Endpoint {
        Endpoint::Tcp(address_of(socket))
    }

    fn address_of(socket: &OwnedFd) -> SocketAddr {
        SocketAddr::try_from(getsockname(socket).unwrap()).unwrap()
    }

    #[test]
    fn the_probe_sees_a_listener_that_shares_its_port() {
        let foreign = listener(LOOPBACK, Presence::Required).unwrap();
        let address = address_of(&foreign);
        assert_eq!(probe(address, Presence::Required), Err(Errno::ADDRINUSE));
        assert!(listener(address, Presence::Required).is_ok(), "without the probe nobody would notice");
        drop(foreign);
    }

    #[test]
    fn the_probe_sees_a_listener_on_every_address() {
        let foreign = listener("0.0.0.0:0".parse().unwrap(), Presence::Required).unwrap();
        let address = SocketAddr::new(LOOPBACK.ip(), address_of(&foreign).port());
        assert_eq!(probe(address, Presence::Required), Err(Errno::ADDRINUSE));
    }

    #[test]
    fn the_probe_passes_what_is_free_and_leaves_it_free() {
        let address = address_of(&listener(LOOPBACK, Presence::Required).unwrap());
        assert_eq!(probe(address, Presence::Required), Ok(()));
        assert_eq!(probe(address, Presence::Required), Ok(()));
    }

    #[test]
    fn a_vip_can_be_listened_on_before_the_host_has_it() {
        for vip in ["203.0.113.5:0", "[2001:db8::5]:0"] {
            let vip: SocketAddr = vip.parse().unwrap();
            assert!(listener(vip, Presence::Optional).is_ok());
            assert_eq!(listener(vip, Presence::Required).unwrap_err(), Errno::ADDRNOTAVAIL);
        }
    }

    #[test]
    fn accepted_and_connecting_sockets_send_small_pieces_at_once() {
        let listening = listener(LOOPBACK, Presence::Required).unwrap();
        let socket = connect(&endpoint_of(&listening), Source::Kernel, OPTIONS).unwrap();
        let accepted = loop {
            match accept(&listening) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                other => break other.unwrap().0,
            }
        };
        assert_eq!((sockopt::tcp_nodelay(&accepted), sockopt::tcp_nodelay(&socket)), (Ok(true), Ok(true)));
    }

    #[test]
    fn a_source_address_takes_no_port_before_it_connects() {
        // What is bound has no port of its own yet, so that connect(2) may choose one that is in use towards others.
        let socket = stream(LOOPBACK).unwrap();
        bind_without_port(&socket, LOOPBACK.ip()).unwrap();
        assert_eq!(address_of(&socket), LOOPBACK);
    }

    #[test]
    fn unacknowledged_counts_what_the_peer_has_not_taken() {
        let listening = listener(LOOPBACK, Presence::Required).unwrap();
        let socket = connect(&endpoint_of(&listening), Source::Kernel, OPTIONS).unwrap();
        assert_eq!(unacknowledged(&socket), Ok(0));
        let mut sent = 0;
        // Nobody accepts, so the window closes before everything is taken.
        while let Ok(n) = send(&socket, &[0; 65536]) {
            sent += n;
        }
        let left = unacknowledged(&socket).unwrap() as usize;
        assert!(left > 0 && left <= sent, "{left} of {sent}");
    }
}

//! Socket options, and the one look-up of interfaces, that no safe crate here offers.
#![allow(
    unsafe_code,
    reason = "setsockopt and ioctl with arguments that std and socket2 do not know, and if_nametoindex"
)]

use std::ffi::{CString, c_int};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

/// The longest TCP-MD5 key (TCP_MD5SIG_MAXKEYLEN).
pub(crate) const MAX_MD5_KEY: usize = 80;

/// `struct tcp_md5sig` of <linux/tcp.h>; libc has only the constants.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: c_int,
    key: [u8; MAX_MD5_KEY],
}

/// Drops segments that come with a smaller TTL or hop limit (GTSM, RFC 5082 §3).
pub(crate) fn set_min_ttl(socket: impl AsFd, ipv6: bool, ttl: u8) -> io::Result<()> {
    let (level, name) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    set(socket, level, name, &c_int::from(ttl))
}

/// Has datagrams over IPv4 say their TTL (ip(7), IP_RECVTTL).
pub(crate) fn set_receive_ttl(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_RECVTTL, &c_int::from(true))
}

/// Signs and checks segments to and from `peer` with `key` (TCP-MD5, RFC 2385); an empty key ends that. On a listener it
/// holds for connections to come.
pub(crate) fn set_md5_key(socket: impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let address = SockAddr::from(SocketAddr::new(peer, 0));
    // SAFETY: every field is an integer or an array of integers, for which all zeros is a value.
    let mut signature: TcpMd5Sig = unsafe { zeroed() };
    // SAFETY: both sides are valid for `address.len()` octets, which is at most the size of sockaddr_storage, and they
    // are different objects.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            (&raw mut signature.address).cast::<u8>(),
            address.len() as usize,
        );
    }
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a TCP-MD5 key has at most 80 octets");
    signature.key.get_mut(..key.len()).ok_or_else(too_long)?.copy_from_slice(key);
    signature.key_len = u16::try_from(key.len()).map_err(|_| too_long())?;
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &signature)
}

/// The number of a network interface, which is the scope of the link-local addresses on it.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the pointer is to a string that ends with a zero octet and outlives the call, which only reads it.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

fn set<T>(socket: impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and so open; pointer and length describe `value`, which outlives the call. The
    // kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Octets written to a TCP socket that the peer's TCP has not acknowledged (SIOCOUTQ, tcp(7)).
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    let mut octets: c_int = 0;
    // SAFETY: the descriptor is borrowed and so open; SIOCOUTQ writes one int through the pointer, which is to one.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) };
    if result == 0 { Ok(u64::try_from(octets).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}

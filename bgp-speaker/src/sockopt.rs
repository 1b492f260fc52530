//! Socket options that no safe crate offers.
#![allow(
    unsafe_code,
    reason = "setsockopt and ioctl with arguments that std, socket2 and rustix do not know"
)]

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Drops segments that come with a smaller TTL or hop limit (GTSM, RFC 5082 §3).
pub(crate) fn set_min_ttl(socket: impl AsFd, ipv6: bool, ttl: u8) -> io::Result<()> {
    let (level, name) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    let value = c_int::from(ttl);
    // SAFETY: the descriptor is borrowed and so open; the pointer and length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
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

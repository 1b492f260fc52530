//! What BFD asks of the kernel and no safe crate offers: the hop limit a packet came with, and real-time priority.
#![allow(
    unsafe_code,
    reason = "control messages come in uninitialised memory, and sched_setscheduler has no wrapper"
)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, Socket};

/// Room for one control message with an int, twice over.
const CONTROL: usize = 64;

/// One datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram<'b> {
    pub(super) payload: &'b [u8],
    pub(super) from: SocketAddr,
    /// TTL or hop limit, where the socket was told to say.
    pub(super) hop_limit: Option<u8>,
}

/// Takes the next datagram; what does not fit into `buffer` is cut off.
pub(super) fn receive<'b>(socket: &Socket, buffer: &'b mut [MaybeUninit<u8>]) -> io::Result<Datagram<'b>> {
    let mut address = SockAddr::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
    let mut control = [MaybeUninit::<u8>::uninit(); CONTROL];
    let mut buffers = [MaybeUninitSlice::new(buffer)];
    let mut message =
        MsgHdrMut::new().with_addr(&mut address).with_buffers(&mut buffers).with_control(&mut control);
    let length = socket.recvmsg(&mut message, 0)?;
    let control_length = message.control_len();
    let from = address.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: recvmsg(2) has written as many octets to the one buffer as it returned.
    let payload = unsafe { written(buffer, length) };
    // SAFETY: and as many to the control buffer as it left in msg_controllen.
    let hop_limit = hop_limit(unsafe { written(&control, control_length) });
    Ok(Datagram { payload, from, hop_limit })
}

/// The first `length` octets, but never more than there are.
///
/// # Safety
/// They have been written.
unsafe fn written(buffer: &[MaybeUninit<u8>], length: usize) -> &[u8] {
    let octets = buffer.get(..length).unwrap_or_default();
    // SAFETY: they are initialised, as the caller has it; MaybeUninit<u8> and u8 have the same layout, and the result
    // borrows what `octets` borrows.
    unsafe { std::slice::from_raw_parts(octets.as_ptr().cast::<u8>(), octets.len()) }
}

/// Looks through `struct cmsghdr`s (cmsg(3)): a length that counts the header, a level, a type, the data.
fn hop_limit(mut control: &[u8]) -> Option<u8> {
    const WORD: usize = size_of::<usize>();
    loop {
        let (length, rest) = control.split_first_chunk::<WORD>()?;
        let (level, rest) = rest.split_first_chunk::<4>()?;
        let (kind, data) = rest.split_first_chunk::<4>()?;
        match (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) {
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                return i32::from_ne_bytes(*data.first_chunk()?).try_into().ok();
            }
            (_, _) => {}
        }
        let length = usize::from_ne_bytes(*length).max(1).checked_next_multiple_of(WORD)?;
        control = control.get(length..)?;
    }
}

/// Puts the calling thread ahead of every normal one: SCHED_FIFO at its lowest priority. What it starts does not inherit
/// that. Needs CAP_SYS_NICE or RLIMIT_RTPRIO.
pub(super) fn run_in_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameters are a valid value that the kernel only reads; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control message as the kernel lays it out.
    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let length = size_of::<usize>() + 8 + data.len();
        let mut octets =
            [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
        octets.resize(length.next_multiple_of(size_of::<usize>()), 0);
        octets
    }

    #[test]
    fn the_hop_limit_is_found_among_other_control_messages() {
        let other = message(libc::SOL_SOCKET, 29, &[1; 13]);
        for (level, kind) in [(libc::IPPROTO_IP, libc::IP_TTL), (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)] {
            let ours = message(level, kind, &255i32.to_ne_bytes());
            assert_eq!(hop_limit(&[other.clone(), ours.clone()].concat()), Some(255));
            assert_eq!(hop_limit(&ours[..ours.len() - 5]), None, "cut off");
        }
        assert_eq!(hop_limit(&other), None);
        assert_eq!(hop_limit(&[0; 64]), None, "lengths of zero end");
        assert_eq!(hop_limit(&[0xFF; 64]), None);
    }
}

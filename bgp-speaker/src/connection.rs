//! One TCP connection with its framer and what is queued for it. Never blocks; counts octets so that acknowledgements
//! can be told apart.

use std::future::pending;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::fsm::{ConnId, Slot};
use crate::md5::Md5Key;
use crate::sockopt;
use crate::wire::Framer;

/// Reads discarded while a closed connection's last octets get through.
const LINGER_READS: usize = 64;

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    /// Our side's address; IPv4 stays IPv4 on a dual-stack socket.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) framer: Framer,
    stream: TcpStream,
    pending: BytesMut,
    /// Octets ever queued.
    queued: u64,
}

impl Connection {
    /// An error: TCP has ended already.
    pub(crate) fn new(id: ConnId, stream: TcpStream) -> io::Result<Self> {
        let (local, remote) = (canonical(stream.local_addr()?), canonical(stream.peer_addr()?));
        let (framer, pending) = (Framer::default(), BytesMut::new());
        Ok(Connection { id, local, remote, framer, stream, pending, queued: 0 })
    }

    /// Waits until [`Connection::read`] or [`Connection::flush`] has something to do; for ever without a connection.
    pub(crate) async fn ready(connection: Option<&Connection>) -> io::Result<Ready> {
        let Some(connection) = connection else { return pending().await };
        let interest = if connection.is_flushed() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        connection.stream.ready(interest).await
    }

    /// One read into the framer; an end of the stream is an error.
    pub(crate) fn read(&mut self) -> io::Result<()> {
        match self.stream.try_read_buf(&mut self.framer.space()) {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn queue(&mut self, octets: BytesMut) {
        self.queued += octets.len() as u64;
        self.pending.unsplit(octets);
    }

    /// Hands TCP as much as it takes now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.stream.try_write(&self.pending) {
                Ok(count) => self.pending.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }
    /// Offset behind the last octet queued.
    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }
    /// Offset behind the last octet that TCP has taken.
    pub(crate) fn written(&self) -> u64 {
        self.queued - self.pending.len() as u64
    }
    /// Offset behind the last octet that the peer's TCP has acknowledged.
    pub(crate) fn acknowledged(&self) -> io::Result<u64> {
        Ok(self.written().saturating_sub(sockopt::unacknowledged(&self.stream)?))
    }

    /// Goes on with another TCP-MD5 key; what is on its way is sent again by TCP, signed with it.
    pub(crate) fn set_md5_key(&self, peer: IpAddr, key: &Md5Key) -> io::Result<()> {
        sockopt::set_md5_key(&self.stream, peer, key.as_bytes())
    }

    /// Resets: the peer learns at once that nothing more will come.
    pub(crate) fn abort(self) {
        if let Err(error) = self.stream.set_zero_linger() {
            tracing::debug!(%error, "cannot reset a BGP connection, closing it");
        }
    }

    /// Lets what is queued get through, then closes. Reading on matters: closing with unread octets would reset, and a
    /// reset overtakes our NOTIFICATION in the peer's receive queue.
    pub(crate) async fn linger(mut self, deadline: Instant) {
        let last_octets = async {
            while !self.is_flushed() {
                self.stream.writable().await?;
                self.flush()?;
            }
            SockRef::from(&self.stream).shutdown(Shutdown::Write)?;
            for _ in 0..LINGER_READS {
                self.stream.readable().await?;
                self.framer = Framer::default();
                self.read()?;
            }
            Ok::<(), io::Error>(())
        };
        // However it ends, the connection is closed when `self` goes.
        if timeout_at(deadline, last_octets).await.is_err() {
            tracing::debug!("a closed BGP connection did not end in time");
        }
    }
}

/// The connections of one peer, at most one per slot.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    outbound: Option<Connection>,
    inbound: Option<Connection>,
}

impl Connections {
    /// Puts it into its slot and returns what was there.
    pub(crate) fn insert(&mut self, connection: Connection) -> Option<Connection> {
        self.slot(connection.id.slot).replace(connection)
    }
    pub(crate) fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.in_slot(id.slot).filter(|connection| connection.id == id)
    }
    pub(crate) fn take(&mut self, id: ConnId) -> Option<Connection> {
        self.slot(id.slot).take_if(|connection| connection.id == id)
    }
    pub(crate) fn in_slot(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.slot(slot).as_mut()
    }
    /// Outbound and inbound.
    pub(crate) fn both(&self) -> [Option<&Connection>; 2] {
        [self.outbound.as_ref(), self.inbound.as_ref()]
    }
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.outbound.iter_mut().chain(&mut self.inbound)
    }
    fn slot(&mut self, slot: Slot) -> &mut Option<Connection> {
        match slot {
            Slot::Outbound => &mut self.outbound,
            Slot::Inbound => &mut self.inbound,
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // Kept as it is: a link-local one has its scope.
        IpAddr::V6(_) => address,
    }
}

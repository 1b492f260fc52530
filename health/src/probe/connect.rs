//! Connecting, so that closing resets: a check leaves no TIME_WAIT behind, and so takes no local port away.

use std::io;

use config::Endpoint;
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::Ending;
use super::stream::{Bounded, Stream};
use crate::outcome::CheckStatus;

pub(super) async fn connect(endpoint: &Endpoint, proxy_header: &[u8]) -> io::Result<Stream> {
    let mut stream: Stream = match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            // On this host, a closed port in the range of local ports can be connected to itself.
            if stream.local_addr()? == *address {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            stream.set_zero_linger()?;
            Bounded::new(Box::new(stream))
        }
        Endpoint::Unix(path) => Bounded::new(Box::new(UnixStream::connect(path).await?)),
    };
    if !proxy_header.is_empty() {
        stream.write_all(proxy_header).await?;
    }
    Ok(stream)
}

pub(super) fn failed(error: &io::Error) -> Ending {
    if is_ours(error) {
        Ending::new(CheckStatus::NotMade, format!("not made, {},", in_words(error)))
    } else {
        Ending::new(CheckStatus::ConnectFailed, in_words(error))
    }
}

/// Whether an error is about this host's resources and so says nothing about the backend.
fn is_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

pub(super) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".into(),
        io::ErrorKind::ConnectionReset => "reset".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::TimedOut => "timed out".into(),
        io::ErrorKind::AddrNotAvailable => "no local address or port is left".into(),
        io::ErrorKind::NotFound => "no such socket".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_descriptor_left_says_nothing_about_the_backend() {
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            assert!(is_ours(&error.into()), "{error}");
            assert_eq!(failed(&error.into()).status, CheckStatus::NotMade);
        }
        for error in
            [Errno::CONNREFUSED, Errno::CONNRESET, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::TIMEDOUT]
        {
            assert!(!is_ours(&error.into()), "{error}");
        }
    }
}

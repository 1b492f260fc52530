//! Standard error, journald or syslog: where a record ends up. Used by the threads that write, which may wait.
#![allow(clippy::disallowed_methods, reason = "a driver: syslog wants the date with each record")]

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::SystemTime;

use config::LogTarget;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const IDENTIFIER: &str = "contrail-lb";
const JOURNALD: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";

/// As syslog numbers it (RFC 5424 §6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

impl From<tracing::Level> for Severity {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Severity::Error,
            tracing::Level::WARN => Severity::Warning,
            tracing::Level::INFO => Severity::Info,
            _ => Severity::Debug,
        }
    }
}

/// The same of facilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facility {
    Daemon = 3,
    /// Where HAProxy's traffic log goes by custom.
    Local0 = 16,
}

/// See the module's text.
pub struct Sink {
    target: LogTarget,
    facility: Facility,
    /// `None`: standard error, or not connected yet.
    socket: Option<Socket>,
    /// The target could not be reached, and that has been said.
    is_lost: bool,
}

enum Socket {
    Local(UnixDatagram),
    Remote(UdpSocket),
}

impl Sink {
    pub fn new(target: LogTarget, facility: Facility) -> Self {
        Sink { target, facility, socket: None, is_lost: false }
    }

    /// Writes one record; where its target cannot be reached, to standard error, and says so once.
    pub fn write(&mut self, severity: Severity, text: &[u8]) {
        let text = text.trim_ascii_end();
        if self.target == LogTarget::Stderr {
            return to_stderr(text);
        }
        match self.send(severity, text) {
            Ok(()) => self.is_lost = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    let where_to = describe(self.target);
                    eprintln!(
                        "contrail-lb: cannot log to {where_to}: {error}; logging to standard error instead"
                    );
                }
                self.socket = None;
                to_stderr(text);
            }
        }
    }

    fn send(&mut self, severity: Severity, text: &[u8]) -> io::Result<()> {
        let datagram = self.datagram(severity, text, OffsetDateTime::from(SystemTime::now()));
        if self.socket.is_none() {
            self.socket = Some(connect(self.target)?);
        }
        match &self.socket {
            Some(Socket::Local(socket)) => socket.send(&datagram).map(drop),
            Some(Socket::Remote(socket)) => socket.send(&datagram).map(drop),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn datagram(&self, severity: Severity, text: &[u8], now: OffsetDateTime) -> Vec<u8> {
        let priority = self.facility as u8 * 8 + severity as u8;
        let process = std::process::id();
        let head = match self.target {
            LogTarget::Stderr => String::new(),
            // Its native protocol: a field of several lines would need another form, ours have one.
            LogTarget::Journald => format!(
                "PRIORITY={}\nSYSLOG_FACILITY={}\nSYSLOG_IDENTIFIER={IDENTIFIER}\nSYSLOG_PID={process}\nMESSAGE=",
                severity as u8, self.facility as u8
            ),
            // What syslog daemons expect of local programs (RFC 3164 §4.1, without the host).
            LogTarget::Syslog => {
                let date = now.format(format_description!(
                    "[month repr:short] [day padding:space] [hour]:[minute]:[second]"
                ));
                format!("<{priority}>{} {IDENTIFIER}[{process}]: ", date.unwrap_or_default())
            }
            LogTarget::SyslogUdp(_) => {
                let date = now.format(&Rfc3339).unwrap_or_else(|_| "-".into());
                format!("<{priority}>1 {date} {} {IDENTIFIER} {process} - - ", hostname())
            }
        };
        let line = |byte: &u8| if *byte == b'\n' { b' ' } else { *byte };
        head.bytes().chain(text.iter().map(line)).collect()
    }
}

fn connect(target: LogTarget) -> io::Result<Socket> {
    let local = |path: &str| {
        let socket = UnixDatagram::unbound()?;
        socket.connect(Path::new(path))?;
        Ok(Socket::Local(socket))
    };
    match target {
        LogTarget::Stderr => Err(io::ErrorKind::Unsupported.into()),
        LogTarget::Journald => local(JOURNALD),
        LogTarget::Syslog => local(SYSLOG),
        LogTarget::SyslogUdp(address) => {
            let any = match address {
                SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            Ok(Socket::Remote(socket))
        }
    }
}

fn describe(target: LogTarget) -> String {
    match target {
        LogTarget::Stderr => "standard error".into(),
        LogTarget::Journald => format!("journald at {JOURNALD}"),
        LogTarget::Syslog => format!("syslog at {SYSLOG}"),
        LogTarget::SyslogUdp(address) => format!("syslog at {address}"),
    }
}

fn to_stderr(text: &[u8]) {
    let mut out = io::stderr().lock();
    // Nowhere left to say that the log cannot be written.
    let _ = out.write_all(text).and_then(|()| out.write_all(b"\n"));
}

fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(target: LogTarget, text: &str) -> String {
        let date = OffsetDateTime::UNIX_EPOCH + time::Duration::new(86_400 * 4, 0);
        let sink = Sink::new(target, Facility::Local0);
        let datagram = sink.datagram(Severity::Warning, text.as_bytes(), date);
        String::from_utf8(datagram).unwrap().replace(&std::process::id().to_string(), "PID")
    }

    #[test]
    fn each_target_gets_the_form_it_reads() {
        assert_eq!(datagram(LogTarget::Syslog, "a b"), "<132>Jan  5 00:00:00 contrail-lb[PID]: a b");
        let remote = datagram(LogTarget::SyslogUdp(([192, 0, 2, 1], 514).into()), "a b");
        assert!(remote.starts_with("<132>1 1970-01-05T00:00:00Z "), "{remote}");
        assert!(remote.ends_with(" contrail-lb PID - - a b"), "{remote}");
        let journald = datagram(LogTarget::Journald, "a b");
        assert!(journald.starts_with("PRIORITY=4\nSYSLOG_FACILITY=16\n"), "{journald}");
        assert!(journald.ends_with("\nMESSAGE=a b"), "{journald}");
    }

    #[test]
    fn a_record_stays_on_one_line_so_that_nobody_writes_fields_or_records_of_his_own() {
        assert!(datagram(LogTarget::Journald, "a\nPRIORITY=0").ends_with("MESSAGE=a PRIORITY=0"));
    }

    #[test]
    fn records_reach_a_syslog_server() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sink = Sink::new(LogTarget::SyslogUdp(server.local_addr().unwrap()), Facility::Daemon);
        sink.write(Severity::Error, b"it burns\n");
        let mut buffer = [0; 512];
        let n = server.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..n]);
        assert!(text.starts_with("<27>1 ") && text.ends_with("it burns"), "{text}");
    }
}

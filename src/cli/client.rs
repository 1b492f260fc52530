//! One command to the running daemon over its admin socket: a line out, the reply until the daemon closes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Exit;

/// How long a reply may take; `reload` waits for withdrawn routes to be acknowledged.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends `command` and returns the reply without its closing empty line. On failure the reason has been printed.
pub fn ask(socket: &Path, command: &str) -> Result<String, Exit> {
    exchange(socket, command).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "is contrail-lb running, and with this admin.socket?",
            std::io::ErrorKind::ConnectionRefused => {
                "the socket is there but nobody listens: contrail-lb has died"
            }
            std::io::ErrorKind::PermissionDenied => "the socket belongs to root and its group: use sudo",
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "it accepts but does not answer",
            _ => "see the daemon's log",
        };
        eprintln!("contrail-lb: cannot ask the daemon at {}: {error}; {hint}", socket.display());
        Exit::Unavailable
    })
}

fn exchange(socket: &Path, command: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    if reply.ends_with('\n') {
        reply.pop();
    }
    Ok(reply)
}

/// Prints a reply that is meant for people or, with `--json`, for programs.
pub fn print(socket: &Path, command: &str) -> Exit {
    match ask(socket, command) {
        Ok(reply) => {
            // The reader may have gone away (`| head`): not our failure.
            let _ = std::io::stdout().write_all(reply.as_bytes());
            Exit::Done
        }
        Err(exit) => exit,
    }
}

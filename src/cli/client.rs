//! One command to the running daemon over its admin socket: a line out, the reply until the daemon closes.

use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Exit;

/// How long a reply may take; `reload` waits for sessions it ends.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends `command` and returns the reply without its closing empty line. On failure the reason has been printed.
pub fn ask(socket: &Path, command: &str) -> Result<String, Exit> {
    exchange(socket, command).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "is contrail-lb running, and with this admin.socket?",
            std::io::ErrorKind::ConnectionRefused => why_refused(socket),
            std::io::ErrorKind::PermissionDenied => "the socket belongs to root and its group: use sudo",
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "it accepts but does not answer",
            _ => "see the daemon's log",
        };
        eprintln!("contrail-lb: cannot ask the daemon at {}: {error}; {hint}", socket.display());
        Exit::Unavailable
    })
}

/// The kernel refuses a connection to a file that is no socket as it does one to a socket where nobody listens.
fn why_refused(path: &Path) -> &'static str {
    match std::fs::metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            "that file is no socket: give --socket the path of admin.socket"
        }
        Ok(_) | Err(_) => "the socket is there but nobody listens: contrail-lb has died",
    }
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

/// Has the daemon carry out a command, and prints how that ended: a refusal on standard error and in the exit code.
pub fn carry_out(socket: &Path, command: &str, as_json: bool) -> Exit {
    let reply = match ask(socket, &format!("{command} json")) {
        Ok(reply) => reply,
        Err(exit) => return exit,
    };
    let Ok(outcome) = serde_json::from_str::<serde_json::Value>(&reply) else {
        eprintln!("contrail-lb: the daemon answered: {}", reply.trim_end());
        return Exit::Unavailable;
    };
    let ok = outcome["ok"].as_bool().unwrap_or(false);
    let text =
        if as_json { reply.trim_end() } else { outcome["text"].as_str().unwrap_or_default().trim_end() };
    // The reader may have gone away (`| head`): not our failure.
    let _ = if ok || as_json {
        writeln!(std::io::stdout(), "{text}")
    } else {
        writeln!(std::io::stderr(), "{text}")
    };
    if ok { Exit::Done } else { Exit::Unavailable }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_file_that_is_no_socket_is_told_from_a_socket_where_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let (file, dead) = (folder.path().join("file"), folder.path().join("dead.sock"));
        std::fs::write(&file, "").unwrap();
        drop(UnixListener::bind(&dead).unwrap());
        for (path, hint) in [(&file, "no socket"), (&dead, "has died")] {
            assert_eq!(UnixStream::connect(path).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
            assert!(why_refused(path).contains(hint), "{hint}");
        }
    }
}

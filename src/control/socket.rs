//! The runtime socket: HAProxy's framing of commands and replies over a Unix stream socket, mode 0660.
//!
//! A command is a line; `;` separates commands; a reply is its lines and then one empty line. One shot by default: the
//! connection is closed once what arrived has been run. `prompt` keeps it open. One task per connection, at most
//! [`MAX_CONNECTIONS`] at once, each with a bounded line and a time limit, so a silent client costs nothing lasting.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::command::{self, Reply, Session};
use crate::app::Daemon;

/// Connections served at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 64;
/// The longest command line.
const MAX_LINE: usize = 16 * 1024;
/// How long a silent connection is kept; `set timeout cli` changes it.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a client may take to read one reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the runtime socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("admin.socket {path}: another contrail-lb answers there; stop it or give this one its own path")]
    Taken { path: PathBuf },
    #[error("admin.socket {path}: there is a file there that is no socket; remove it or choose another path")]
    NotASocket { path: PathBuf },
    #[error("admin.socket {path}: cannot {doing}: {source}")]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
}

/// The listening socket; its file is removed when this is dropped.
pub struct RuntimeSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl RuntimeSocket {
    /// Listens at `path`, replacing the file of a daemon that died, never that of one that lives.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let fail = |doing| move |source| SocketError::Io { path: path.to_owned(), doing, source };
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(SocketError::NotASocket { path: path.to_owned() });
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(SocketError::Taken { path: path.to_owned() });
            }
            Ok(_) | Err(_) => {}
        }
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(fail("make its folder"))?;
        }
        // Made under another name and renamed: nobody can connect before the mode is right.
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(fail("bind"))?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o660))
            .map_err(fail("set its mode"))?;
        std::fs::rename(&fresh, path).map_err(fail("put it in place"))?;
        Ok(RuntimeSocket { path: path.to_owned(), listener })
    }

    /// Serves until dropped.
    pub async fn serve(self, daemon: Arc<Daemon>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let daemon = Arc::clone(&daemon);
                    tokio::spawn(async move {
                        // A client that went away is its own affair.
                        let _ = serve_connection(stream, &daemon).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin.socket: cannot accept");
                    tokio::time::interval_at(tokio::time::Instant::now() + ACCEPT_PAUSE, ACCEPT_PAUSE)
                        .tick()
                        .await;
                }
            }
        }
    }
}

impl Drop for RuntimeSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve_connection(mut stream: UnixStream, daemon: &Arc<Daemon>) -> io::Result<()> {
    let mut session = Session::default();
    let mut waiting = Vec::new();
    loop {
        let mut chunk = [0u8; 4096];
        let read = timeout(session.idle_timeout, stream.read(&mut chunk)).await??;
        if read == 0 {
            return Ok(()); // a line without its end gets no reply
        }
        waiting.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let mut ran = false;
        while let Some(line) = take_line(&mut waiting) {
            ran = true;
            if !run_line(&mut stream, daemon, &mut session, &line).await? {
                return Ok(());
            }
        }
        if ran && !session.interactive {
            return stream.shutdown().await;
        }
        if waiting.len() > MAX_LINE {
            return Ok(());
        }
    }
}

/// Runs the commands of one line; false when the connection is to be closed.
async fn run_line(
    stream: &mut UnixStream,
    daemon: &Arc<Daemon>,
    session: &mut Session,
    line: &str,
) -> io::Result<bool> {
    for text in line.split(';') {
        let was_interactive = session.interactive;
        let reply = match command::run(daemon, session, text.trim()).await {
            Reply::Text(text) => frame(&text, session.interactive),
            Reply::Quit => return Ok(false),
        };
        timeout(WRITE_TIMEOUT, stream.write_all(reply.as_bytes())).await??;
        if was_interactive && !session.interactive {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The next whole line without its end, a comment removed; `None` until the line feed is there.
fn take_line(waiting: &mut Vec<u8>) -> Option<String> {
    let end = waiting.iter().position(|&b| b == b'\n')?;
    let line: Vec<u8> = waiting.drain(..=end).collect();
    let text = String::from_utf8_lossy(&line);
    let text = text.split('#').next().unwrap_or_default();
    Some(text.trim().to_owned())
}

/// A reply on the wire: its lines, an empty line, and the prompt when interactive.
fn frame(text: &str, interactive: bool) -> String {
    let mut reply = String::with_capacity(text.len() + 4);
    reply.push_str(text);
    if !text.is_empty() && !text.ends_with('\n') {
        reply.push('\n');
    }
    reply.push('\n');
    if interactive {
        reply.push_str("> ");
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_in_one_empty_line_and_a_silent_success_is_only_that() {
        assert_eq!(frame("a\nb", false), "a\nb\n\n");
        assert_eq!(frame("a\n", false), "a\n\n");
        assert_eq!(frame("", false), "\n");
        assert_eq!(frame("", true), "\n> ");
    }

    #[test]
    fn a_line_is_taken_only_when_whole_and_loses_comment_and_carriage_return() {
        let mut waiting = b"show version # why not\r\nhel".to_vec();
        assert_eq!(take_line(&mut waiting).as_deref(), Some("show version"));
        assert_eq!(take_line(&mut waiting), None);
        assert_eq!(waiting, b"hel");
    }
}

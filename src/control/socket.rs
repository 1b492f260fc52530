//! The runtime socket: HAProxy's framing of commands and replies over a Unix stream socket, mode 0660.
//!
//! A command is a line; `;` separates commands; a reply is its lines and then one empty line. One shot by default: the
//! connection is closed once what arrived has been run. `prompt` keeps it open. One task per connection, at most
//! [`MAX_CONNECTIONS`] at once and [`MAX_INTERACTIVE`] of them kept open, each with a bounded line, bounded replies and a
//! time limit for every line, so a silent client costs nothing lasting and never locks out a `status` or `reload`.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::command::{Commands, Reply, Session};

/// Connections served at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 64;
/// How many of them may be interactive, which may last days.
const MAX_INTERACTIVE: usize = 32;
/// The longest command line.
const MAX_LINE: usize = 16 * 1024;
/// Commands of one line.
const MAX_COMMANDS: usize = 256;
/// Octets of replies to one line after which no further command of it is run.
const MAX_REPLIES: usize = 16 * 1024 * 1024;
/// How long a line may take to arrive; `set timeout cli` changes it for an interactive connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client may take to read one reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the runtime socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("admin.socket {path}: another contrail-lb answers there; stop it or give this one its own path")]
    Taken { path: PathBuf },
    #[error("admin.socket {path}: there is a file there that is no socket; remove it or choose another path")]
    NotASocket { path: PathBuf },
    #[error("admin.socket {path}: cannot {doing}")]
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
    pub async fn serve(self, commands: Arc<impl Commands>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let interactive_slots = Arc::new(Semaphore::new(MAX_INTERACTIVE));
        let mut failures = AcceptFailures::of("admin.socket");
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let Some((stream, _)) = failures.look_at(self.listener.accept().await).await else { continue };
            let (commands, interactive_slots) = (Arc::clone(&commands), Arc::clone(&interactive_slots));
            tokio::spawn(async move {
                // A client that went away is its own affair.
                let _ = Connection::new(stream, interactive_slots).serve(&*commands).await;
                drop(slot);
            });
        }
    }
}

impl Drop for RuntimeSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Failures to accept (out of descriptors, say): logged once per episode, each followed by a pause.
#[derive(Debug)]
pub(super) struct AcceptFailures {
    listener: &'static str,
    ongoing: bool,
}

impl AcceptFailures {
    /// `listener` is the key of the configuration that asked for it.
    pub(super) fn of(listener: &'static str) -> Self {
        AcceptFailures { listener, ongoing: false }
    }

    /// Hands on what was accepted; after a failure, `None` once the pause is over.
    pub(super) async fn look_at<T>(&mut self, accepted: io::Result<T>) -> Option<T> {
        let is_news = self.is_news(accepted.is_err());
        match accepted {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                if is_news {
                    tracing::warn!(%error, "{}: cannot accept", self.listener);
                }
                tokio::time::sleep_until(tokio::time::Instant::now() + ACCEPT_PAUSE).await;
                None
            }
        }
    }

    /// Whether a failure is the first of an episode.
    fn is_news(&mut self, has_failed: bool) -> bool {
        let was_ongoing = std::mem::replace(&mut self.ongoing, has_failed);
        has_failed && !was_ongoing
    }
}

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Close,
}

/// One client.
struct Connection {
    stream: UnixStream,
    session: Session,
    interactive_slots: Arc<Semaphore>,
    /// Held while interactive.
    interactive_slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn new(stream: UnixStream, interactive_slots: Arc<Semaphore>) -> Self {
        Connection { stream, session: Session::default(), interactive_slots, interactive_slot: None }
    }

    async fn serve(mut self, commands: &impl Commands) -> io::Result<()> {
        let mut waiting = Vec::new();
        loop {
            let next = next_line(&mut self.stream, &mut waiting);
            let Some(line) = timeout(self.session.idle_timeout, next).await?? else { return Ok(()) };
            if self.run_line(commands, &line).await? == Next::Close {
                return Ok(());
            }
            if !self.session.interactive && !waiting.contains(&b'\n') {
                return self.stream.shutdown().await;
            }
        }
    }

    /// Runs the commands of one line. An empty command is none; an empty line of an interactive client is answered with
    /// the list of commands, as HAProxy does.
    async fn run_line(&mut self, commands: &impl Commands, line: &str) -> io::Result<Next> {
        let asks_for_help = line.is_empty() && self.session.interactive;
        let texts = line.split(';').map(str::trim).filter(|text| asks_for_help || !text.is_empty());
        match texts.clone().count() {
            0 => return self.send("").await.map(|_| Next::GoOn),
            1..=MAX_COMMANDS => {}
            count => {
                let refusal = format!("Too many commands on one line: {count}, at most {MAX_COMMANDS}.\n");
                return self.send(&refusal).await.map(|_| Next::GoOn);
            }
        }
        let mut sent = 0;
        for text in texts {
            if sent > MAX_REPLIES {
                self.send("Too much output for one line: ask for less at once.\n").await?;
                return Ok(Next::Close);
            }
            let was_interactive = self.session.interactive;
            let reply = match commands.run(&mut self.session, text).await {
                Reply::Text(reply) => reply,
                Reply::Quit => return Ok(Next::Close),
            };
            if self.session.interactive && !self.take_interactive_slot() {
                self.session.interactive = false;
                self.send("Too many interactive connections: close one of them.\n").await?;
                return Ok(Next::Close);
            }
            sent += self.send(&reply).await?;
            if was_interactive && !self.session.interactive {
                return Ok(Next::Close);
            }
        }
        Ok(Next::GoOn)
    }

    fn take_interactive_slot(&mut self) -> bool {
        if self.interactive_slot.is_none() {
            self.interactive_slot = Arc::clone(&self.interactive_slots).try_acquire_owned().ok();
        }
        self.interactive_slot.is_some()
    }

    /// Sends one reply; returns its octets.
    async fn send(&mut self, text: &str) -> io::Result<usize> {
        let reply = frame(text, self.session.interactive);
        timeout(WRITE_TIMEOUT, self.stream.write_all(reply.as_bytes())).await??;
        Ok(reply.len())
    }
}

/// The next whole line; `None` at the end (a line without its end gets no reply) and where a line is too long.
async fn next_line(stream: &mut UnixStream, waiting: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(line) = take_line(waiting) {
            return Ok(Some(line));
        }
        if waiting.len() > MAX_LINE {
            return Ok(None);
        }
        let mut chunk = [0u8; 4096];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(None);
        }
        waiting.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
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

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(30);

    /// Repeats the command it was asked to run; knows `prompt` and `big`.
    struct Echo;

    impl Commands for Echo {
        async fn run(&self, session: &mut Session, command: &str) -> Reply {
            Reply::Text(match command {
                "prompt" => {
                    session.interactive = !session.interactive;
                    String::new()
                }
                "big" => "x".repeat(MAX_REPLIES),
                _ => format!("<{command}>"),
            })
        }
    }

    fn daemon() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        tokio::spawn(RuntimeSocket::bind(&path).unwrap().serve(Arc::new(Echo)));
        (folder, path)
    }

    async fn open(path: &Path, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        stream
    }

    /// All that a client is told until the connection is closed.
    async fn ask(path: &Path, line: &str) -> String {
        let mut stream = open(path, line).await;
        let mut reply = String::new();
        timeout(LONG, stream.read_to_string(&mut reply)).await.expect("an end").unwrap();
        reply
    }

    #[tokio::test]
    async fn interactive_clients_leave_room_for_one_shot_clients() {
        let (_folder, path) = daemon();
        let mut interactive = Vec::new();
        for _ in 0..MAX_INTERACTIVE {
            let mut stream = open(&path, "prompt\n").await;
            let mut reply = [0; 3];
            stream.read_exact(&mut reply).await.unwrap();
            assert_eq!(&reply, b"\n> ");
            interactive.push(stream);
        }
        assert!(ask(&path, "prompt\n").await.starts_with("Too many interactive connections"));
        assert_eq!(ask(&path, "status\n").await, "<status>\n\n");
        interactive.pop();
        // The place is given back when the daemon notices.
        let again = async { while ask(&path, "prompt; prompt\n").await.starts_with("Too many") {} };
        timeout(LONG, again).await.expect("a place given back");
    }

    #[tokio::test]
    async fn empty_commands_are_silent_but_an_empty_interactive_line_asks_for_help() {
        let (_folder, path) = daemon();
        assert_eq!(ask(&path, "a;; b ;\n").await, "<a>\n\n<b>\n\n");
        assert_eq!(ask(&path, "\n").await, "\n");
        assert_eq!(ask(&path, "prompt\n\n;\nprompt\n").await, "\n> <>\n\n> \n> \n");
    }

    #[tokio::test]
    async fn the_commands_and_the_output_of_a_line_are_bounded() {
        let (_folder, path) = daemon();
        let many = |commands| format!("{}\n", "a;".repeat(commands));
        assert_eq!(ask(&path, &many(MAX_COMMANDS)).await, "<a>\n\n".repeat(MAX_COMMANDS));
        let refusal = "Too many commands on one line: 257, at most 256.\n\n";
        assert_eq!(ask(&path, &many(MAX_COMMANDS + 1)).await, refusal);
        let cut = ask(&path, "big; big; big\n").await;
        assert_eq!(cut.len() / MAX_REPLIES, 1, "the second is not run");
        assert!(cut.ends_with("Too much output for one line: ask for less at once.\n\n"));
    }

    #[test]
    fn failures_to_accept_are_news_once_per_episode() {
        let mut failures = AcceptFailures::of("admin.socket");
        let news = [true, true, true, false, true].map(|has_failed| failures.is_news(has_failed));
        assert_eq!(news, [true, false, false, false, true]);
    }

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

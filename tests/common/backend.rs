//! Mock backends in this process: a listener with one accept thread, and a thread per connection.
//!
//! What a backend does with a connection is its [`Manner`], which a test may change at any time; it applies to
//! connections accepted from then on. [`Backend::stop`] is what a killed process does to its sockets; the same address
//! can be started again.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;

use super::http::read_head;

/// The path that checks ask for; such requests are not counted.
pub const CHECK_PATH: &str = "/check";

const BACKLOG: i32 = 4096;

/// What a backend does with the connections it accepts.
#[derive(Debug, Clone)]
pub enum Manner {
    /// HTTP: `/` answers the backend's name, `/bytes/N` a body of N bytes. Keeps the connection if asked to.
    Http,
    /// HTTP with this status, the name as body.
    Status(u16),
    /// HTTP whose answers other than to checks wait for the gate to open.
    Gated(Gate),
    /// HTTP that promises a mebibyte, sends half of it and resets.
    ResetMidBody,
    /// HTTP that reads a request and resets instead of an answer.
    ResetUnanswered,
    /// Sends back what it gets, and ends when the client ends.
    Echo,
    /// Reads to the end of the client's data, and only then answers how many bytes there were.
    CountThenAnswer,
    /// Ends its own direction at once, reads on, and counts what it reads in [`Backend::received`].
    EndThenRead,
    /// Reads to the end of the client's data without an answer, then ends too.
    Silent,
    /// The same, but does not end until it is reset or stopped.
    NeverEnd,
    CloseAtOnce,
    ResetAtOnce,
    /// Sends one byte, then ends.
    OneByte,
    /// Sends without end and reads nothing.
    Flood,
    /// Neither reads nor sends nor ends.
    Deaf,
}

/// Closed until opened, then open for good.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let guard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(guard, |open| !*open));
    }
}

#[derive(Debug)]
pub struct Backend {
    shared: Arc<Shared>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    addr: SocketAddr,
    manner: Mutex<Manner>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    received: AtomicUsize,
}

/// Those that are open, by the number of their acceptance. Whoever drops the last handle closes one.
type Connections = Arc<Mutex<BTreeMap<usize, Arc<TcpStream>>>>;

#[derive(Debug)]
struct Running {
    listener: TcpListener,
    connections: Connections,
    acceptor: JoinHandle<()>,
}

impl Backend {
    pub fn start(name: &str, addr: SocketAddr, manner: Manner) -> Self {
        let mut backend = Backend::stopped(name, addr, manner);
        backend.start_again();
        backend
    }

    /// One that refuses connections until [`Backend::start_again`].
    pub fn stopped(name: &str, addr: SocketAddr, manner: Manner) -> Self {
        let shared = Shared {
            name: name.into(),
            addr,
            manner: Mutex::new(manner),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
        };
        Backend { shared: Arc::new(shared), running: None }
    }

    pub fn http(name: &str, addr: SocketAddr) -> Self {
        Backend::start(name, addr, Manner::Http)
    }

    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "{} is running", self.name());
        let listener = TcpListener::bind(self.addr())
            .unwrap_or_else(|e| panic!("backend {} cannot listen on {}: {e}", self.name(), self.addr()));
        // With std's short queue a burst makes the kernel answer by SYN cookies, and connections that ended before they were
        // accepted then live on here.
        rustix::net::listen(&listener, BACKLOG).expect("a longer queue");
        let connections = Connections::default();
        let acceptor = {
            let listener = listener.try_clone().expect("a second handle of the listener");
            let (shared, connections) = (Arc::clone(&self.shared), Arc::clone(&connections));
            thread::spawn(move || accept(&listener, &shared, &connections))
        };
        self.running = Some(Running { listener, connections, acceptor });
    }

    /// Closes the listener and every connection. New connections are refused when this returns.
    pub fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        // Wakes the accept thread, which then drops its handle: the port is free once it is joined.
        let _ = rustix::net::shutdown(&running.listener, rustix::net::Shutdown::Both);
        drop(running.listener);
        let _ = running.acceptor.join();
        for connection in std::mem::take(&mut *lock(&running.connections)).into_values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Manner::Gated(gate) = self.shared.manner() {
            gate.open();
        }
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Connections accepted so far, checks included.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now, checks included.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// HTTP requests so far, checks not included.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Bytes read by [`Manner::EndThenRead`] so far.
    pub fn received(&self) -> usize {
        self.shared.received.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn manner(&self) -> Manner {
        self.manner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn lock(connections: &Connections) -> MutexGuard<'_, BTreeMap<usize, Arc<TcpStream>>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, connections: &Connections) {
    while let Ok((stream, _)) = listener.accept() {
        let stream = Arc::new(stream);
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        lock(connections).insert(number, Arc::clone(&stream));
        let (shared, connections) = (Arc::clone(shared), Arc::clone(connections));
        thread::spawn(move || {
            // The client may end it at any point; what matters is what the client saw.
            let _ = serve(&stream, &shared);
            lock(&connections).remove(&number);
            drop(stream);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    let manner = shared.manner();
    match &manner {
        Manner::Http
        | Manner::Status(_)
        | Manner::Gated(_)
        | Manner::ResetMidBody
        | Manner::ResetUnanswered => {
            while serve_http(stream, shared, &manner)? {}
            Ok(())
        }
        Manner::Echo => io::copy(&mut &*stream, &mut &*stream).map(drop),
        Manner::CountThenAnswer => {
            let n = io::copy(&mut &*stream, &mut io::sink())?;
            (&*stream).write_all(format!("{n} bytes").as_bytes())
        }
        Manner::EndThenRead => {
            stream.shutdown(Shutdown::Write)?;
            let mut chunk = [0; 4096];
            loop {
                match (&*stream).read(&mut chunk)? {
                    0 => return Ok(()),
                    n => shared.received.fetch_add(n, Ordering::SeqCst),
                };
            }
        }
        Manner::Silent => io::copy(&mut &*stream, &mut io::sink()).map(drop),
        Manner::NeverEnd => {
            io::copy(&mut &*stream, &mut io::sink())?;
            await_both_ends(stream)
        }
        Manner::CloseAtOnce => Ok(()),
        Manner::ResetAtOnce => reset_on_close(stream),
        Manner::OneByte => (&*stream).write_all(b"1"),
        Manner::Flood => loop {
            (&*stream).write_all(&[b'x'; 65536])?;
        },
        Manner::Deaf => await_both_ends(stream),
    }
}

/// No event is asked for: what is left is the end of both directions, or a RST.
fn await_both_ends(stream: &TcpStream) -> io::Result<()> {
    poll(&mut [PollFd::new(stream, PollFlags::empty())], None)?;
    Ok(())
}

/// One request; `false` when the connection is to end.
fn serve_http(mut stream: &TcpStream, shared: &Shared, manner: &Manner) -> io::Result<bool> {
    let (head, _) = read_head(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or("/");
    let is_check = path == CHECK_PATH;
    if !is_check {
        shared.requests.fetch_add(1, Ordering::SeqCst);
    }
    let keep = !head.to_ascii_lowercase().contains("connection: close");
    let status = if let Manner::Status(status) = manner { *status } else { 200 };
    match manner {
        Manner::Gated(gate) if !is_check => gate.pass(),
        Manner::ResetUnanswered if !is_check => {
            reset_on_close(stream)?;
            return Ok(false);
        }
        Manner::ResetMidBody if !is_check => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n")?;
            stream.write_all(&vec![b'x'; 512 * 1024])?;
            reset_on_close(stream)?;
            return Ok(false);
        }
        _ => {}
    }
    let body = match path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
        Some(n) => vec![b'x'; n],
        None => shared.name.clone().into_bytes(),
    };
    let connection = if keep { "keep-alive" } else { "close" };
    let mut answer = format!(
        "HTTP/1.1 {status} Mock\r\nX-Backend: {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        shared.name,
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    stream.write_all(&answer)?;
    Ok(keep)
}

/// Makes the close that follows a RST.
fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(stream, Some(Duration::ZERO))?)
}

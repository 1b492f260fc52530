//! What the data plane's tests share: a plane on a reserved loopback port, scripted backends, and waiting for conditions.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "waiting for a condition needs a clock to give up by")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use config::{BackendId, Engine, Name, Service, Timeouts};
use lb_core::{
    BackendStats, CloseReason, ConnectFailure, DataPlane, Eligible, Observer, PlaneOptions, ServiceStats,
    Standing,
};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

/// Longer than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A port that nobody else is given while this lives, and that can still be listened on.
pub struct Reserved {
    pub address: SocketAddr,
    _socket: OwnedFd,
}

impl Reserved {
    pub fn new(ip: IpAddr) -> Self {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        bind(&socket, &SocketAddr::new(ip, 0)).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        Reserved { address, _socket: socket }
    }
}

/// A configuration of one service with backends `b0`, `b1`, … of weight 1, without checks, with long timeouts. They may
/// be none, or listeners of another plane, which no file may say.
pub fn service(listen: SocketAddr, backends: &[SocketAddr]) -> Service {
    let mut text =
        format!("[[service]]\nname = \"web\"\nlisten = [\"{listen}\"]\ncheck = {{ kind = \"none\" }}\n");
    for index in 0..backends.len().max(1) {
        let address = format!("192.0.2.1:{}", index + 1);
        text.push_str(&format!("[[service.backend]]\nname = \"b{index}\"\naddress = \"{address}\"\n"));
    }
    let mut service = config::parse(&text, "test").unwrap().config.services.remove(0);
    service.backends.truncate(backends.len());
    for (backend, address) in service.backends.iter_mut().zip(backends) {
        backend.address = (*address).into();
    }
    let Timeouts { connect, client, server, client_fin, server_fin, .. } = &mut service.timeouts;
    for timeout in [connect, client, server, client_fin, server_fin] {
        *timeout = LONG;
    }
    service
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Remembers the failed connects it is told of.
#[derive(Default)]
pub struct Failures(Mutex<Vec<(BackendId, ConnectFailure)>>);

impl Observer for Failures {
    fn connect_failed(&self, backend: &BackendId, failure: &ConnectFailure) {
        self.0.lock().unwrap().push((backend.clone(), failure.clone()));
    }
}

impl Failures {
    pub fn all(&self) -> Vec<(BackendId, ConnectFailure)> {
        self.0.lock().unwrap().clone()
    }
}

/// A running plane with one service, all of its backends eligible.
pub struct Lab {
    pub plane: DataPlane,
    pub address: SocketAddr,
    pub service: Service,
    pub failures: Arc<Failures>,
    _port: Reserved,
}

/// Workers, and connections at most.
pub const ONE_WORKER: (usize, u32) = (1, 1000);

/// How a plane of this size is started. With `LB_CORE_ENGINE=epoll` these tests test the engine of hosts that have no io_uring.
pub fn options((workers, max_connections): (usize, u32)) -> PlaneOptions {
    let epoll = std::env::var("LB_CORE_ENGINE").is_ok_and(|engine| engine == "epoll");
    PlaneOptions { workers, max_connections, engine: if epoll { Engine::Epoll } else { Engine::IoUring } }
}

impl Lab {
    pub fn new(backends: &[SocketAddr]) -> Self {
        Self::with(ONE_WORKER, backends, |_| {})
    }

    pub fn with(size: (usize, u32), backends: &[SocketAddr], change: impl FnOnce(&mut Service)) -> Self {
        let port = Reserved::new(LOCALHOST);
        let mut service = service(port.address, backends);
        change(&mut service);
        let failures = Arc::new(Failures::default());
        let plane = DataPlane::start(options(size), failures.clone()).unwrap();
        let lab = Lab { plane, address: port.address, service, failures, _port: port };
        lab.apply(std::slice::from_ref(&lab.service));
        lab.set_all(Eligible::Yes);
        lab
    }

    pub fn apply(&self, services: &[Service]) -> lb_core::Applied {
        self.plane.commit(self.plane.prepare(services).unwrap())
    }

    pub fn set_all(&self, eligible: Eligible) {
        (0..self.service.backends.len()).for_each(|index| self.set(index, eligible));
    }

    pub fn set(&self, index: usize, standing: impl Into<Standing>) {
        self.plane.set_standing(&[(self.id(index), standing.into())]);
    }

    pub fn id(&self, index: usize) -> BackendId {
        self.service.backend_id(&self.service.backends[index])
    }

    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    pub fn stats(&self) -> ServiceStats {
        self.plane.stats().services.remove(0)
    }

    pub fn backend(&self, index: usize) -> BackendStats {
        self.stats().backends.remove(index)
    }

    /// Waits until one connection has ended for this reason.
    pub fn await_close(&self, reason: CloseReason) {
        eventually(&format!("a connection ends: {reason}"), || self.stats().closes.of(reason) == 1);
    }
}

/// A connection whose reads and writes fail rather than wait for ever.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    patient(&stream);
    stream
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// Closes with RST.
pub fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

/// Waits for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A backend: runs `script` on each connection, in a thread of its own.
pub struct Server {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn new(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::new(LOCALHOST, 0), script)
    }

    pub fn at(address: SocketAddr, script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for stream in listener.incoming() {
                    if stopped.load(SeqCst) {
                        return;
                    }
                    let (stream, script) = (stream.unwrap(), &script);
                    patient(&stream);
                    scope.spawn(move || script(stream));
                }
            });
        });
        Server { address, stop, thread: Some(thread) }
    }

    /// Sends back what it gets, up to the end of the stream.
    pub fn echo() -> Self {
        Self::new(|mut stream| {
            let mut writer = stream.try_clone().unwrap();
            let _ = io::copy(&mut stream, &mut writer);
        })
    }

    /// Sends this and closes.
    pub fn saying(text: &'static str) -> Self {
        Self::new(move |mut stream| {
            let _ = stream.write_all(text.as_bytes());
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A loopback address on which nothing listens.
pub struct Refusing(Reserved);

impl Refusing {
    pub fn new() -> Self {
        Refusing(Reserved::new(LOCALHOST))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// A loopback address that does not answer: its queue is full, so the kernel drops what comes.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: OwnedFd,
    _waiting: TcpStream,
}

impl BlackHole {
    pub fn new() -> Self {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddr::new(LOCALHOST, 0)).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        BlackHole { address, _listener: listener, _waiting: waiting }
    }
}

/// Bytes that do not repeat for long, so that a lost or doubled piece shows.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Reads to the end and asserts that the end is a RST.
pub fn assert_reset(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        Ok(_) => panic!("a clean end after {} bytes", bytes.len()),
    }
}

//! The load on the data plane costs the checks nothing, and the crowd at the control side costs the data plane nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use rustix::process::setpriority_process;

use crate::common::SOON;
use crate::common::backend::Backend;
use crate::common::configuration::{UNCHECKED, service};
use crate::common::daemon::Daemon;
use crate::common::eventually::eventually;
use crate::common::http;
use crate::common::load::Load;
use crate::common::ports::Loopback;
use crate::common::status::{Status, wait_health};

const INTERVAL: Duration = Duration::from_millis(200);
const WATCHED: usize = 8;
const GAPS: usize = 25;

/// A backend that does nothing but note when it is connected to.
struct Watched {
    addr: SocketAddr,
    listener: TcpListener,
    seen: Arc<Mutex<Vec<Instant>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Watched {
    fn start(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let (accepting, seen) = (listener.try_clone().unwrap(), Arc::<Mutex<Vec<_>>>::default());
        let noted = Arc::clone(&seen);
        let acceptor = thread::spawn(move || {
            // Where this is permitted, no clock stands still because a client of the load has the processor.
            let _ = setpriority_process(None, -15);
            while accepting.accept().is_ok() {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        });
        Watched { addr, listener, seen, acceptor: Some(acceptor) }
    }

    fn seen(&self) -> Vec<Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.acceptor.take().map(JoinHandle::join);
    }
}

fn at(part: f64, sorted: &[Duration]) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

#[test]
fn checks_keep_their_pace_while_the_data_plane_is_saturated() {
    let lab = Loopback::take();
    let fronts: Vec<_> = (0..8).map(|_| lab.addr()).collect();
    let backends = ["a", "b"].map(|name| Backend::http(name, lab.addr()));
    let watched: Vec<_> = (0..WATCHED).map(|_| Watched::start(lab.addr())).collect();
    let check = format!("check = {{ kind = \"tcp\", interval = \"{INTERVAL:?}\" }}\n");
    let mut config = service("web", &fronts, UNCHECKED, &backends.each_ref());
    config += &service("watched", &[lab.addr()], &check, &[]);
    for (n, Watched { addr, .. }) in watched.iter().enumerate() {
        config += &format!("[[service.backend]]\nname = \"w{n}\"\naddress = \"{addr}\"\n");
    }
    let daemon = Daemon::start(&lab, &config);
    wait_health(&daemon, "watched", "w0", "up");

    let load = Load::on(&fronts);
    load.answers(500);
    let begin = Instant::now();
    let under_load =
        || watched.iter().map(|w| w.seen().into_iter().filter(|at| *at > begin).collect::<Vec<_>>());
    eventually("every backend was checked often enough", Duration::from_secs(60), || {
        under_load().map(|seen| seen.len()).min() > Some(GAPS)
    });
    let gaps = under_load().flat_map(|seen| seen.windows(2).map(|two| two[1] - two[0]).collect::<Vec<_>>());
    let mut gaps: Vec<_> = gaps.collect();
    let mut off: Vec<_> = gaps.iter().map(|gap| gap.abs_diff(INTERVAL)).collect();
    load.finish_without_failure();
    gaps.sort();
    off.sort();
    let (half, most, longest) = (at(0.5, &off), at(0.95, &off), at(1.0, &gaps));
    println!("{} gaps: off by {half:.1?} (p50), {most:.1?} (p95); the longest is {longest:.1?}", gaps.len());
    // The schedule's own jitter takes up to an eighth of the interval.
    assert!(most < INTERVAL / 2, "p95 is off by {most:?}");
    assert!(longest < INTERVAL * 5, "the longest gap is {longest:?}");
}

/// How many clients of each kind ask and never read.
const MUTE: usize = 24;
/// So that no answer fits into the buffers of a socket.
const CROWD: usize = 400;
const LATENCIES: usize = 1000;

/// A client that asks over HTTP and never reads; it has hardly room for what it does not read.
fn mute_client(admin: SocketAddr, path: &str) -> Option<TcpStream> {
    let dialled = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    sockopt::set_socket_recv_buffer_size(&dialled, 2048).ok()?;
    connect(&dialled, &admin).ok()?;
    let mut stream = TcpStream::from(dialled);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).ok()?;
    Some(stream)
}

/// Whoever asks on and on, and counts the answers.
struct Askers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Askers {
    fn start(ask: impl Fn() -> bool + Send + Clone + 'static) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..2).map(|_| {
            let (stop, answered, ask) = (Arc::clone(&stop), Arc::clone(&answered), ask.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    answered.fetch_add(usize::from(ask()), Ordering::SeqCst);
                }
            })
        });
        let threads = threads.collect();
        Askers { stop, answered, threads }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

impl Drop for Askers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn latencies(front: SocketAddr) -> Vec<Duration> {
    let one = || {
        let start = Instant::now();
        assert_eq!(http::get(front, "/").unwrap().status, 200);
        start.elapsed()
    };
    let mut all: Vec<_> = (0..LATENCIES).map(|_| one()).collect();
    all.sort();
    all
}

#[test]
fn no_crowd_at_the_control_side_costs_a_request_or_holds_one_up() {
    let lab = Loopback::take();
    let (front, backend) = (lab.addr(), Backend::http("a", lab.addr()));
    let mut config = service("web", &[front], UNCHECKED, &[&backend]);
    config += &service("wide", &[lab.addr()], UNCHECKED, &[]);
    for n in 0..CROWD {
        config += &format!("[[service.backend]]\nname = \"w{n}\"\naddress = \"{}\"\n", backend.addr());
    }
    let daemon = Daemon::start(&lab, &config);
    let (admin, runtime) = (daemon.admin(), daemon.socket());
    let load = Load::on(&[front, front]);
    load.answers(200);
    let before = latencies(front);

    let mut mute: Vec<TcpStream> = Vec::new();
    let mut mute_locally: Vec<UnixStream> = Vec::new();
    for _ in 0..MUTE {
        for path in ["/metrics", "/api/v1/status", "/api/v1/events?follow=true"] {
            mute.extend(mute_client(admin, path));
        }
        for command in ["show status json\n", "show events wait\n"] {
            let mut stream = UnixStream::connect(&runtime).unwrap();
            let _ = stream.write_all(command.as_bytes());
            mute_locally.push(stream);
        }
    }
    let readers = [
        Askers::start(move || http::get(admin, "/metrics").is_ok_and(|answer| answer.status == 200)),
        Askers::start(move || http::get(admin, "/api/v1/status").is_ok_and(|answer| answer.status == 200)),
        Askers::start(move || {
            let asked = UnixStream::connect(&runtime).and_then(|mut stream| {
                stream.set_read_timeout(Some(SOON))?;
                stream.write_all(b"show status json\n")?;
                stream.read(&mut [0; 256])
            });
            asked.is_ok_and(|n| n > 0)
        }),
        Askers::start(move || TcpStream::connect(admin).is_ok()),
    ];
    let meanwhile = latencies(front);
    load.answers(1000);
    eventually("who reads is answered all the same", SOON, || readers.iter().all(|r| r.answered() >= 10));
    load.finish_without_failure();
    let counts: Vec<_> = readers.iter().map(Askers::answered).collect();
    drop((readers, mute, mute_locally));

    for (when, all) in [("before", &before), ("with the crowd", &meanwhile)] {
        println!("{when}: p50 {:.1?}, p99 {:.1?}, most {:.1?}", at(0.5, all), at(0.99, all), at(1.0, all));
    }
    println!("answers to the crowd: {counts:?}");
    assert!(at(0.99, &meanwhile) < Duration::from_secs(1), "p99 is {:?}", at(0.99, &meanwhile));
    assert!(at(1.0, &meanwhile) < Duration::from_secs(3), "one took {:?}", at(1.0, &meanwhile));
    let status = eventually("it answers when the crowd has gone", SOON, || Status::of(&daemon));
    let closes = &status.service("web").unwrap()["closes"];
    assert_eq!(status.0["plane"]["connections"].as_u64(), Some(0), "{closes}");
}

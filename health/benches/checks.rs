//! What checking costs: CPU time of this process (user and system) for 256 targets checked every second, as a part of one
//! core; the medians of several rounds. The backend is a process of its own. `cargo bench -p health --bench checks`.
//!
//! On loopback the kernel does the backend's half of TCP on our time too, so a real network costs less. How much of it is
//! that, and the kernel's own work, is said by the same connections made without any of our code: one blocking thread, at the
//! same pace. Then the same with two threads a core that do nothing but spin: how far apart two checks of one target
//! come, where one second and an eighth is what the schedule itself allows.
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot be set up has nothing to say")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use health::{Book, Monitor, Report, Target, Verdict};
use rustix::net::sockopt::set_socket_linger;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

const TARGETS: usize = 256;
const ROUNDS: usize = 5;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(5);
const KINDS: [&str; 2] = ["tcp", "http"];
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\nconnection: close\r\n\r\n";

fn main() {
    if std::env::args().any(|arg| arg == "backend") {
        return serve();
    }
    let (mut backend, address) = start_backend();
    println!("{TARGETS} targets x 1 s; medians of {ROUNDS} rounds of {} s", MEASURED.as_secs());
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|_| KINDS.map(|kind| (measure(&targets(kind, address)), bare(kind, address))))
        .collect();
    for (n, kind) in KINDS.into_iter().enumerate() {
        let all = median(rounds.iter().map(|round| round[n].0.cpu));
        let monitor = median(rounds.iter().map(|round| round[n].0.cpu - round[n].0.recording));
        let bare = median(rounds.iter().map(|round| round[n].1));
        let each = median(rounds.iter().map(|round| round[n].0.cpu / round[n].0.checks.max(1)));
        let longest_gap = rounds.iter().map(|round| round[n].0.longest_gap).max().unwrap_or_default();
        println!(
            "{kind:5} {:.2} % of one core, {:.2} % of it on the checks' thread ({:.0?} a check); \
             without our code {:.2} %; longest gap {longest_gap:.3?}",
            percent(all),
            percent(monitor),
            each,
            percent(bare),
        );
    }
    spin_on_every_core();
    let Run { checks, longest_gap, .. } = measure(&targets("http", address));
    println!("http  on a busy machine: {checks} checks, longest gap {longest_gap:.3?}");
    backend.kill().expect("the backend runs");
    backend.wait().expect("it has ended");
}

struct Run {
    checks: u32,
    /// Of this process.
    cpu: Duration,
    /// Of the thread that takes the results in.
    recording: Duration,
    longest_gap: Duration,
}

fn percent(cpu: Duration) -> f64 {
    cpu.as_secs_f64() / MEASURED.as_secs_f64() * 100.0
}

fn median(all: impl Iterator<Item = Duration>) -> Duration {
    let mut all: Vec<_> = all.collect();
    all.sort();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// CPU time of the same connections at the same pace, by the standard library.
fn bare(kind: &str, address: SocketAddr) -> Duration {
    let pause = Duration::from_secs(1) / TARGETS as u32;
    let (before, start) = (cpu_time(ClockId::ProcessCPUTime), Instant::now());
    let mut next = start;
    while start.elapsed() < MEASURED {
        let mut stream = TcpStream::connect(address).expect("the backend accepts");
        set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket has this option");
        if kind == "http" {
            stream.write_all(REQUEST).expect("the backend reads");
            assert!(stream.read(&mut [0; 1024]).expect("the backend answers") > 0);
        }
        drop(stream);
        next += pause;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    cpu_time(ClockId::ProcessCPUTime) - before
}

fn spin_on_every_core() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..2 * cores {
        thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
}

fn measure(targets: &[Target]) -> Run {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (reports, mut incoming) = mpsc::channel(1024);
        let mut monitor = Monitor::start(0x0A54_0E0B, reports).expect("a thread");
        let mut book = Book::new();
        monitor.apply(&book.reconcile(targets, Instant::now()));
        record(&mut book, &mut incoming, WARM_UP).await;
        record(&mut book, &mut incoming, MEASURED).await
    })
}

/// Feeds the book for a while, as the daemon does.
async fn record(book: &mut Book, incoming: &mut mpsc::Receiver<Report>, time: Duration) -> Run {
    let end = tokio::time::Instant::now() + time;
    let clocks = || (cpu_time(ClockId::ProcessCPUTime), cpu_time(ClockId::ThreadCPUTime));
    let before = clocks();
    let mut run =
        Run { checks: 0, cpu: Duration::ZERO, recording: Duration::ZERO, longest_gap: Duration::ZERO };
    while let Ok(Some(report)) = tokio::time::timeout_at(end, incoming.recv()).await {
        assert_eq!(report.outcome.verdict(), Verdict::Passed, "{}", report.outcome.detail);
        let previous = book.get(&report.id).and_then(|entry| entry.last.as_ref()).map(|(_, at)| *at);
        let gap = previous.map_or(Duration::ZERO, |previous| report.at.saturating_duration_since(previous));
        run.longest_gap = run.longest_gap.max(gap);
        book.record(&report);
        run.checks += 1;
    }
    let after = clocks();
    (run.cpu, run.recording) = (after.0 - before.0, after.1 - before.1);
    run
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn targets(kind: &str, address: SocketAddr) -> Vec<Target> {
    let mut text = format!(
        "[[service]]\nname = \"web\"\nlisten = [\"127.0.0.1:80\"]\ncheck = {{ kind = \"{kind}\", interval = \"1s\" }}\n"
    );
    for n in 0..TARGETS {
        text += &format!("[[service.backend]]\nname = \"web-{n}\"\naddress = \"{address}\"\n");
    }
    let loaded =
        config::parse(&text, "bench").unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let service = &loaded.config.services[0];
    service.backends.iter().map(|backend| Target::of(service, backend)).collect()
}

/// This program again, as the backend; its first line is its address.
fn start_backend() -> (Child, SocketAddr) {
    let program = std::env::current_exe().expect("a program has a path");
    let mut child =
        Command::new(program).arg("backend").stdout(Stdio::piped()).spawn().expect("it starts again");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped"))
        .read_line(&mut line)
        .expect("it says its address");
    let address = line.trim().parse().expect("an address");
    (child, address)
}

fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("it is bound"));
    for stream in listener.incoming().flatten() {
        let _ = answer(stream);
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 1024];
    if stream.read(&mut request)? > 0 {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nserver: bench\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n",
        )?;
    }
    Ok(())
}

//! Where log records go and how they look. Set once at start; the level, and whether connections are recorded, can be
//! changed by a reload.
//!
//! Writing never blocks: records go over bounded queues to a thread each, one for the log and one for the access log, so
//! neither a reader that hangs nor a flood of connections stalls anybody. What does not fit a queue is dropped and
//! counted, and the count is written when there is room.

mod access;
mod queue;
mod sink;

use std::io::{self, Write};

use config::{Log, LogFormat, LogLevel, LogTarget};
use tracing::Metadata;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

pub use self::access::AccessLogger;
use self::queue::{LastWords, Queue};
use self::sink::{Facility, Severity, Sink};

/// Changes the level of the running log.
#[derive(Clone)]
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    pub fn set(&self, level: LogLevel) {
        // Fails only once the subscriber is gone, which is at process exit.
        let _ = self.0.reload(filter(level));
    }
}

/// The running logs. The value to keep until the process ends: dropped, it waits a little for the last records.
pub struct Logs {
    pub level: LevelHandle,
    pub access: AccessLogger,
    _last_words: [LastWords; 2],
}

/// Installs the log. Called once, before anything logs.
pub fn init(log: &Log) -> Logs {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let mut sink = Sink::new(log.target, Facility::Daemon);
    let (queue, last_words) =
        Queue::start("log", move |(severity, text): (Severity, Vec<u8>)| sink.write(severity, &text));
    let to = Target(queue);
    let is_terminal = io::IsTerminal::is_terminal(&io::stderr()) && log.target == LogTarget::Stderr;
    let layer = match (log.format, log.target) {
        (LogFormat::Text, LogTarget::Stderr) => {
            fmt::layer().with_writer(to).with_ansi(is_terminal).with_target(false).boxed()
        }
        // Whoever takes them has the time and the severity.
        (LogFormat::Text, _) => fmt::layer()
            .with_writer(to)
            .with_ansi(false)
            .with_target(false)
            .with_level(false)
            .without_time()
            .boxed(),
        (LogFormat::Json, _) => fmt::layer().json().flatten_event(true).with_writer(to).boxed(),
    };
    // A second call (only a test would) keeps the first log.
    let _ = tracing_subscriber::registry().with(level).with(layer).try_init();
    let (access, access_last_words) =
        AccessLogger::start(Sink::new(log.target, Facility::Local0), log.access);
    Logs { level: LevelHandle(handle), access, _last_words: [last_words, access_last_words] }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Where the subscriber writes.
struct Target(Queue<(Severity, Vec<u8>)>);

/// Collects one record and queues it when dropped.
struct Record<'a> {
    queue: &'a Queue<(Severity, Vec<u8>)>,
    severity: Severity,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Target {
    type Writer = Record<'a>;

    fn make_writer(&'a self) -> Record<'a> {
        Record { queue: &self.0, severity: Severity::Info, bytes: Vec::new() }
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Record<'a> {
        Record { queue: &self.0, severity: Severity::from(*of.level()), bytes: Vec::new() }
    }
}

impl Write for Record<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.queue.push((self.severity, std::mem::take(&mut self.bytes)));
    }
}

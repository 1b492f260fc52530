//! Where log records go and how they look. Set once at start; the level can be changed by a reload.
//!
//! Writing never blocks: records go over a bounded queue to a thread of their own, so a reader of standard error that
//! hangs stalls nobody. What does not fit the queue is dropped and counted, and the count is written when there is room.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::{Log, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Records that may wait to be written.
const QUEUE: usize = 4096;
/// How long the end of the process waits for the last records.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Changes the level of the running log.
pub struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    pub fn set(&self, level: LogLevel) {
        // Fails only once the subscriber is gone, which is at process exit.
        let _ = self.0.reload(filter(level));
    }
}

/// Installs the log. Called once, before anything logs.
pub fn init(log: &Log) -> (LevelHandle, LastWords) {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let color = io::IsTerminal::is_terminal(&io::stderr());
    let (queue, last_words) = queue();
    let layer = match log.format {
        LogFormat::Text => fmt::layer().with_writer(queue).with_ansi(color).with_target(false).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(queue).boxed(),
    };
    // A second call (only a test would) keeps the first log.
    let _ = tracing_subscriber::registry().with(level).with(layer).try_init();
    (LevelHandle(handle), last_words)
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

/// The sending end; one [`Record`] per log record.
#[derive(Clone)]
struct Queue {
    /// `None` once the process ends.
    records: Arc<Mutex<Option<SyncSender<Vec<u8>>>>>,
    dropped: Arc<AtomicU64>,
}

/// Collects one record and queues it when dropped.
struct Record {
    queue: Queue,
    bytes: Vec<u8>,
}

/// Dropped at the end of the process: closes the queue and waits a little for what is in it.
pub struct LastWords {
    queue: Queue,
    written: Receiver<()>,
}

fn queue() -> (Queue, LastWords) {
    let (records, received) = sync_channel::<Vec<u8>>(QUEUE);
    let (done, written) = sync_channel(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    let write_all = move || {
        for record in received {
            let mut out = io::stderr().lock();
            // Nowhere left to say that the log cannot be written.
            let _ = out.write_all(&record);
            let missing = counter.swap(0, Ordering::Relaxed);
            if missing > 0 {
                let _ = writeln!(out, "{missing} log records dropped: standard error was not read in time");
            }
        }
        let _ = done.send(());
    };
    // Without a thread the records are dropped and counted.
    let _ = std::thread::Builder::new().name("log".into()).spawn(write_all);
    let queue = Queue { records: Arc::new(Mutex::new(Some(records))), dropped };
    (queue.clone(), LastWords { queue, written })
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Record;

    fn make_writer(&'a self) -> Record {
        Record { queue: self.clone(), bytes: Vec::new() }
    }
}

impl Write for Record {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let record = std::mem::take(&mut self.bytes);
        let sender = self.queue.records.lock().unwrap_or_else(PoisonError::into_inner);
        let queued = sender.as_ref().is_some_and(|records| records.try_send(record).is_ok());
        if !queued {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        self.queue.records.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody reads: better to end without the last words than not at all.
        let _ = self.written.recv_timeout(LAST_WORDS);
    }
}

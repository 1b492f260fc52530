//! A bounded queue of records to a thread that writes them. Pushing never blocks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Records that may wait to be written.
const CAPACITY: usize = 4096;
/// How long the end of the process waits for the last records.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The pushing end.
pub struct Queue<T> {
    /// `None` once the process ends.
    records: Arc<Mutex<Option<SyncSender<T>>>>,
    dropped: Arc<AtomicU64>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue { records: Arc::clone(&self.records), dropped: Arc::clone(&self.dropped) }
    }
}

/// Dropped at the end of the process: closes the queue and waits a little for what is in it.
pub struct LastWords {
    close: Box<dyn Fn() + Send + Sync>,
    written: Mutex<Receiver<()>>,
}

impl<T: Send + 'static> Queue<T> {
    /// Starts the thread; `write` is called there with each record.
    pub fn start(name: &'static str, mut write: impl FnMut(T) + Send + 'static) -> (Self, LastWords) {
        let (records, received) = sync_channel::<T>(CAPACITY);
        let (done, written) = sync_channel(1);
        let queue = Queue { records: Arc::new(Mutex::new(Some(records))), dropped: Arc::default() };
        let dropped = Arc::clone(&queue.dropped);
        let write_all = move || {
            for record in received {
                write(record);
                let missing = dropped.swap(0, Relaxed);
                if missing > 0 {
                    eprintln!("{missing} records of the {name} dropped: they were not taken in time");
                }
            }
            let _ = done.send(());
        };
        // Without a thread the records are dropped and counted.
        let _ = std::thread::Builder::new().name(name.into()).spawn(write_all);
        let sender = Arc::clone(&queue.records);
        let close = Box::new(move || drop(sender.lock().unwrap_or_else(PoisonError::into_inner).take()));
        (queue, LastWords { close, written: Mutex::new(written) })
    }

    /// Takes the record if there is room.
    pub fn push(&self, record: T) {
        let sender = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.as_ref().is_none_or(|records| records.try_send(record).is_err()) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        (self.close)();
        // Nobody reads: better to end without the last words than not at all.
        let _ = self.written.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_at_the_end_is_written_and_what_comes_later_is_not() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&seen);
        let (queue, last_words) = Queue::start("test", move |n: u32| writer.lock().unwrap().push(n));
        (0..100).for_each(|n| queue.push(n));
        drop(last_words);
        queue.push(100);
        assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_writer_that_hangs_costs_the_records_and_nothing_else() {
        let (release, held) = sync_channel::<()>(0);
        let (queue, _last_words) = Queue::start("test", move |_: u32| {
            let _ = held.recv();
        });
        (0..CAPACITY as u32 + 100).for_each(|n| queue.push(n));
        assert!(queue.dropped.load(Relaxed) >= 99);
        drop(release);
    }
}

//! Counting without sharing: each worker writes blocks of its own, whoever wants a total adds them up.
//!
//! A block is padded to whole pairs of cache lines, so that one worker's packets never invalidate another's line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::CloseReason;

/// Number of a worker thread: which block it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerId(pub(crate) usize);

/// A number with one writer. Wraps like any counter, so a sum over workers is right even where one block went below
/// zero.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn decrement(&self) {
        self.add(u64::MAX);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// One block per worker.
#[derive(Debug)]
pub(crate) struct PerWorker<T>(Box<[Padded<T>]>);

impl<T: Default> PerWorker<T> {
    pub(crate) fn new(workers: usize) -> Self {
        PerWorker((0..workers).map(|_| Padded::default()).collect())
    }

    /// The block that `worker` writes. Workers are numbered from 0 below the number that the plane was started with,
    /// which is the length of every such table.
    pub(crate) fn of(&self, worker: WorkerId) -> &T {
        &self.0[worker.0].0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }

    pub(crate) fn sum(&self, counter: impl Fn(&T) -> &Counter) -> u64 {
        self.iter().fold(0, |sum, block| sum.wrapping_add(counter(block).value()))
    }
}

/// What one worker did, over all services.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) accepted: Counter,
    /// Milliseconds from the plane's start to the worker's last turn of its loop.
    pub(crate) turned_at: Counter,
    /// Listeners of the worker that do not accept just now.
    pub(crate) paused: Counter,
    /// 1 while it relays by io_uring.
    pub(crate) ringed: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct ServiceCounters {
    pub(crate) active: Counter,
    pub(crate) accepted: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) retries: Counter,
    pub(crate) tls_handshakes: Counter,
    pub(crate) tls_resumed: Counter,
    pub(crate) closes: [Counter; CloseReason::ALL.len()],
}

#[derive(Debug, Default)]
pub(crate) struct BackendCounters {
    pub(crate) connects: Counter,
    pub(crate) failures: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_ends_on_another_worker_than_it_began_leaves_the_sum_right() {
        let blocks: PerWorker<ServiceCounters> = PerWorker::new(2);
        blocks.of(WorkerId(0)).active.add(2);
        blocks.of(WorkerId(1)).active.decrement();
        assert_eq!(blocks.sum(|b| &b.active), 1);
    }

    #[test]
    fn blocks_of_two_workers_share_no_cache_line() {
        let blocks: PerWorker<Counter> = PerWorker::new(2);
        let addresses: Vec<usize> = blocks.iter().map(|block| std::ptr::from_ref(block).addr()).collect();
        assert!(addresses[1] - addresses[0] >= 128);
    }
}

//! An append-only record of what was observed, with the time of each entry, that a test can wait on.
//!
//! Writers are the threads that observe (a child's output, a BGP peer's socket); readers are tests.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One observation.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    pub at: Instant,
    pub what: T,
}

#[derive(Debug)]
pub struct Journal<T>(Arc<(Mutex<Vec<Entry<T>>>, Condvar)>);

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Journal(Arc::clone(&self.0))
    }
}

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Journal(Arc::new((Mutex::new(Vec::new()), Condvar::new())))
    }
}

impl<T: Clone> Journal<T> {
    fn lock(&self) -> MutexGuard<'_, Vec<Entry<T>>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn push(&self, what: T) {
        self.lock().push(Entry { at: Instant::now(), what });
        self.0.1.notify_all();
    }

    /// How many entries there are: a mark to look after with [`Journal::since`].
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// The entries from `mark` on.
    pub fn since(&self, mark: usize) -> Vec<Entry<T>> {
        self.lock().iter().skip(mark).cloned().collect()
    }

    /// Waits until `find` finds something in the whole journal; `None` after `within`.
    pub fn wait<R>(&self, within: Duration, mut find: impl FnMut(&[Entry<T>]) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + within;
        let mut entries = self.lock();
        loop {
            if let Some(found) = find(&entries) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            entries = self.0.1.wait_timeout(entries, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for an entry from `mark` on.
    pub fn wait_since(
        &self,
        mark: usize,
        within: Duration,
        mut is: impl FnMut(&T) -> bool,
    ) -> Option<Entry<T>> {
        self.wait(within, |all| all.iter().skip(mark).find(|e| is(&e.what)).cloned())
    }
}

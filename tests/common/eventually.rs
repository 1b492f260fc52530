//! Waiting for a condition: the only place in the tests where time is polled.
//!
//! Nothing here waits *for a while*: [`eventually`] ends as soon as the condition holds, [`throughout`] fails as soon
//! as it does not. Where something can be waited for without polling, use [`super::journal::Journal`].

use std::fmt::Display;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);

/// What a probe saw: the value waited for, or what was there instead.
pub trait Probe {
    type Value;
    fn seen(self) -> Result<Self::Value, String>;
}

impl Probe for bool {
    type Value = ();
    fn seen(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not so".into()) }
    }
}

impl<T> Probe for Option<T> {
    type Value = T;
    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".into())
    }
}

impl<T, E: Display> Probe for Result<T, E> {
    type Value = T;
    fn seen(self) -> Result<T, String> {
        self.map_err(|e| e.to_string())
    }
}

/// Probes until it sees what it looks for; panics with `what` and the last thing seen after `within`.
#[track_caller]
pub fn eventually<P: Probe>(what: &str, within: Duration, mut probe: impl FnMut() -> P) -> P::Value {
    let deadline = Instant::now() + within;
    loop {
        let last = match probe().seen() {
            Ok(value) => return value,
            Err(last) => last,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not within {within:?}: {what}; last seen: {last}");
        park_timeout(POLL.min(left));
    }
}

/// Probes for `length` and panics at once when the condition does not hold.
#[track_caller]
pub fn throughout<P: Probe>(what: &str, length: Duration, mut probe: impl FnMut() -> P) {
    let start = Instant::now();
    while start.elapsed() < length {
        if let Err(seen) = probe().seen() {
            panic!("after {:?}, no longer: {what}; seen: {seen}", start.elapsed());
        }
        park_timeout(POLL);
    }
}

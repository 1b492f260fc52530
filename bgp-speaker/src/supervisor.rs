//! Keeps a peer's task alive: one that panics costs its session only, and is made again after a back-off.
#![allow(clippy::disallowed_methods, reason = "this driver owns the clock of restarts")]

use std::future::Future;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Before the first restart; doubles up to the other.
const FIRST_RESTART: Duration = Duration::from_secs(1);
const LAST_RESTART: Duration = Duration::from_secs(30);

/// Runs what `make` makes until one of them returns. `failed` hears of each that panicked. Dropping the future ends the
/// running one.
pub(crate) async fn supervise<F>(mut make: impl FnMut() -> F, mut failed: impl FnMut(String))
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut delay = FIRST_RESTART;
    loop {
        let mut running = JoinSet::new();
        running.spawn(make());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => failed(panic_text(error)),
            _ => return,
        }
        tokio::time::sleep_until(Instant::now() + delay).await;
        delay = LAST_RESTART.min(delay * 2);
    }
}

fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return String::new() };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_made_again_and_what_it_said_is_told() {
        let (attempts, mut told) = (Arc::new(AtomicU32::new(0)), Vec::new());
        let make = || {
            let attempts = attempts.clone();
            async move {
                let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                assert!(attempt == 2, "attempt {attempt} fails");
            }
        };
        supervise(make, |text| told.push(text)).await;
        assert_eq!(told, ["attempt 0 fails", "attempt 1 fails"]);
    }
}

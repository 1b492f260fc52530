//! One backend as the data plane knows it: where it is, how it stands, how many connections it has, what went through it.
//!
//! It lives as long as its service, name and address stay the same, over any number of reloads, and as long as a
//! connection uses it. Weight, limit and role (`backup`) belong to the configuration: see [`crate::snapshot`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use config::{BackendAddr, BackendId};

use crate::balance::ONE;
use crate::counters::{BackendCounters, Padded, PerWorker, WorkerId};
use crate::service::ServiceState;
use crate::{BackendStats, Eligible, Standing};

/// See the module's text.
#[derive(Debug)]
pub struct Backend {
    id: BackendId,
    address: BackendAddr,
    /// A [`Standing`], encoded.
    standing: AtomicU64,
    /// Milliseconds from the plane's start to when it last became eligible.
    returned: AtomicU64,
    /// What it has earned of its next turn while it may take only part of them.
    credit: AtomicU32,
    /// Its index in its service's newest table.
    pub(crate) place: AtomicU32,
    /// Connections now, over all workers: one line, written once at a connection's begin and once at its end.
    active: Padded<AtomicU64>,
    pub(crate) counters: PerWorker<BackendCounters>,
}

impl Backend {
    /// A backend that nothing is known of: not eligible.
    pub(crate) fn new(id: BackendId, address: BackendAddr, workers: usize) -> Self {
        Backend {
            id,
            address,
            standing: AtomicU64::new(Standing::DOWN.encode()),
            returned: AtomicU64::new(0),
            credit: AtomicU32::new(0),
            place: AtomicU32::new(0),
            active: Padded::default(),
            counters: PerWorker::new(workers),
        }
    }

    pub fn id(&self) -> &BackendId {
        &self.id
    }

    pub fn address(&self) -> &BackendAddr {
        &self.address
    }

    pub fn standing(&self) -> Standing {
        Standing::decode(self.standing.load(Relaxed))
    }

    pub fn eligible(&self) -> Eligible {
        self.standing().eligible
    }

    /// Takes a new standing, and returns the one before. Whoever changes it compiles the service's table anew.
    pub(crate) fn set_standing(&self, standing: Standing, now: Duration) -> Standing {
        let before = self.standing();
        if (before.eligible, standing.eligible) == (Eligible::No, Eligible::Yes) {
            self.returned.store(millis(now), Relaxed);
        }
        self.standing.store(standing.encode(), Relaxed);
        before
    }

    /// How far its slow start has come, in 65,536ths.
    pub(crate) fn ramp(&self, slow_start: Duration, now: Duration) -> u32 {
        let elapsed = millis(now).saturating_sub(self.returned.load(Relaxed));
        let ramp = (elapsed << 16).checked_div(millis(slow_start)).unwrap_or(u64::from(ONE));
        u32::try_from(ramp).map_or(ONE, |ramp| ramp.min(ONE))
    }

    /// Whether it takes this turn, if it is to take `portion` 65,536ths of its turns.
    pub(crate) fn earns(&self, portion: u32) -> bool {
        portion >= ONE || (self.credit.fetch_add(portion, Relaxed) % ONE) + portion >= ONE
    }

    /// Connections now.
    pub(crate) fn active(&self) -> u64 {
        self.active.0.load(SeqCst)
    }

    /// Counts one more connection, if there may be one.
    pub(crate) fn take(&self, limit: Option<u32>) -> bool {
        let one_more = |active| limit.is_none_or(|limit| active < u64::from(limit)).then_some(active + 1);
        self.active.0.fetch_update(SeqCst, SeqCst, one_more).is_ok()
    }

    /// Counts one less, which was taken.
    pub(crate) fn give_back(&self) {
        self.active.0.fetch_sub(1, SeqCst);
    }

    pub(crate) fn stats(&self, max_connections: Option<u32>) -> BackendStats {
        let standing = self.standing();
        BackendStats {
            id: self.id.clone(),
            address: self.address.clone(),
            standing,
            max_connections: standing.max_connections.or(max_connections),
            active: self.active(),
            connects: self.counters.sum(|c| &c.connects),
            connect_failures: self.counters.sum(|c| &c.failures),
            bytes_in: self.counters.sum(|c| &c.bytes_in),
            bytes_out: self.counters.sum(|c| &c.bytes_out),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One connection's place at a backend, which was taken for it; given back with the guard, to whoever waits for one.
#[derive(Debug)]
pub(crate) struct BackendGuard {
    backend: Arc<Backend>,
    service: Arc<ServiceState>,
    worker: WorkerId,
}

impl BackendGuard {
    pub(crate) fn new(backend: Arc<Backend>, service: Arc<ServiceState>, worker: WorkerId) -> Self {
        BackendGuard { backend, service, worker }
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(crate) fn counters(&self) -> &BackendCounters {
        self.backend.counters.of(self.worker)
    }
}

impl Drop for BackendGuard {
    fn drop(&mut self) {
        self.backend.give_back();
        self.service.released(&self.backend);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use config::Name;

    use super::*;

    fn backend() -> Backend {
        let name = |text| Name::new(text).unwrap();
        let id = BackendId { service: name("web"), backend: name("a") };
        Backend::new(id, SocketAddr::from(([192, 0, 2, 1], 80)).into(), 1)
    }

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn slow_start_is_linear_from_each_return() {
        let backend = backend();
        for returned in [3, 40] {
            backend.set_standing(Standing::DOWN, Duration::from_secs(returned - 1));
            backend.set_standing(Standing::UP, Duration::from_secs(returned));
            let ramp = |second| backend.ramp(TEN, Duration::from_secs(returned + second));
            assert_eq!([ramp(0), ramp(5), ramp(10), ramp(1000)], [0, ONE / 2, ONE, ONE]);
        }
        assert_eq!(backend.ramp(Duration::ZERO, Duration::ZERO), ONE, "without slow start");
    }

    #[test]
    fn a_new_weight_does_not_begin_the_slow_start_again() {
        let backend = backend();
        backend.set_standing(Standing::UP, Duration::ZERO);
        backend.set_standing(Standing { weight_percent: 50, ..Standing::UP }, TEN);
        assert_eq!(backend.ramp(TEN, TEN), ONE);
    }

    #[test]
    fn a_portion_of_its_turns_is_exact() {
        let backend = backend();
        for percent in [1, 10, 50, 99] {
            let taken = (0..1000).filter(|_| backend.earns(ONE * percent / 100)).count();
            assert!(taken.abs_diff(10 * percent as usize) <= 1, "{taken} at {percent} %");
        }
        assert!(backend.earns(ONE) && !backend.earns(0));
    }

    #[test]
    fn places_are_as_many_as_the_limit() {
        let backend = backend();
        assert!([backend.take(Some(2)), backend.take(Some(2)), backend.take(Some(2))] == [true, true, false]);
        assert!(backend.take(None));
    }
}

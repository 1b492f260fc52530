//! A hashed timing wheel: one timer per slab index, set, moved and cancelled in constant time. Pure: `now` comes in as
//! a [`Tick`], what is due comes out.
//!
//! A connection's deadline moves with every packet, so packets do not touch the wheel: they note the time, and the
//! timer, when it fires, is set again to what the deadline has become. What lies beyond the wheel's circumference
//! (about 41 s) waits in its last slot and is looked at once per revolution.

use std::time::Duration;

/// The clock of the event loop: ticks of 10 ms since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

impl Tick {
    const PER_SECOND: u64 = 100;
    const MILLIS: u64 = 1000 / Self::PER_SECOND;

    /// The tick that `elapsed` since the start lies in.
    pub(crate) fn at(elapsed: Duration) -> Self {
        Tick(elapsed.as_secs() * Self::PER_SECOND + u64::from(elapsed.subsec_millis()) / Self::MILLIS)
    }

    /// The first tick that is certainly `timeout` or more after any moment of this one.
    pub(crate) fn after(self, timeout: Ticks) -> Self {
        Tick(self.0.saturating_add(timeout.0).saturating_add(1))
    }

    pub(crate) fn next(self) -> Self {
        Tick(self.0.saturating_add(1))
    }

    /// From `elapsed` since the start until this tick begins.
    pub(crate) fn wait_from(self, elapsed: Duration) -> Duration {
        Duration::from_millis(self.0.saturating_mul(Self::MILLIS)).saturating_sub(elapsed)
    }
}

/// A timeout in whole ticks, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(u64);

impl From<Duration> for Ticks {
    fn from(timeout: Duration) -> Self {
        Ticks(u64::try_from(timeout.as_millis().div_ceil(Tick::MILLIS.into())).unwrap_or(u64::MAX))
    }
}

const SLOTS: usize = 4096;
/// No index: the end of a list.
const NIL: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Wheel {
    /// First timer of each slot.
    heads: Box<[u32]>,
    /// By slab index.
    timers: Vec<Timer>,
    now: Tick,
    armed: usize,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    previous: u32,
    next: u32,
    /// `NIL`: not armed.
    slot: u32,
    due: Tick,
}

const IDLE: Timer = Timer { previous: NIL, next: NIL, slot: NIL, due: Tick(u64::MAX) };

impl Wheel {
    pub(crate) fn new(now: Tick) -> Self {
        Wheel { heads: vec![NIL; SLOTS].into_boxed_slice(), timers: Vec::new(), now, armed: 0 }
    }

    /// Sets the timer of `index`, or moves it. What is due already fires at the next tick.
    pub(crate) fn set(&mut self, index: u32, due: Tick) {
        self.cancel(index);
        let at = index as usize;
        if self.timers.len() <= at {
            self.timers.resize(at + 1, IDLE);
        }
        let ahead = due.0.saturating_sub(self.now.0).clamp(1, SLOTS as u64 - 1);
        let slot = ((self.now.0 + ahead) % SLOTS as u64) as u32;
        let head = std::mem::replace(&mut self.heads[slot as usize], index);
        self.timers[at] = Timer { previous: NIL, next: head, slot, due };
        if head != NIL {
            self.timers[head as usize].previous = index;
        }
        self.armed += 1;
    }

    pub(crate) fn cancel(&mut self, index: u32) {
        let Some(timer) = self.timers.get_mut(index as usize) else { return };
        let Timer { previous, next, slot, .. } = std::mem::replace(timer, IDLE);
        if slot == NIL {
            return;
        }
        match previous {
            NIL => self.heads[slot as usize] = next,
            _ => self.timers[previous as usize].next = next,
        }
        if next != NIL {
            self.timers[next as usize].previous = previous;
        }
        self.armed -= 1;
    }

    /// When the timer of `index` fires; far away if it is not set.
    pub(crate) fn due(&self, index: u32) -> Tick {
        self.timers.get(index as usize).map_or(IDLE.due, |timer| timer.due)
    }

    /// Turns the wheel to `now`. Appends the indices of the timers that became due, which are then no longer set.
    pub(crate) fn advance(&mut self, now: Tick, fired: &mut Vec<u32>) {
        let slots = now.0.saturating_sub(self.now.0).min(SLOTS as u64);
        let first = self.now.0 + 1;
        self.now = self.now.max(now);
        if self.armed == 0 {
            return;
        }
        for tick in first..first + slots {
            let mut index = std::mem::replace(&mut self.heads[(tick % SLOTS as u64) as usize], NIL);
            while index != NIL {
                let timer = std::mem::replace(&mut self.timers[index as usize], IDLE);
                self.armed -= 1;
                if timer.due <= now {
                    fired.push(index);
                } else {
                    self.set(index, timer.due);
                }
                index = timer.next;
            }
        }
    }

    /// The next tick, at most `limit` ahead, at which there may be something to do.
    pub(crate) fn next_tick(&self, limit: Ticks) -> Option<Tick> {
        if self.armed == 0 {
            return None;
        }
        let ahead = 1..=limit.0.min(SLOTS as u64 - 1);
        ahead.map(|n| self.now.0 + n).find(|t| self.heads[(t % SLOTS as u64) as usize] != NIL).map(Tick)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn fired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.advance(Tick(now), &mut fired);
        fired.sort_unstable();
        fired
    }

    #[test]
    fn a_timer_fires_once_at_its_tick() {
        let mut wheel = Wheel::new(Tick(0));
        wheel.set(3, Tick(5));
        assert_eq!(fired(&mut wheel, 4), [0u32; 0]);
        assert_eq!(fired(&mut wheel, 5), [3]);
        assert_eq!(fired(&mut wheel, 9999), [0u32; 0]);
    }

    #[test]
    fn a_timer_beyond_the_circumference_waits_its_revolutions() {
        let mut wheel = Wheel::new(Tick(0));
        let due = 3 * SLOTS as u64 + 7;
        wheel.set(0, Tick(due));
        assert_eq!(fired(&mut wheel, due - 1), [0u32; 0]);
        assert_eq!(fired(&mut wheel, due), [0]);
    }

    #[test]
    fn a_jump_over_several_revolutions_fires_everything_that_is_due() {
        let mut wheel = Wheel::new(Tick(0));
        wheel.set(0, Tick(10));
        wheel.set(1, Tick(SLOTS as u64 + 10));
        wheel.set(2, Tick(90_000));
        assert_eq!(fired(&mut wheel, 80_000), [0, 1]);
        assert_eq!(fired(&mut wheel, 90_000), [2]);
    }

    #[test]
    fn the_next_tick_is_none_when_nothing_is_set_and_never_beyond_the_limit() {
        let mut wheel = Wheel::new(Tick(100));
        assert_eq!(wheel.next_tick(Ticks(50)), None);
        wheel.set(0, Tick(120));
        assert_eq!(wheel.next_tick(Ticks(50)), Some(Tick(120)));
        assert_eq!(wheel.next_tick(Ticks(10)), None);
    }

    #[test]
    fn a_timeout_never_fires_early_and_at_most_two_ticks_late() {
        let start = Duration::from_micros(19_999);
        let deadline = Tick::at(start).after(Duration::from_millis(30).into());
        let fires = deadline.wait_from(Duration::ZERO);
        assert!(fires >= start + Duration::from_millis(30), "{fires:?}");
        assert!(fires <= start + Duration::from_millis(50), "{fires:?}");
    }

    #[test]
    fn after_years_a_tick_is_still_waited_for() {
        let years = Duration::from_secs(3 * 365 * 86_400);
        let next = Tick(Tick::at(years).0 + 1);
        assert_eq!(next.wait_from(years), Duration::from_millis(10));
    }

    #[derive(Debug, Clone)]
    enum Op {
        Set(u32, u64),
        Cancel(u32),
        Advance(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0u32..20, 0u64..10_000).prop_map(|(i, d)| Op::Set(i, d)),
            (0u32..20).prop_map(Op::Cancel),
            (0u64..6_000).prop_map(Op::Advance),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_map(ops in prop::collection::vec(op(), 0..200)) {
            let mut wheel = Wheel::new(Tick(0));
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = 0;
            for op in ops {
                match op {
                    Op::Set(index, ahead) => {
                        wheel.set(index, Tick(now + ahead));
                        // What is due at once fires with the next tick.
                        model.insert(index, now + ahead);
                    }
                    Op::Cancel(index) => {
                        wheel.cancel(index);
                        model.remove(&index);
                    }
                    Op::Advance(by) if by > 0 => {
                        now += by;
                        let due: Vec<u32> = model.iter().filter(|(_, d)| **d <= now).map(|(i, _)| *i).collect();
                        model.retain(|_, d| *d > now);
                        prop_assert_eq!(fired(&mut wheel, now), due);
                    }
                    Op::Advance(_) => {}
                }
                prop_assert_eq!(wheel.armed, model.len());
                if let Some(next) = wheel.next_tick(Ticks(u64::MAX)) {
                    prop_assert!(model.values().min().is_some_and(|d| next.0 <= (*d).max(now + 1)));
                }
            }
        }
    }
}

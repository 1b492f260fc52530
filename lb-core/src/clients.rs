//! Which clients a service takes: by network, by how many connections they have, by how fast they come.
//!
//! A client is an IPv4 address or an IPv6 /64, for that is what one host can choose from. What is remembered of clients is
//! bounded: of those that are connected by the limits on connections, of the others by [`Rates`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use config::Rate;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use ipnet::IpNet;

use crate::CloseReason;

/// Who is counted as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client(u64);

impl Client {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // The prefix is multicast, nobody's source address.
            IpAddr::V4(ip) => Client(0xFFFF_FFFF_0000_0000 | u64::from(ip.to_bits())),
            IpAddr::V6(ip) => Client((ip.to_bits() >> 64) as u64),
        }
    }
}

/// A set of networks, looked up by bisection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    v4: Ranges,
    v6: Ranges,
}

/// First and last addresses, in order and apart from each other.
type Ranges = Box<[(u128, u128)]>;

impl Networks {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        let merged = IpNet::aggregate(&networks.to_vec());
        let ranges = |of_v4: bool| {
            let of_family = merged.iter().filter(|net| net.network().is_ipv4() == of_v4);
            let mut ranges: Vec<_> =
                of_family.map(|net| (bits(net.network()), bits(net.broadcast()))).collect();
            ranges.sort_unstable();
            ranges.into_boxed_slice()
        };
        Networks { v4: ranges(true), v6: ranges(false) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// An IPv4 address in an IPv6 one counts as the IPv4 address.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let address = bits(address);
        let after = ranges.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Which clients a service takes, and how much of each.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Looked at first.
    deny: Networks,
    /// Empty: all.
    allow: Networks,
    connections: Option<u32>,
    rate: Option<Arc<RateLimit<crate::clock::Clock>>>,
}

impl Admission {
    /// A rate that is the same as `before` goes on counting.
    pub(crate) fn new(
        service: &config::Service,
        before: Option<&Admission>,
        clock: crate::clock::Clock,
    ) -> Self {
        let known = before.and_then(|admission| admission.rate.clone());
        let rate = service.client_limits.rate.and_then(|rate| match known {
            Some(known) if known.rate == rate => Some(known),
            _ => RateLimit::new(rate, clock).map(Arc::new),
        });
        Admission {
            deny: Networks::new(&service.deny),
            allow: Networks::new(&service.allow),
            connections: service.client_limits.connections,
            rate,
        }
    }

    /// Whether a connection from `address` is taken, which counts it; if not, why. The presence lasts as long as the
    /// connection; it is there only if there is a limit.
    pub(crate) fn admit(
        &self,
        address: IpAddr,
        connected: &Arc<Connected>,
    ) -> Result<Option<Presence>, CloseReason> {
        if self.deny.contain(address) || !(self.allow.is_empty() || self.allow.contain(address)) {
            return Err(CloseReason::Denied);
        }
        let client = Client::of(address);
        let presence = match self.connections {
            Some(limit) => Some(connected.enter(client, limit).ok_or(CloseReason::ClientConnections)?),
            None => None,
        };
        match &self.rate {
            Some(rate) if !rate.admits(client) => Err(CloseReason::ClientRate),
            _ => Ok(presence),
        }
    }
}

const SHARDS: usize = 16;

/// How many connections each client has now. Whoever has none is not in it.
#[derive(Debug)]
pub(crate) struct Connected {
    hasher: RandomState,
    shards: [Mutex<HashMap<Client, u32>>; SHARDS],
}

impl Connected {
    pub(crate) fn new() -> Self {
        Connected { hasher: RandomState::new(), shards: Default::default() }
    }

    /// One more connection of this client, for as long as the guard lives; `None`: it has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, client: Client, limit: u32) -> Option<Presence> {
        match self.shard(client).entry(client) {
            Entry::Occupied(count) if *count.get() >= limit => return None,
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(vacant) => {
                vacant.insert(1);
            }
        }
        Some(Presence { connected: self.clone(), client })
    }

    fn shard(&self, client: Client) -> MutexGuard<'_, HashMap<Client, u32>> {
        let shard = self.hasher.hash_one(client) as usize % SHARDS;
        lock(&self.shards[shard])
    }
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct Presence {
    connected: Arc<Connected>,
    client: Client,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.connected.shard(self.client).entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How fast each client may come.
#[derive(Debug)]
pub(crate) struct RateLimit<C: Clock> {
    rate: Rate,
    limiter: RateLimiter<Client, Rates, C, NoOpMiddleware<C::Instant>>,
}

impl<C: Clock> RateLimit<C> {
    /// `None`: that rate is no limit that could be kept.
    pub(crate) fn new(rate: Rate, clock: C) -> Option<Self> {
        let burst = NonZeroU32::new(rate.count)?;
        let quota = Quota::with_period(rate.per / burst.get())?.allow_burst(burst);
        Some(RateLimit { rate, limiter: RateLimiter::new(quota, Rates::new(), clock) })
    }

    /// Whether this client may come once more now.
    pub(crate) fn admits(&self, client: Client) -> bool {
        self.limiter.check_key(&client).is_ok()
    }
}

/// Clients of one hash, each with the time at which it will have its whole allowance back.
type Bucket = Vec<(Client, Nanos)>;

const BUCKETS: usize = 1024;
const BUCKET: usize = 128;

/// What is remembered of at most 131,072 clients (2 MiB). Where there is no room, the one that has used least of its own is forgotten.
#[derive(Debug)]
pub(crate) struct Rates {
    hasher: RandomState,
    buckets: Box<[Mutex<Bucket>]>,
}

impl Rates {
    fn new() -> Self {
        Rates { hasher: RandomState::new(), buckets: (0..BUCKETS).map(|_| Mutex::default()).collect() }
    }
}

impl StateStore for Rates {
    type Key = Client;

    fn measure_and_replace<T, F, E>(&self, client: &Client, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let bucket = self.hasher.hash_one(client) as usize % BUCKETS;
        let mut bucket = lock(&self.buckets[bucket]);
        if let Some((_, known)) = bucket.iter_mut().find(|(known, _)| known == client) {
            let (decision, next) = decide(Some(*known))?;
            *known = next;
            return Ok(decision);
        }
        let (decision, next) = decide(None)?;
        if bucket.len() < BUCKET {
            bucket.push((*client, next));
        } else if let Some(forgotten) = bucket.iter_mut().min_by_key(|(_, whole_again)| *whole_again) {
            *forgotten = (*client, next);
        }
        Ok(decision)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn client(text: &str) -> Client {
        Client::of(text.parse().unwrap())
    }

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("::c000:201"));
    }

    #[test]
    fn networks_of_both_families_overlapping_and_nested() {
        let set =
            networks(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32", "2001:db8:1::/48"]);
        let contains = |text: &str| set.contain(text.parse().unwrap());
        for inside in
            ["10.0.0.0", "10.1.2.3", "10.255.255.255", "192.0.2.7", "2001:db8:1::5", "::ffff:10.9.9.9"]
        {
            assert!(contains(inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::"] {
            assert!(!contains(outside), "{outside}");
        }
        let all = networks(&["::/0", "192.0.2.0/24"]);
        assert!(all.contain("2001:db8::1".parse().unwrap()) && !all.contain("192.0.3.1".parse().unwrap()));
        assert!(networks(&[]).is_empty() && !networks(&[]).contain(Ipv4Addr::LOCALHOST.into()));
    }

    proptest! {
        #[test]
        fn bisection_finds_what_a_scan_does(
            nets in prop::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            probes in prop::collection::vec(any::<u32>(), 1..50),
        ) {
            let nets: Vec<IpNet> = nets.iter()
                .map(|(ip, len)| IpNet::new(Ipv4Addr::from(*ip).into(), *len).unwrap().trunc()).collect();
            let set = Networks::new(&nets);
            let edges = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
            for address in probes.iter().map(|ip| Ipv4Addr::from(*ip).into()).chain(edges) {
                prop_assert_eq!(set.contain(address), nets.iter().any(|net| net.contains(&address)));
            }
        }
    }

    #[test]
    fn a_client_has_at_most_its_connections_and_is_forgotten_with_the_last() {
        let connected = Arc::new(Connected::new());
        let (a, b) = (client("192.0.2.1"), client("192.0.2.2"));
        let first = connected.enter(a, 2).unwrap();
        let second = connected.enter(a, 2).unwrap();
        assert!(connected.enter(a, 2).is_none());
        assert!(connected.enter(b, 2).is_some(), "another client is not held up");
        drop(first);
        assert!(connected.enter(a, 2).is_some());
        drop(second);
        assert!(connected.shards.iter().all(|shard| lock(shard).is_empty()));
    }

    /// A clock that a test turns.
    #[derive(Debug, Clone, Default)]
    struct Hand(Arc<AtomicU64>);

    impl Hand {
        fn turn(&self, by: Duration) {
            self.0.fetch_add(by.as_nanos() as u64, Relaxed);
        }
    }

    impl Clock for Hand {
        type Instant = Nanos;

        fn now(&self) -> Nanos {
            self.0.load(Relaxed).into()
        }
    }

    fn limit(count: u32, per: Duration, hand: &Hand) -> RateLimit<Hand> {
        RateLimit::new(Rate { count, per }, hand.clone()).unwrap()
    }

    #[test]
    fn a_client_may_come_as_often_as_the_rate_says_and_so_often_at_once() {
        let hand = Hand::default();
        let limit = limit(10, Duration::from_secs(1), &hand);
        let (a, b) = (client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!((0..30).filter(|_| limit.admits(a)).count(), 10);
        assert!(limit.admits(b));
        hand.turn(Duration::from_millis(500));
        assert_eq!((0..30).filter(|_| limit.admits(a)).count(), 5);
        hand.turn(Duration::from_secs(60));
        assert_eq!((0..30).filter(|_| limit.admits(a)).count(), 10);
    }

    #[test]
    fn a_million_clients_take_no_more_memory_than_the_bound_and_the_worst_is_remembered() {
        let hand = Hand::default();
        let limit = limit(10, Duration::from_secs(1), &hand);
        let worst = client("192.0.2.1");
        while limit.admits(worst) {}
        for address in 0..1_000_000u32 {
            assert!(limit.admits(Client::of(Ipv4Addr::from(0x0A00_0000 + address).into())));
        }
        assert!(!limit.admits(worst), "it has used more of its allowance than any of the million");
        let rates = limit.limiter.into_state_store();
        let held: usize = rates.buckets.iter().map(|bucket| lock(bucket).capacity()).sum();
        assert_eq!(held, BUCKETS * BUCKET);
        assert!(held * size_of::<(Client, Nanos)>() <= 2 << 20);
    }
}

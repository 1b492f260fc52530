//! What is counted per local address, over all services and ports that listen on it: a VIP's own numbers. Pure.
//!
//! An address is known for as long as there is a listener or a connection on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::counters::Counter;

/// One worker's numbers of one address. The worker's listeners and connections hold it, so that not even its reference
/// count is shared with other workers.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct LocalAddress {
    ip: IpAddr,
    pub(crate) active: Counter,
    pub(crate) accepted: Counter,
}

/// One connection's use of a local address: counts it in `accepted`, and in `active` for as long as it lives.
#[derive(Debug)]
pub(crate) struct AddressGuard(Arc<LocalAddress>);

impl AddressGuard {
    pub(crate) fn new(address: Arc<LocalAddress>) -> Self {
        address.accepted.increment();
        address.active.increment();
        AddressGuard(address)
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.0.ip
    }
}

impl Drop for AddressGuard {
    fn drop(&mut self) {
        self.0.active.decrement();
    }
}

/// The addresses that are in use, each with one part per worker.
#[derive(Debug, Default)]
pub(crate) struct Addresses(BTreeMap<IpAddr, Box<[Arc<LocalAddress>]>>);

impl Addresses {
    /// The parts of `ip`, of which there are as many as workers.
    pub(crate) fn take_up(&mut self, ip: IpAddr, workers: usize) -> &[Arc<LocalAddress>] {
        self.0.entry(ip).or_insert_with(|| {
            let part = || LocalAddress { ip, active: Counter::default(), accepted: Counter::default() };
            (0..workers).map(|_| Arc::new(part())).collect()
        })
    }

    /// Forgets what neither a listener nor a connection holds any more.
    pub(crate) fn forget_unused(&mut self) {
        self.0.retain(|_, parts| parts.iter().any(|part| Arc::strong_count(part) > 1));
    }

    pub(crate) fn sum(&self, ip: IpAddr, counter: impl Fn(&LocalAddress) -> &Counter) -> u64 {
        let parts = self.0.get(&ip).into_iter().flatten();
        parts.fold(0, |sum, part| sum.wrapping_add(counter(part).value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn an_address_is_known_until_its_last_connection_has_ended() {
        let mut addresses = Addresses::default();
        let guard = AddressGuard::new(addresses.take_up(IP, 2)[1].clone());
        addresses.forget_unused();
        assert_eq!((addresses.sum(IP, |a| &a.active), addresses.sum(IP, |a| &a.accepted)), (1, 1));
        drop(guard);
        assert_eq!((addresses.sum(IP, |a| &a.active), addresses.sum(IP, |a| &a.accepted)), (0, 1));
        addresses.forget_unused();
        assert!(addresses.0.is_empty());
        assert_eq!(addresses.sum(IP, |a| &a.accepted), 0);
    }
}

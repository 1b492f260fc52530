//! Which listeners a new configuration opens, keeps and closes. Pure.
//!
//! An address that is in both stays untouched: a listener that is closed and opened again resets the connections that
//! wait in its queue.

use std::collections::BTreeSet;
use std::net::SocketAddr;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) open: BTreeSet<SocketAddr>,
    pub(crate) keep: BTreeSet<SocketAddr>,
    pub(crate) close: BTreeSet<SocketAddr>,
}

impl Plan {
    pub(crate) fn new(running: &BTreeSet<SocketAddr>, wanted: &BTreeSet<SocketAddr>) -> Self {
        Plan { open: wanted - running, keep: wanted & running, close: running - wanted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ports: &[u16]) -> BTreeSet<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect()
    }

    #[test]
    fn new_ones_are_opened_common_ones_kept_and_old_ones_closed() {
        let plan = Plan::new(&addresses(&[1, 2, 3]), &addresses(&[2, 3, 4]));
        assert_eq!(plan, Plan { open: addresses(&[4]), keep: addresses(&[2, 3]), close: addresses(&[1]) });
    }

    #[test]
    fn the_same_set_touches_nothing() {
        let plan = Plan::new(&addresses(&[1, 2]), &addresses(&[1, 2]));
        assert_eq!(plan, Plan { keep: addresses(&[1, 2]), ..Plan::default() });
    }
}

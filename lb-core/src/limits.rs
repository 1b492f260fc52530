//! The file-descriptor limit of the process and what it allows.

use std::io;

use crate::relay::PIPES;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one. Returns the limit that now holds.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Descriptors that the data plane itself holds at most: each worker an event queue, a ring, the eventfd that wakes it, a socket
/// per address it listens on, and two for each of its pipes, which it has not before they are needed.
pub fn descriptors_of_plane(workers: usize, listeners: usize) -> u64 {
    let each = (listeners as u64).saturating_add(3 + 2 * PIPES as u64);
    (workers as u64).saturating_mul(each)
}

/// Client connections that fit below a limit on open files: each takes two, `reserved` are kept for everything else. At
/// least one.
pub fn max_connections_for(descriptors: u64, reserved: u64) -> u32 {
    let connections = descriptors.saturating_sub(reserved) / 2;
    u32::try_from(connections).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_takes_two_descriptors_and_some_are_kept_for_the_rest() {
        assert_eq!(max_connections_for(20_000, 600), (20_000 - 600) / 2);
        assert_eq!(max_connections_for(100, 600), 1);
        assert_eq!(max_connections_for(u64::MAX, 600), u32::MAX);
    }

    #[test]
    fn raising_the_limit_twice_gives_the_same() {
        let first = raise_descriptor_limit().unwrap();
        assert_eq!(raise_descriptor_limit().unwrap(), first);
    }
}

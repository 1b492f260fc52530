//! The file-descriptor limit of the process and what it allows.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for everything but relayed connections: listeners, event loops, checks, BGP, admin, logs.
const RESERVED: u64 = 256;

/// Raises the soft limit on open files to the hard one. Returns the limit that now holds.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Client connections that fit below a limit on open files: each takes two, some are kept for the rest.
pub fn max_connections_for(descriptors: u64) -> u32 {
    let connections = descriptors.saturating_sub(RESERVED) / 2;
    u32::try_from(connections).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_takes_two_descriptors_and_some_are_kept_for_the_rest() {
        assert_eq!(max_connections_for(20_000), (20_000 - 256) / 2);
        assert_eq!(max_connections_for(100), 1);
        assert_eq!(max_connections_for(u64::MAX), u32::MAX);
    }

    #[test]
    fn raising_the_limit_twice_gives_the_same() {
        let first = raise_descriptor_limit().unwrap();
        assert_eq!(raise_descriptor_limit().unwrap(), first);
    }
}

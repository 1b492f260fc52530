//! What a process holds and uses, as the kernel tells it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// The descriptors of a process by what they are: `socket`, `pipe`, `anon_inode`, a path.
pub fn descriptors(process: u32) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten() {
        // One that is closed meanwhile is none.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy();
        let kind = target.split_once(':').map_or(&*target, |(kind, _)| kind);
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    kinds
}

/// Connections of this local address whose peer has closed and we have not.
pub fn half_closed(addr: SocketAddr) -> usize {
    const CLOSE_WAIT: &str = "08";
    let IpAddr::V4(ip) = addr.ip() else { panic!("IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), addr.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>());
    rows.filter(|row| row.first() == Some(&local.as_str()) && row.get(2) == Some(&CLOSE_WAIT)).count()
}

/// Resident bytes of a process.
pub fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The time for which a process has kept cores busy.
pub fn busy(process: u32) -> Duration {
    // proc(5): user and kernel time, in hundredths of a second.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| Duration::from_millis(10 * ticks.parse::<u64>().unwrap())).sum()
}

/// Leaves a process no further descriptor: the numbers below the first that is free are all there are. Gives back the
/// limit that held before.
pub fn exhaust_descriptors(process: u32) -> Rlimit {
    let is_open = |number: &u64| fs::symlink_metadata(format!("/proc/{process}/fd/{number}")).is_ok();
    let first_free = (0..).find(|number| !is_open(number)).unwrap();
    // It has the same hard limit as this process, its parent.
    let maximum = getrlimit(Resource::Nofile).maximum;
    limit_descriptors(process, Rlimit { current: Some(first_free), maximum })
}

/// Sets the limit on the descriptors of a process. Gives back the one before.
pub fn limit_descriptors(process: u32, limit: Rlimit) -> Rlimit {
    prlimit(Pid::from_raw(i32::try_from(process).unwrap()), Resource::Nofile, limit).unwrap()
}

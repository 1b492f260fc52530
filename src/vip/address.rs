//! VIP addresses on this host, through rtnetlink.
//!
//! Puts an address on an interface as /32 or /128 and takes it off again, and tells ours from the operator's: what this
//! module adds carries a mark of its own (`IFA_PROTO`, Linux 5.18), so that a process started after a crash knows the
//! address it left behind as its own, while one that was there already is never removed. On an older kernel the mark is
//! lost, and a left-over address counts as the operator's.
//!
//! Decides nothing: when an address comes and goes is the life cycle's. One background task serves the netlink socket;
//! it ends with [`Addresses`].

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{AddressMessageBuilder, Handle};
use rustix::io::Errno;

/// `IFA_PROTO` of our addresses, as `ip address` shows it; below 4 are the kernel's.
const OUR_MARK: AddressProtocol = AddressProtocol::Other(186);

/// Whose an address is that is on the host now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// Ours: put there now, or left behind by a process of ours that did not end in order.
    New,
    /// The operator's, never to be removed by us.
    AlreadyThere,
}

/// What went wrong with an address, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("cannot open an rtnetlink socket: {0}")]
    Open(#[source] io::Error),
    #[error("cannot {tried}: there is no such interface; there are {known}")]
    NoInterface { tried: Tried, known: String },
    #[error(
        "cannot {tried}: this needs CAP_NET_ADMIN: run as root, give the capability (systemd: \
         AmbientCapabilities=CAP_NET_ADMIN), or set `interface = \"\"` and put the address there yourself"
    )]
    NotPermitted { tried: Tried },
    #[error("cannot {tried}: IPv6 is disabled there (sysctl net.ipv6.conf.*.disable_ipv6)")]
    Ipv6Disabled { tried: Tried },
    #[error("cannot {tried}: {source}")]
    Kernel { tried: Tried, source: io::Error },
}

/// What was tried when an [`AddressError`] came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    Add(IpAddr, String),
    Remove(IpAddr, String),
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tried::Add(address, interface) => write!(f, "put {} on `{interface}`", HostPrefix(*address)),
            Tried::Remove(address, interface) => write!(f, "take {} off `{interface}`", HostPrefix(*address)),
        }
    }
}

/// An address as /32 or /128.
struct HostPrefix(IpAddr);

impl HostPrefix {
    fn length(&self) -> u8 {
        if self.0.is_ipv4() { 32 } else { 128 }
    }

    fn message(&self, interface: u32) -> AddressMessage {
        match self.0 {
            IpAddr::V4(a) => {
                AddressMessageBuilder::<Ipv4Addr>::new().index(interface).address(a, self.length()).build()
            }
            IpAddr::V6(a) => {
                AddressMessageBuilder::<Ipv6Addr>::new().index(interface).address(a, self.length()).build()
            }
        }
    }
}

impl fmt::Display for HostPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.length())
    }
}

/// The addresses of this network namespace.
#[derive(Debug)]
pub struct Addresses {
    netlink: Handle,
}

impl Addresses {
    /// Opens the socket; needs no privilege.
    pub async fn connect() -> Result<Self, AddressError> {
        let (connection, netlink, _) = rtnetlink::new_connection().map_err(AddressError::Open)?;
        tokio::spawn(connection);
        Ok(Addresses { netlink })
    }

    /// Puts `address` on `interface`, usable at once: global scope, no duplicate address detection.
    pub async fn add(&self, address: IpAddr, interface: &str) -> Result<Added, AddressError> {
        let tried = Tried::Add(address, interface.to_owned());
        let index = match self.interface(interface, &tried).await? {
            Ok(index) => index,
            Err(known) => return Err(AddressError::NoInterface { tried, known }),
        };
        let prefix = HostPrefix(address);
        let mut request = self.netlink.address().add(index, address, prefix.length());
        let message = request.message_mut();
        message.attributes.push(AddressAttribute::Protocol(OUR_MARK));
        message.header.flags |= AddressHeaderFlags::Nodad;
        match request.execute().await.map_err(to_io) {
            Ok(()) => Ok(Added::New),
            Err(e) if errno(&e) == Some(Errno::EXIST) => self.whose(address, index, &tried).await,
            Err(e) => Err(refused(tried, e)),
        }
    }

    /// Takes `address` off `interface`; it is no error if either is gone already. Only for what [`Addresses::add`] said
    /// is ours.
    pub async fn remove(&self, address: IpAddr, interface: &str) -> Result<(), AddressError> {
        let tried = Tried::Remove(address, interface.to_owned());
        let Ok(index) = self.interface(interface, &tried).await? else { return Ok(()) };
        let request = self.netlink.address().del(HostPrefix(address).message(index));
        match request.execute().await.map_err(to_io) {
            Ok(()) => Ok(()),
            Err(e) if matches!(errno(&e), Some(Errno::ADDRNOTAVAIL | Errno::NODEV)) => Ok(()),
            Err(e) => Err(refused(tried, e)),
        }
    }

    async fn whose(&self, address: IpAddr, index: u32, tried: &Tried) -> Result<Added, AddressError> {
        let ours = self.list(address, tried).await?.iter().any(|found| {
            found.header.index == index
                && found.header.prefix_len == HostPrefix(address).length()
                && found.attributes.contains(&AddressAttribute::Protocol(OUR_MARK))
        });
        Ok(if ours { Added::New } else { Added::AlreadyThere })
    }

    async fn list(&self, address: IpAddr, tried: &Tried) -> Result<Vec<AddressMessage>, AddressError> {
        let found = self.netlink.address().get().set_address_filter(address).execute();
        found.try_collect().await.map_err(|e| refused(tried.clone(), to_io(e)))
    }

    /// The index of an interface, or the names of those there are.
    async fn interface(&self, name: &str, tried: &Tried) -> Result<Result<u32, String>, AddressError> {
        let mut links = self.netlink.link().get().execute();
        let mut known = Vec::new();
        while let Some(link) = links.try_next().await.map_err(|e| refused(tried.clone(), to_io(e)))? {
            for attribute in &link.attributes {
                match attribute {
                    LinkAttribute::IfName(found) if found == name => return Ok(Ok(link.header.index)),
                    LinkAttribute::IfName(found) => known.push(format!("`{found}`")),
                    _ => {}
                }
            }
        }
        Ok(Err(known.join(", ")))
    }
}

/// Whether an address is on this host, by whomever: only then can a socket be bound to it without `IP_FREEBIND`. An
/// IPv6 address that is still being checked for duplicates does not count. Any other failure says nothing about the
/// address, and then nothing is assumed to be amiss. With `ip_nonlocal_bind` set, every address looks local.
pub fn is_local(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

fn refused(tried: Tried, source: io::Error) -> AddressError {
    match errno(&source) {
        Some(Errno::PERM) => AddressError::NotPermitted { tried },
        Some(Errno::ACCESS) => AddressError::Ipv6Disabled { tried },
        _ => AddressError::Kernel { tried, source },
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::process::Command;

    use super::*;

    const INSIDE: &str = "CONTRAIL_LB_TEST_NAMESPACE";

    /// Runs `test` in user and network namespaces of its own: the test binary starts itself again under `unshare`, for
    /// that one test. With `["-Un"]` the user has no capability there, with `["-Urn"]` all.
    fn in_a_namespace(name: &str, unshare: &str, test: impl Future<Output = ()>) {
        if std::env::var_os(INSIDE).is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            return runtime.block_on(test);
        }
        if !Command::new("unshare").args([unshare, "true"]).status().is_ok_and(|s| s.success()) {
            eprintln!("skipped: `unshare {unshare}` is not permitted here");
            return;
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let run = Command::new("unshare")
            .arg(unshare)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &format!("{module}::{name}")])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
    }

    fn vips() -> [IpAddr; 2] {
        ["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()]
    }

    async fn present(addresses: &Addresses, address: IpAddr) -> bool {
        !addresses.list(address, &Tried::Add(address, "lo".into())).await.unwrap().is_empty()
    }

    /// What `ip address add` would do.
    async fn operator_adds(addresses: &Addresses, address: IpAddr) {
        let Ok(lo) = addresses.interface("lo", &Tried::Add(address, "lo".into())).await.unwrap() else {
            panic!("no lo")
        };
        let length = HostPrefix(address).length();
        addresses.netlink.address().add(lo, address, length).execute().await.unwrap();
    }

    #[test]
    fn an_address_is_added_once_seen_and_removed() {
        in_a_namespace("an_address_is_added_once_seen_and_removed", "-Urn", async {
            let addresses = Addresses::connect().await.unwrap();
            for vip in vips() {
                assert!(!present(&addresses, vip).await);
                assert_eq!(addresses.add(vip, "lo").await.unwrap(), Added::New);
                assert!(present(&addresses, vip).await);
                addresses.remove(vip, "lo").await.unwrap();
                assert!(!present(&addresses, vip).await);
                addresses.remove(vip, "lo").await.unwrap();
            }
        });
    }

    #[test]
    fn an_ipv6_address_is_usable_at_once() {
        in_a_namespace("an_ipv6_address_is_usable_at_once", "-Urn", async {
            let addresses = Addresses::connect().await.unwrap();
            let [_, vip] = vips();
            addresses.add(vip, "lo").await.unwrap();
            let found = addresses.list(vip, &Tried::Add(vip, "lo".into())).await.unwrap();
            assert!(!found[0].header.flags.contains(AddressHeaderFlags::Tentative));
            std::net::TcpListener::bind((vip, 0)).unwrap();
        });
    }

    #[test]
    fn only_an_address_of_this_host_is_local() {
        assert!(is_local("127.0.0.1".parse().unwrap()));
        assert!(!is_local("192.0.2.10".parse().unwrap()));
    }

    #[test]
    fn an_address_left_behind_by_a_crash_is_known_as_ours() {
        in_a_namespace("an_address_left_behind_by_a_crash_is_known_as_ours", "-Urn", async {
            for vip in vips() {
                let crashed = Addresses::connect().await.unwrap();
                crashed.add(vip, "lo").await.unwrap();
                drop(crashed);
                let restarted = Addresses::connect().await.unwrap();
                assert_eq!(restarted.add(vip, "lo").await.unwrap(), Added::New);
            }
        });
    }

    #[test]
    fn the_operators_address_is_known_as_such() {
        in_a_namespace("the_operators_address_is_known_as_such", "-Urn", async {
            let addresses = Addresses::connect().await.unwrap();
            for vip in vips() {
                operator_adds(&addresses, vip).await;
                assert_eq!(addresses.add(vip, "lo").await.unwrap(), Added::AlreadyThere);
            }
        });
    }

    #[test]
    fn a_wrong_interface_is_named_with_those_there_are() {
        in_a_namespace("a_wrong_interface_is_named_with_those_there_are", "-Urn", async {
            let addresses = Addresses::connect().await.unwrap();
            let [vip, _] = vips();
            let error = addresses.add(vip, "lo9").await.unwrap_err();
            let expected = "cannot put 192.0.2.10/32 on `lo9`: there is no such interface; there are `lo`";
            assert!(error.to_string().starts_with(expected), "{error}");
            addresses.remove(vip, "lo9").await.unwrap();
        });
    }

    #[test]
    fn without_the_capability_the_error_says_what_is_needed() {
        in_a_namespace("without_the_capability_the_error_says_what_is_needed", "-Un", async {
            let addresses = Addresses::connect().await.unwrap();
            let [vip, _] = vips();
            let error = addresses.add(vip, "lo").await.unwrap_err();
            assert!(matches!(error, AddressError::NotPermitted { .. }), "{error}");
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            assert!(!present(&addresses, vip).await);
        });
    }
}

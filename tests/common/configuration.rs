//! Configuration text for the daemon under test, in the names of the configuration reference.

use std::net::{IpAddr, SocketAddr};

use super::backend::{Backend, CHECK_PATH};
use super::bgp_peer::BgpPeer;

/// The AS of the load balancer in every test.
pub const LOCAL_AS: u32 = 64512;
/// The AS of its routers, unless the session is internal.
pub const ROUTER_AS: u32 = 64500;

/// A check by HTTP, as quick as it may be: one result decides.
pub fn quick_check() -> String {
    format!(
        "check = {{ kind = \"http\", path = \"{CHECK_PATH}\", interval = \"100ms\", timeout = \"1s\", rise = 1, fall = 1 }}\n"
    )
}

/// No checks of any kind: what is configured is up.
pub const UNCHECKED: &str = "check = { kind = \"none\" }\npassive = { enabled = false }\n";

/// A service on explicit addresses. `keys` are further lines of the table.
pub fn service(name: &str, listen: &[SocketAddr], keys: &str, backends: &[&Backend]) -> String {
    let listen: Vec<_> = listen.iter().map(|a| format!("\"{a}\"")).collect();
    format!("[[service]]\nname = \"{name}\"\nlisten = [{}]\n{keys}{}", listen.join(", "), servers(backends))
}

/// A service on a port of a VIP.
pub fn vip_service(name: &str, vip: IpAddr, port: u16, keys: &str, backends: &[&Backend]) -> String {
    service_on_vips(name, &[vip], port, keys, backends)
}

/// A service on the same port of several VIPs.
pub fn service_on_vips(name: &str, vips: &[IpAddr], port: u16, keys: &str, backends: &[&Backend]) -> String {
    let vips: Vec<_> = vips.iter().map(|vip| format!("\"{vip}\"")).collect();
    let head = format!("[[service]]\nname = \"{name}\"\nvip = [{}]\nports = [{port}]\n", vips.join(", "));
    head + keys + &servers(backends)
}

/// A VIP that is on the host already. `keys` are further lines of the table.
pub fn vip(address: IpAddr, keys: &str) -> String {
    format!("[[vip]]\naddress = \"{address}\"\ninterface = \"\"\n{keys}")
}

/// `[bgp]`, which the tables of [`bgp_peer`] follow.
pub fn bgp(keys: &str) -> String {
    format!("[bgp]\nlocal_as = {LOCAL_AS}\nrouter_id = \"10.84.14.11\"\nconnect_retry = \"1s\"\n{keys}")
}

/// An external peer to be dialled from `local`.
pub fn bgp_peer(name: &str, peer: &BgpPeer, local: IpAddr, keys: &str) -> String {
    let (address, port) = (peer.addr().ip(), peer.addr().port());
    format!(
        "[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nport = {port}\nremote_as = {}\n\
         local_address = \"{local}\"\n{keys}",
        peer.asn()
    )
}

fn servers(backends: &[&Backend]) -> String {
    backends.iter().map(|b| server(b, "")).collect()
}

/// A backend of the service above it. `keys` are further lines of the table.
pub fn server(backend: &Backend, keys: &str) -> String {
    format!("[[service.backend]]\nname = \"{}\"\naddress = \"{}\"\n{keys}", backend.name(), backend.addr())
}

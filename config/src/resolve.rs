//! From the checked [`Raw`] to the [`Config`] that everyone consumes: references followed, `[bgp]`'s defaults handed
//! down. Pure; finds nothing wrong any more, as `checks` already did.

use std::collections::BTreeSet;

use crate::findings::At;
use crate::model::{Admin, Backend, Bgp, Check, Config, Peer, PeerSet, Service, Vip};
use crate::raw::{Raw, RawBackend, RawBgp, RawCheck, RawPeer, RawRoute, RawService, RawVip};
use crate::reader::List;
use crate::types::Family;

/// `None` only where reading found errors: something required is not there.
pub(crate) fn resolve(raw: Raw) -> Option<Config> {
    let families = vip_families(&raw);
    let bgp = match raw.bgp {
        // Without a peer nothing is required in `[bgp]`, and nothing can be done with it.
        Some(bgp) if bgp.peers.is_empty() && bgp.local_as.is_none() => None,
        Some(bgp) => Some(resolve_bgp(bgp, &families)?),
        None => None,
    };
    Some(Config {
        global: raw.global,
        admin: Admin {
            socket: raw.admin.socket,
            listen: raw.admin.listen.value,
            auth: raw.admin.auth.map(|auth| auth.value),
        },
        bgp,
        vips: raw.vips.into_iter().map(resolve_vip).collect::<Option<_>>()?,
        services: raw.services.into_iter().map(resolve_service).collect::<Option<_>>()?,
    })
}

/// The families of the configured VIPs: what a peer gets that names none.
pub(crate) fn vip_families(raw: &Raw) -> BTreeSet<Family> {
    raw.vips.iter().filter_map(|vip| vip.address.as_ref()).map(|address| Family::of(address.value)).collect()
}

/// The families of one peer, sorted. Never empty: without any VIP it is that of the session.
pub(crate) fn peer_families(peer: &RawPeer, of_vips: &BTreeSet<Family>) -> BTreeSet<Family> {
    if peer.families.is_given {
        return values(peer.families.clone()).into_iter().collect();
    }
    let of_session = || peer.address.iter().map(|address| Family::of(address.value.ip)).collect();
    if of_vips.is_empty() { of_session() } else { of_vips.clone() }
}

fn values<T>(list: List<T>) -> Vec<T> {
    list.items.into_iter().map(|item| item.value).collect()
}

fn resolve_bgp(bgp: RawBgp, of_vips: &BTreeSet<Family>) -> Option<Bgp> {
    let hold_time = bgp.hold_time.value;
    let resolve_peer = |peer: RawPeer| {
        let families = peer_families(&peer, of_vips).into_iter().collect();
        let address = peer.address?.value;
        Some(Peer {
            families,
            name: peer.name?.value,
            address: address.ip,
            interface: address.interface,
            remote_as: peer.remote_as?.value,
            port: peer.port,
            local_address: peer.local_address.value,
            passive: peer.passive.value,
            next_hop: peer.next_hop.value,
            hold_time: peer.hold_time.map_or(hold_time, |own| own.value),
            multihop: peer.multihop,
            ttl_security: peer.ttl_security,
            password_file: peer.password_file.value,
            bfd: peer.bfd,
            role: peer.role.map(|role| role.value),
            role_strict: peer.role_strict,
            extended_next_hop: peer.extended_next_hop.value,
            fellow: peer.fellow,
            announce: peer.announce,
            degraded: peer.degraded,
        })
    };
    Some(Bgp {
        local_as: bgp.local_as?.value,
        router_id: bgp.router_id?.value,
        listen: values(bgp.listen),
        connect_retry: bgp.connect_retry,
        peers: bgp.peers.into_iter().map(resolve_peer).collect::<Option<_>>()?,
    })
}

fn resolve_vip(vip: RawVip) -> Option<Vip> {
    let peers = if vip.peers.is_given {
        let names: BTreeSet<_> = values(vip.peers).into_iter().collect();
        PeerSet::Named(names.into_iter().collect())
    } else {
        PeerSet::All
    };
    Some(Vip {
        address: vip.address?.value,
        interface: vip.interface,
        announce: vip.announce,
        degraded: vip.degraded,
        on_short: vip.on_short,
        on_all_down: vip.on_all_down,
        announce_delay: vip.announce_delay,
        flap: vip.flap,
        peers,
    })
}

fn resolve_service(service: RawService) -> Option<Service> {
    Some(Service {
        listen: service.listeners().into_iter().map(|listener| listener.value).collect(),
        name: service.name?.value,
        vips: values(service.vips),
        required: service.required,
        min_healthy: service.min_healthy.value,
        balance: service.balance.value,
        max_connections: service.max_connections,
        client_limits: service.client_limits,
        source_address: service.source_address.value,
        send_proxy: service.send_proxy,
        accept_proxy: service.accept_proxy.value,
        trusted_proxies: values(service.trusted_proxies),
        allow: values(service.allow),
        deny: values(service.deny),
        tls: service.tls.resolve(),
        sni_routes: RawRoute::resolve_all(service.sni_routes),
        backend_tls: service.backend_tls.resolve(),
        slow_start: service.slow_start,
        on_down: service.on_down,
        tcp_keepalive: service.tcp_keepalive,
        linger: service.linger,
        timeouts: service.timeouts,
        retries: service.retries,
        check: resolve_check(service.check),
        passive: service.passive,
        backends: service.backends.into_iter().map(resolve_backend).collect::<Option<_>>()?,
    })
}

fn resolve_check(check: RawCheck) -> Check {
    let RawCheck { kind, interval, fast_interval, down_interval, timeout, rise, fall, port, place: _ } =
        check;
    Check {
        kind,
        interval: interval.value,
        fast_interval,
        down_interval,
        timeout: timeout.value,
        rise,
        fall,
        port,
    }
}

fn resolve_backend(backend: RawBackend) -> Option<Backend> {
    let At { value: name, .. } = backend.name?;
    let At { value: address, .. } = backend.address?;
    Some(Backend {
        name,
        address,
        weight: backend.weight,
        max_connections: backend.max_connections,
        backup: backend.backup,
        disabled: backend.disabled,
    })
}

//! The long form of any configuration reads back as the same configuration.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{
    Announce, AttributeOverrides, Backend, BackendAddr, BackendTls, Balance, Bfd, CertificateFiles, Check,
    CheckKind, ClientAuth, ClientLimits, CloseNotify, Community, Config, Degraded, Flap, HoldTime, HttpCheck,
    LargeCommunity, Name, OnAllDown, OnDown, OnShort, Passive, Peer, ProxyVersion, Rate, Role, SendExpect,
    Service, SourceAddress, Timeouts, Tls, TlsVersion, Vip, Weight, expand, parse,
};
use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const FULL: &str = include_str!("fixtures/full.toml");

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9._:%\\[\\]-]{1,64}".prop_map(|text| Name::new(&text).expect("a name"))
}

fn http() -> impl Strategy<Value = CheckKind> {
    let status = (100u16..=599, 0u16..100).prop_map(|(first, more)| (first, (first + more).min(599)));
    let texts =
        ("[A-BD-Z]{1,16}", "/[!-\"$-~]{0,40}", option::of("[a-z0-9.:-]{1,30}"), option::of(".{1,200}"));
    (texts, vec(status, 1..5)).prop_map(|((method, path, host, expect_body), expect_status)| {
        CheckKind::Http(HttpCheck { method, path, host, expect_status, expect_body })
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 1..20), "(hex:)?.{1,10}".prop_map(String::into_bytes)]
}

fn dialog() -> impl Strategy<Value = CheckKind> {
    let (silent, talkative) = (Just(Vec::new()), bytes());
    let step = prop_oneof![(bytes(), bytes()), (silent.clone(), bytes()), (talkative, silent)];
    let step = step.prop_map(|(send, expect)| SendExpect { send, expect });
    let agent = vec(any::<u8>(), 0..20).prop_map(|send| CheckKind::Agent { send });
    prop_oneof![vec(step, 1..=16).prop_map(CheckKind::SendExpect), agent]
}

fn check() -> impl Strategy<Value = Check> {
    let plain = select(vec![CheckKind::None, CheckKind::Tcp, CheckKind::Tls]);
    let https = http().prop_map(|kind| match kind {
        CheckKind::Http(http) => CheckKind::Https(http),
        other => other,
    });
    let kind = prop_oneof![plain, http(), https, dialog()];
    let interval = || millis(10..3_600_000);
    let intervals = (interval(), option::of(interval()), option::of(interval()));
    let port = option::of(1u16..);
    (kind, intervals, millis(1..3_600_000), 1u8..=100, 1u8..=100, port).prop_map(
        |(kind, (interval, fast_interval, down_interval), timeout, rise, fall, port)| Check {
            kind,
            interval,
            fast_interval,
            down_interval,
            timeout,
            rise,
            fall,
            port,
        },
    )
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let week = || millis(1..604_800_000);
    (millis(1..3_600_000), week(), week(), week(), week(), millis(0..3_600_000)).prop_map(
        |(connect, client, server, client_fin, server_fin, queue)| Timeouts {
            connect,
            client,
            server,
            client_fin,
            server_fin,
            queue,
        },
    )
}

fn limit() -> impl Strategy<Value = Option<u32>> {
    option::of(1u32..=10_000_000)
}

fn backend_address() -> impl Strategy<Value = BackendAddr> {
    let host = "([a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\\.){0,3}[a-z][a-z0-9]{0,20}";
    prop_oneof![
        (1u16..).prop_map(|port| BackendAddr::Ip(([10, 0, 0, 1], port).into())),
        (1u16..).prop_map(|port| BackendAddr::Ip(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port).into())),
        (1u8..).prop_map(|last| BackendAddr::ClientPort([10, 0, 0, last].into())),
        (host, 1u16..).prop_map(|(host, port)| BackendAddr::Name { host: host.into(), port, answer: None }),
        "/[ -~äö]{1,40}".prop_map(|path| BackendAddr::Unix(Path::new(&path).into())),
    ]
}

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(octets, length)| IpNet::new(octets.into(), length));
    let v6 = (any::<[u16; 7]>(), 0u8..=128).prop_map(|([a, b, c, d, e, f, g], length)| {
        IpNet::new([a.max(1), b, c, d, e, f, g, 0].into(), length.max(16))
    });
    vec(prop_oneof![v4, v6].prop_map(|network| network.expect("a network").trunc()), 0..4)
}

fn file() -> impl Strategy<Value = PathBuf> {
    "/[ -~äö]{1,30}".prop_map(PathBuf::from)
}

fn files() -> impl Strategy<Value = CertificateFiles> {
    (file(), file()).prop_map(|(certificate, key)| CertificateFiles { certificate, key })
}

fn tls() -> impl Strategy<Value = Option<Tls>> {
    let client_auth = prop_oneof![
        Just(ClientAuth::None),
        file().prop_map(ClientAuth::Optional),
        file().prop_map(ClientAuth::Required),
    ];
    let version = select(vec![TlsVersion::Tls12, TlsVersion::Tls13]);
    let parts = (vec(files(), 1..4), option::of(file()), client_auth, version, vec(".{1,20}", 0..3));
    option::of(parts.prop_map(|(certificates, key_password_file, client_auth, min_version, alpn)| Tls {
        certificates,
        key_password_file,
        client_auth,
        min_version,
        alpn,
    }))
}

fn backend_tls() -> impl Strategy<Value = BackendTls> {
    let server_name = option::of("[a-z][a-z0-9]{0,20}(\\.[a-z]{1,10}){0,3}");
    let close_notify = select(vec![CloseNotify::Required, CloseNotify::Optional]);
    (any::<bool>(), option::of(file()), server_name, any::<bool>(), option::of(files()), close_notify)
        .prop_map(|(enabled, ca, server_name, verify, client, close_notify)| BackendTls {
            enabled,
            ca,
            server_name,
            verify,
            client,
            close_notify,
        })
}

/// `like` with whatever it may do with connections.
fn connections(like: Service) -> impl Strategy<Value = Service> {
    let balances =
        [Balance::RoundRobin, Balance::LeastConn, Balance::Source, Balance::Random, Balance::First];
    let rate = option::of((1u32..=10_000_000, select(vec![1u64, 60])));
    let rate = rate.prop_map(|rate| rate.map(|(count, per)| Rate { count, per: Duration::from_secs(per) }));
    let proxy = (select(vec![None, Some(ProxyVersion::V1), Some(ProxyVersion::V2)]), any::<bool>());
    let after = (millis(0..3_600_000), select(vec![OnDown::Keep, OnDown::Close]));
    let limits = (limit(), limit(), rate);
    let source = select(vec![SourceAddress::Kernel, SourceAddress::Transparent]);
    let lists = (networks(), networks(), networks());
    let crypt = (tls(), backend_tls());
    (select(balances.to_vec()), limits, source, proxy, after, lists, crypt).prop_map(
        move |(
            balance,
            limits,
            source_address,
            (send_proxy, accept),
            (slow_start, on_down),
            lists,
            (tls, backend_tls),
        )| {
            let (max_connections, connections, rate) = limits;
            let (trusted_proxies, allow, deny) = lists;
            Service {
                balance,
                max_connections,
                client_limits: ClientLimits { connections, rate },
                source_address,
                send_proxy,
                accept_proxy: accept && !trusted_proxies.is_empty(),
                trusted_proxies,
                allow,
                deny,
                slow_start,
                on_down,
                tls,
                backend_tls,
                ..like.clone()
            }
        },
    )
}

/// Distinct names; addresses that no listener of the file has.
fn backends() -> impl Strategy<Value = Vec<Backend>> {
    let flags = (0u64..=256, limit(), any::<bool>(), any::<bool>());
    let numbered = (btree_set(name(), 1..6), vec((backend_address(), flags), 6));
    numbered.prop_map(|(names, rest)| {
        let backend = |(name, (address, (weight, max_connections, backup, disabled)))| Backend {
            name,
            address,
            weight: Weight::new(weight).expect("a weight"),
            max_connections,
            backup,
            disabled,
        };
        names.into_iter().zip(rest).map(backend).collect()
    })
}

fn service(like: Service) -> impl Strategy<Value = Service> {
    let passive = (any::<bool>(), 1u32..=1_000, millis(10..3_600_000))
        .prop_map(|(enabled, failures, window)| Passive { enabled, failures, window });
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0u32..=100);
    (name(), backends(), check(), timeouts(), passive, flags, connections(like)).prop_map(
        |(name, backends, mut check, timeouts, passive, flags, like)| {
            let (required, tcp_keepalive, linger, retries) = flags;
            let is_portless = |backend: &Backend| matches!(backend.address, BackendAddr::ClientPort(_));
            if backends.iter().any(is_portless) && check.kind != CheckKind::None {
                check.port = check.port.or(Some(1));
            }
            let is_local = |backend: &Backend| matches!(backend.address, BackendAddr::Unix(_));
            let source_address =
                if backends.iter().any(is_local) { SourceAddress::Kernel } else { like.source_address };
            Service {
                name,
                backends,
                check,
                source_address,
                timeouts,
                passive,
                required,
                tcp_keepalive,
                linger,
                retries,
                min_healthy: 1,
                ..like
            }
        },
    )
}

fn bandwidth() -> impl Strategy<Value = Option<u64>> {
    option::of((1u64..=1_000_000).prop_map(|kbit| kbit * 1_000))
}

fn overrides() -> impl Strategy<Value = AttributeOverrides> {
    let numbers = (any::<Option<u32>>(), any::<Option<u32>>(), option::of(0u8..=16), bandwidth());
    let communities = option::of(btree_set(any::<u32>(), 0..5));
    let large = option::of(btree_set(any::<(u32, u32, u32)>(), 0..5));
    (numbers, communities, large).prop_map(
        |((med, local_pref, prepend, link_bandwidth), communities, large)| AttributeOverrides {
            med,
            local_pref,
            prepend,
            communities: communities.map(|all| all.into_iter().map(Community).collect()),
            large_communities: large
                .map(|all| all.into_iter().map(|(a, b, c)| LargeCommunity(a, b, c)).collect()),
            link_bandwidth,
        },
    )
}

/// `like` with what else a peer may be given.
fn peer(like: Peer) -> impl Strategy<Value = Peer> {
    let bfd = option::of((millis(10..60_000), millis(10..60_000), 1u8..));
    let bfd = bfd.prop_map(|bfd| bfd.map(|(min_tx, min_rx, multiplier)| Bfd { min_tx, min_rx, multiplier }));
    let roles = [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];
    let role = (select(roles.to_vec()), any::<bool>());
    (bfd, role, overrides(), overrides(), 1u8.., any::<bool>()).prop_map(
        move |(bfd, (role, role_strict), announce, degraded, multihop, ttl_security)| Peer {
            bfd,
            role: Some(role),
            role_strict,
            announce,
            degraded,
            multihop,
            ttl_security,
            ..like.clone()
        },
    )
}

fn vip(like: Vip) -> impl Strategy<Value = Vip> {
    let announce = (
        any::<u32>(),
        any::<u32>(),
        0u8..=16,
        btree_set(any::<u32>(), 0..63),
        btree_set(any::<(u32, u32, u32)>(), 0..21),
        bandwidth(),
    )
        .prop_map(|(med, local_pref, prepend, communities, large, link_bandwidth)| Announce {
            med,
            local_pref,
            prepend,
            communities: communities.into_iter().map(Community).collect(),
            large_communities: large.into_iter().map(|(a, b, c)| LargeCommunity(a, b, c)).collect(),
            link_bandwidth,
        });
    let degraded = (any::<u32>(), any::<u32>(), 0u8..=16).prop_map(|(med, local_pref, prepend)| Degraded {
        med,
        local_pref,
        prepend,
    });
    let policies = (
        select(vec![OnShort::Degrade, OnShort::Withdraw]),
        select(vec![OnAllDown::Withdraw, OnAllDown::LastResort, OnAllDown::Hold]),
    );
    let flap = (millis(1_000..3_600_000), millis(0..3_600_000))
        .prop_map(|(half_life, max_delay)| Flap { half_life, max_delay });
    (option::of("[a-z0-9.@-]{3,15}"), announce, degraded, policies, millis(0..86_400_000), flap).prop_map(
        move |(interface, announce, degraded, (on_short, on_all_down), announce_delay, flap)| Vip {
            flap,
            interface,
            announce,
            degraded,
            on_short,
            on_all_down,
            announce_delay,
            ..like.clone()
        },
    )
}

fn configuration() -> impl Strategy<Value = Config> {
    let full = parse(FULL, "full.toml").expect("accepted").config;
    let (vips, services) = (full.vips.clone(), full.services.clone());
    let hold_time = prop_oneof![Just(0u64), 3u64..=65_535];
    let global = (option::of(1usize..=1024), option::of(1u32..=10_000_000), millis(0..86_400_000));
    let parts = (
        vip(vips[0].clone()),
        vip(vips[1].clone()),
        service(services[0].clone()),
        service(services[1].clone()),
    );
    let peers = full.bgp.as_ref().expect("[bgp]").peers.clone();
    (global, hold_time, peer(peers[0].clone()), parts).prop_filter_map(
        "two services of one name",
        move |((threads, max_connections, drain_timeout), hold_time, peer, (v4, v6, one, two))| {
            let mut config = full.clone();
            config.global.threads = threads;
            config.global.max_connections = max_connections;
            config.global.drain_timeout = drain_timeout;
            let bgp = config.bgp.as_mut().expect("[bgp]");
            bgp.peers[0] = peer;
            bgp.peers[0].hold_time = HoldTime::from_secs(hold_time).expect("a hold time");
            (one.name != two.name).then(|| Config { vips: vec![v4, v6], services: vec![one, two], ..config })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_long_form_of_any_configuration_reads_back_as_the_same(config in configuration()) {
        let text = expand(&config);
        let again = parse(&text, "expanded.toml");
        let again = again.map_err(|problems| TestCaseError::fail(format!("{text}\n{}", problems.render(false))))?;
        prop_assert_eq!(again.config, config);
    }
}

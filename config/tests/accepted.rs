//! What is accepted, and what it means.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use config::{
    AccessLog, AdminAuth, AttributeOverrides, BackendAddr, BackendTls, Balance, Bfd, CertificateFiles,
    CheckKind, ClientAuth, ClientLimits, CloseNotify, Community, Config, Engine, Family, Flap, HttpCheck,
    LargeCommunity, Loaded, LogFormat, LogLevel, LogTarget, Name, OnAllDown, OnDown, OnShort, PeerSet,
    ProxyVersion, Rate, Role, SendExpect, SourceAddress, TlsVersion, expand, load, parse,
};

const FULL: &str = include_str!("fixtures/full.toml");

fn accepted(text: &str) -> Config {
    parse(text, "test.toml").unwrap_or_else(|problems| panic!("{}", problems.render(false))).config
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

#[test]
fn every_key_of_global_and_admin_is_taken_over() {
    let config = accepted(FULL);
    assert_eq!(config.global.threads, Some(4));
    assert_eq!(config.global.max_connections, Some(20_000));
    assert_eq!(config.global.engine, Engine::Epoll);
    assert_eq!(config.global.drain_timeout, Duration::from_secs(120));
    assert_eq!((config.global.log.level, config.global.log.format), (LogLevel::Debug, LogFormat::Json));
    let target = LogTarget::SyslogUdp("[2001:db8::5]:514".parse().expect("an address"));
    assert_eq!((config.global.log.target, config.global.log.access), (target, AccessLog::Tcplog));
    assert_eq!(config.admin.socket.as_deref(), Some("/run/lb/admin.sock".as_ref()));
    assert_eq!(config.admin.listen, Some("[::1]:5938".parse().expect("an address")));
    let auth = AdminAuth { user: "operator".into(), password_file: "/etc/contrail-lb/password".into() };
    assert_eq!(config.admin.auth, Some(auth));
}

#[test]
fn every_key_of_a_peer_is_taken_over_and_the_rest_comes_from_bgp() {
    let bgp = accepted(FULL).bgp.expect("[bgp]");
    assert_eq!(bgp.local_as.as_u32(), 4_200_000_001);
    assert_eq!(bgp.listen.len(), 2);
    assert_eq!(bgp.connect_retry, Duration::from_millis(1500));
    let [a, b, c] = bgp.peers.as_slice() else { panic!("three peers") };
    assert_eq!((a.port, a.passive, a.multihop, a.ttl_security), (1179, true, 3, true));
    assert_eq!(
        (a.password_file.as_deref(), &b.password_file),
        (Some("/etc/contrail-lb/tor-a.key".as_ref()), &None)
    );
    assert_eq!(a.families, [Family::Ipv4, Family::Ipv6], "sorted, each once");
    assert_eq!(a.next_hop, Some("2001:db8:14::11".parse().expect("an address")));
    assert_eq!((a.hold_time.as_secs(), b.hold_time.as_secs()), (90, 30));
    assert_eq!((b.port, b.passive, b.multihop, b.local_address), (179, false, 1, None));
    assert_eq!(b.families, [Family::Ipv4, Family::Ipv6], "the families of the VIPs");
    assert!(b.extended_next_hop);
    let link_local = "fe80::1".parse::<std::net::IpAddr>().expect("an address");
    assert_eq!((c.address, c.interface.as_deref()), (link_local, Some("eth0.100")));
    assert_eq!((a.role, a.role_strict, b.role), (Some(Role::Customer), true, None));
    let [min_tx, min_rx] = [50, 100].map(Duration::from_millis);
    assert_eq!((a.bfd, b.bfd), (Some(Bfd { min_tx, min_rx, multiplier: 5 }), None));
}

#[test]
fn what_a_peer_gets_instead_is_what_is_written_and_nothing_else() {
    let bgp = accepted(FULL).bgp.expect("[bgp]");
    let announce = AttributeOverrides {
        med: Some(5),
        local_pref: Some(6),
        prepend: Some(7),
        communities: Some(vec![Community(1 << 16 | 1), Community(2 << 16 | 2)]),
        large_communities: Some(Vec::new()),
        link_bandwidth: Some(2_500_000_000),
    };
    assert_eq!(bgp.peers[0].announce, announce);
    assert_eq!(bgp.peers[0].degraded, AttributeOverrides { med: Some(500), ..Default::default() });
    assert_eq!(bgp.peers[1].announce, AttributeOverrides::default());
}

#[test]
fn every_key_of_a_vip_is_taken_over() {
    let config = accepted(FULL);
    let [v4, v6] = config.vips.as_slice() else { panic!("two VIPs") };
    assert_eq!((v4.interface.as_deref(), v6.interface.as_deref()), (None, Some("dummy0")));
    assert_eq!((v4.announce.med, v4.announce.local_pref, v4.announce.prepend), (10, 200, 2));
    assert_eq!(v4.announce.communities, [Community(64512 << 16 | 100), Community::NO_EXPORT]);
    assert_eq!(v4.announce.large_communities, [LargeCommunity(4_200_000_001, 1, 2)]);
    assert_eq!((v4.degraded.med, v4.degraded.local_pref, v4.degraded.prepend), (u32::MAX, 0, 16));
    assert_eq!((v4.on_short, v4.on_all_down), (OnShort::Withdraw, OnAllDown::LastResort));
    assert_eq!((v6.on_short, v6.on_all_down), (OnShort::Degrade, OnAllDown::Hold));
    assert_eq!((v4.announce_delay, v6.announce_delay), (Duration::ZERO, Duration::from_secs(5)));
    let [two, ten] = [2, 10].map(|minutes| Duration::from_secs(minutes * 60));
    let (one, longer) =
        (Flap { half_life: two / 2, max_delay: two }, Flap { half_life: two, max_delay: ten });
    assert_eq!((v4.flap, v6.flap), (longer, one));
    assert_eq!((v4.announce.link_bandwidth, v6.announce.link_bandwidth), (Some(10_000_000_000), None));
    assert_eq!((&v4.peers, &v6.peers), (&PeerSet::Named(vec![name("tor-a")]), &PeerSet::All));
}

#[test]
fn every_key_of_a_service_is_taken_over() {
    let config = accepted(FULL);
    let web = &config.services[0];
    let ports: Vec<u16> = web.listen.iter().map(|address| address.port()).collect();
    assert_eq!(ports, [8080, 8143, 8144, 8145, 8080, 8143, 8144, 8145], "VIPs × ports");
    assert_eq!(
        (web.required, web.min_healthy, web.tcp_keepalive, web.linger, web.retries),
        (false, 2, true, false, 0)
    );
    assert_eq!(web.timeouts.server, Duration::from_secs(7200));
    assert_eq!((web.check.rise, web.check.fall, web.check.port), (1, 5, Some(9000)));
    let http = HttpCheck {
        method: "POST".into(),
        path: "/health?deep=1".into(),
        host: Some("web.example.org:8080".into()),
        expect_status: vec![(200, 200), (204, 204), (301, 302)],
        expect_body: Some("\"status\": \"UP\"\n".into()),
    };
    assert_eq!(web.check.kind, CheckKind::Http(http));
    assert_eq!(
        (web.passive.enabled, web.passive.failures, web.passive.window),
        (false, 5, Duration::from_secs(60))
    );
}

#[test]
fn what_a_service_does_with_connections_is_taken_over() {
    let config = accepted(FULL);
    let web = &config.services[0];
    assert_eq!((web.balance, web.max_connections), (Balance::LeastConn, Some(10_000)));
    let rate = Some(Rate { count: 600, per: Duration::from_secs(60) });
    assert_eq!(web.client_limits, ClientLimits { connections: Some(50), rate });
    assert_eq!((web.source_address, web.send_proxy), (SourceAddress::Transparent, Some(ProxyVersion::V2)));
    assert!(web.accept_proxy);
    let networks = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(networks(&web.trusted_proxies), ["10.84.0.0/16", "2001:db8::1/128"]);
    assert_eq!(networks(&web.allow), ["10.0.0.0/8"]);
    assert_eq!(networks(&web.deny), ["10.1.2.3/32", "2001:db8:bad::/48"]);
    assert_eq!((web.slow_start, web.on_down), (Duration::from_secs(30), OnDown::Close));
    assert_eq!(web.timeouts.queue, Duration::ZERO);
    assert_eq!(web.backends[0].max_connections, Some(1000));
}

#[test]
fn a_backend_is_an_address_a_name_a_socket_or_an_address_with_the_clients_port() {
    let config = accepted(FULL);
    let addresses: Vec<_> = config.services[1].backends.iter().map(|backend| &backend.address).collect();
    let expected = [
        &BackendAddr::Ip(([127, 0, 0, 1], 7001).into()),
        &BackendAddr::Name { host: "app-1.example.org".into(), port: 7001, answer: None },
        &BackendAddr::ClientPort([127, 0, 0, 2].into()),
        &BackendAddr::Unix(std::path::Path::new("/run/app.sock").into()),
    ];
    assert_eq!(addresses, expected);
    let names: Vec<_> = config.services[1].backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:7001", "app-1.example.org:7001", "127.0.0.2", "app"]);
}

#[test]
fn certificates_are_paired_with_their_keys() {
    let config = accepted(FULL);
    let tls = config.services[0].tls.as_ref().expect("tls");
    let files = |name: &str| CertificateFiles {
        certificate: format!("/etc/contrail-lb/{name}.pem").into(),
        key: format!("/etc/contrail-lb/{name}.key").into(),
    };
    assert_eq!(tls.certificates, [files("web"), files("api")]);
    assert_eq!(tls.key_password_file.as_deref(), Some("/etc/contrail-lb/tls.password".as_ref()));
    assert_eq!(tls.client_auth, ClientAuth::Optional("/etc/contrail-lb/clients.pem".into()));
    assert_eq!((tls.min_version, tls.alpn.join(" ")), (TlsVersion::Tls13, "h2 http/1.1".to_owned()));
    let backend_tls = BackendTls {
        enabled: true,
        ca: Some("/etc/contrail-lb/backends.pem".into()),
        server_name: Some("web.example.org".into()),
        verify: false,
        client: Some(files("client")),
        close_notify: CloseNotify::Required,
    };
    assert_eq!(config.services[0].backend_tls, backend_tls);
    assert_eq!(config.services[1].tls, None);
}

#[test]
fn routes_by_name_are_sorted_so_that_the_first_that_fits_is_the_one() {
    let config = accepted(FULL);
    let patterns: Vec<_> = config.services[2].sni_routes.iter().map(|route| route.pattern.as_str()).collect();
    assert_eq!(patterns, ["a.example.org", "example.org", "*.a.example.org", "*.example.org"]);
    assert!(config.services[2].sni_routes.iter().all(|route| route.service == name("local")));
}

#[test]
fn a_backend_without_a_name_is_called_by_its_address() {
    let config = accepted(FULL);
    let names: Vec<_> = config.services[0].backends.iter().map(|backend| backend.name.clone()).collect();
    assert_eq!(names, [name("web-1"), name("[2001:db8:14::22]:8080")]);
}

#[test]
fn a_service_without_a_vip_listens_where_it_says() {
    let config = accepted(FULL);
    let local = &config.services[1];
    assert!(local.vips.is_empty());
    assert_eq!(local.listen, ["127.0.0.1:7000", "[::1]:7000"].map(|a| a.parse().expect("an address")));
    let step = |send: &str, expect: &str| SendExpect { send: send.into(), expect: expect.into() };
    assert_eq!(local.check.kind, CheckKind::SendExpect(vec![step("", "+OK"), step("PING\r\n", "PONG")]));
    assert_eq!(local.check.fast_interval, Some(Duration::from_millis(500)));
    assert_eq!(local.check.down_interval, Some(Duration::from_secs(10)));
}

#[test]
fn empty_texts_switch_the_admin_interfaces_off() {
    let admin = "[admin]\nsocket = \"\"\nlisten = \"\"\nuser = \"\"\npassword_file = \"\"\n";
    let service =
        "[[service]]\nname = \"s\"\nlisten = [\"127.0.0.1:1\"]\nbackend = [{ address = \"10.0.0.1:1\" }]\n";
    let config = accepted(&format!("{admin}{service}"));
    assert_eq!((config.admin.socket, config.admin.listen, config.admin.auth), (None, None, None));
    assert_eq!(config.bgp, None);
}

#[test]
fn the_long_form_of_a_full_configuration_means_the_same() {
    let config = accepted(FULL);
    assert_eq!(accepted(&expand(&config)), config);
}

#[test]
fn ports_that_follow_each_other_are_a_range_in_the_long_form() {
    let text = expand(&accepted(FULL));
    assert!(text.contains("ports = [8080, \"8143-8145\"]"), "{text}");
}

#[test]
fn a_file_is_loaded_by_its_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("contrail-lb.toml");
    std::fs::write(&path, FULL).expect("write");
    assert_eq!(load(&path).expect("accepted").config, accepted(FULL));
}

#[test]
fn password_files_that_are_not_there_or_empty_are_warnings_of_load_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, secret) = (dir.path().join("contrail-lb.toml"), dir.path().join("password"));
    let secret_name = secret.display().to_string();
    let text = FULL
        .replace("/etc/contrail-lb/password", &secret_name)
        .replace("/etc/contrail-lb/tor-a.key", &secret_name);
    std::fs::write(&path, &text).expect("write");
    let about_files = |loaded: Loaded| {
        let warnings = loaded.warnings.iter().filter(|w| w.key.ends_with(".password_file"));
        Vec::from_iter(warnings.map(|w| (w.line, w.key.clone(), w.message.clone())))
    };
    let warnings = || about_files(load(&path).expect("accepted"));
    let of_both = |why: &str| {
        let message = format!("{secret_name} {why}");
        vec![
            (18, "admin.password_file".to_owned(), message.clone()),
            (34, "bgp.peer[0].password_file".to_owned(), message),
        ]
    };
    assert_eq!(warnings(), of_both("cannot be read here: No such file or directory (os error 2)"));
    std::fs::write(&secret, " \n").expect("write");
    assert_eq!(warnings(), of_both("is empty"));
    assert_eq!(about_files(parse(&text, "test.toml").expect("accepted")), []);
    std::fs::write(&secret, "contrail123\n").expect("write");
    assert_eq!(warnings(), []);
}

#[test]
fn files_of_tls_are_looked_for_by_load_and_a_fifo_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("contrail-lb.toml");
    let fifo = dir.path().join("web.pem");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
    assert!(made.success());
    std::fs::write(&path, FULL.replace("/etc/contrail-lb/web.pem", &fifo.display().to_string()))
        .expect("write");
    let warnings = load(&path).expect("accepted").warnings;
    let about =
        |key: &str| warnings.iter().find(|w| w.key == key).map(|w| w.message.clone()).unwrap_or_default();
    assert!(about("service[0].tls.certificate[0]").ends_with("is no regular file"));
    for key in ["tls.key[1]", "tls.key_password_file", "tls.client_ca", "backend_tls.ca", "backend_tls.key"] {
        assert!(about(&format!("service[0].{key}")).contains("cannot be read here"), "{key}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_without_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("missing.toml");
    let problems = load(&path).expect_err("there is none");
    let problem = problems.iter().next().expect("one");
    assert_eq!((problem.line, problem.column), (0, 0));
    assert_eq!(problem.file, path.display().to_string());
    assert!(problems.render(false).contains("cannot read the file"), "{}", problems.render(false));
}

#[test]
fn a_file_that_is_not_utf_8_is_a_problem_that_names_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("latin-1.toml");
    std::fs::write(&path, b"[global]\n# \xe4\n").expect("write");
    let text = load(&path).expect_err("no UTF-8").render(false);
    assert!(text.contains("line 2 is not UTF-8"), "{text}");
}

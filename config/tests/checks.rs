//! Cross-checks: each contradiction in a file that is right but for it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use config::{Problems, Severity, parse};

/// A file without a problem. Tests change one piece of it, or add to its end (a backend of the only service).
const GOOD: &str = r#"
[bgp]
local_as  = 64512
router_id = "10.0.0.11"
listen    = []

[[bgp.peer]]
name      = "tor-a"
address   = "10.0.0.254"
remote_as = 64500

[[vip]]
address = "10.9.9.9"

[[service]]
name  = "api"
vip   = "10.9.9.9"
ports = [80]
check = { kind = "tcp" }

[[service.backend]]
name    = "one"
address = "10.0.0.1:80"
"#;

fn problems(text: &str) -> Problems {
    match parse(text, "test.toml") {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    }
}

fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

fn with(more: &str) -> String {
    format!("{GOOD}\n{more}\n")
}

/// The file has this one problem, at this key.
#[track_caller]
fn assert_only(text: &str, severity: Severity, key: &str, message: &str) {
    let problems = problems(text);
    let rendered = problems.render(false);
    assert_eq!(problems.len(), 1, "{rendered}");
    let problem = problems.iter().next().expect("one");
    assert_eq!((problem.severity, problem.key.as_str()), (severity, key), "{rendered}");
    assert!(problem.message.contains(message), "{rendered}");
}

#[track_caller]
fn assert_error(text: &str, key: &str, message: &str) {
    assert_only(text, Severity::Error, key, message);
}

#[track_caller]
fn assert_warning(text: &str, key: &str, message: &str) {
    assert_only(text, Severity::Warning, key, message);
}

const OTHER: &str = "[[service]]\nname = \"other\"\nbackend = [{ address = \"10.0.0.2:80\" }]\n";

#[test]
fn the_file_that_the_tests_change_is_right() {
    assert_eq!(problems(GOOD).render(false), "");
}

#[test]
fn a_file_without_a_service_is_refused() {
    assert_error("", "", "there is no service");
    assert_error("[global]\nthreads = 1\n", "", "there is no service");
}

#[test]
fn two_services_of_one_name_are_refused() {
    let twin = OTHER.replace("other", "api");
    assert_error(
        &with(&format!("{twin}listen = [\"127.0.0.1:1\"]")),
        "service[1].name",
        "two services named \"api\"",
    );
}

#[test]
fn two_backends_of_one_name_are_refused() {
    let twin = "[[service.backend]]\nname = \"one\"\naddress = \"10.0.0.2:80\"";
    assert_error(&with(twin), "service[0].backend[1].name", "two backends named \"one\"");
}

#[test]
fn two_backends_at_one_address_are_a_warning() {
    let twin = "[[service.backend]]\nname = \"two\"\naddress = \"10.0.0.1:80\"";
    assert_warning(
        &with(twin),
        "service[0].backend[1].address",
        "two backends of one service at 10.0.0.1:80",
    );
}

#[test]
fn two_peers_of_one_name_or_address_are_refused() {
    let peer = |name, address| {
        with(&format!("[[bgp.peer]]\nname = \"{name}\"\naddress = \"{address}\"\nremote_as = 64500"))
    };
    assert_error(&peer("tor-a", "10.0.0.253"), "bgp.peer[1].name", "two peers named \"tor-a\"");
    assert_error(
        &peer("tor-b", "10.0.0.254"),
        "bgp.peer[1].address",
        "two peers with the address 10.0.0.254",
    );
}

#[test]
fn two_vips_of_one_address_are_refused() {
    assert_error(
        &with("[[vip]]\naddress = \"10.9.9.9\""),
        "vip[1].address",
        "two VIPs with the address 10.9.9.9",
    );
}

#[test]
fn a_vip_that_no_service_uses_is_refused() {
    assert_error(
        &with("[[vip]]\naddress = \"10.9.9.8\""),
        "vip[1].address",
        "no service uses the VIP 10.9.9.8",
    );
}

#[test]
fn a_service_whose_vip_is_not_configured_is_refused() {
    assert_error(
        &changed("vip   = \"10.9.9.9\"", "vip = \"10.9.9.8\""),
        "service[0].vip",
        "no [[vip]] has the address",
    );
}

#[test]
fn a_vip_without_a_required_service_is_a_warning() {
    assert_warning(
        &changed("ports = [80]", "ports = [80]\nrequired = false"),
        "vip[0].address",
        "always healthy",
    );
}

#[test]
fn a_service_without_a_backend_is_refused() {
    let text = with("[[service]]\nname = \"other\"\nlisten = [\"127.0.0.1:1\"]");
    assert_error(&text, "service[1].backend", "no `backend`");
    assert_error(&format!("{text}backend = []"), "service[1].backend", "`backend` is empty");
}

#[test]
fn a_service_says_in_exactly_one_way_where_it_listens() {
    let other = |more| with(&format!("{OTHER}{more}"));
    assert_error(&other(""), "service[1]", "listens nowhere");
    assert_error(&other("vip = \"10.9.9.9\""), "service[1].vip", "`vip` without `ports`");
    assert_error(&other("ports = [81]"), "service[1].ports", "`ports` without `vip`");
    assert_error(
        &other("ports = [81]\nlisten = [\"10.0.0.11:81\"]"),
        "service[1].listen",
        "`listen` together with `ports`",
    );
    let both = "vip = \"10.9.9.9\"\nports = [81]\nlisten = [\"10.0.0.11:81\"]";
    assert_error(&other(both), "service[1].listen", "`listen` together with `vip`");
}

#[test]
fn two_listeners_on_one_address_and_port_are_refused() {
    let other = |listen| with(&format!("{OTHER}listen = [\"{listen}\"]"));
    assert_error(&other("10.9.9.9:80"), "service[1].listen[0]", "10.9.9.9:80 is listened on twice");
    assert_error(&other("127.0.0.1:5937"), "service[1].listen[0]", "127.0.0.1:5937 is listened on twice");
    assert_error(&changed("[80]", "[80, 80]"), "service[0].ports[1]", "10.9.9.9:80 is listened on twice");
}

#[test]
fn a_wildcard_that_covers_another_listener_is_refused() {
    let other = |listen| with(&format!("{OTHER}listen = [\"{listen}\"]"));
    assert_error(&other("0.0.0.0:80"), "service[0].ports[0]", "10.9.9.9:80 is covered by 0.0.0.0:80");
    assert_eq!(problems(&other("[::]:80")).render(false), "", "an IPv6 wildcard covers no IPv4 address");
}

#[test]
fn a_backend_that_leads_back_to_this_load_balancer_is_refused() {
    let backend = |address| changed("10.0.0.1:80", address);
    assert_error(&backend("10.9.9.9:81"), "service[0].backend[0].address", "is a VIP of this load balancer");
    let other = |backend: &str| with(&OTHER.replace("10.0.0.2:80", backend));
    let own = other("10.0.0.11:81") + "listen = [\"10.0.0.11:81\"]";
    assert_error(&own, "service[1].backend[0].address", "is a listener of this load balancer");
    let covered = other("127.0.0.1:81") + "listen = [\"0.0.0.0:81\"]";
    assert_error(&covered, "service[1].backend[0].address", "is a listener of this load balancer");
}

#[test]
fn a_min_healthy_that_can_never_be_reached_is_refused() {
    assert_error(
        &changed("ports = [80]", "ports = [80]\nmin_healthy = 2"),
        "service[0].min_healthy",
        "never healthy",
    );
}

#[test]
fn backends_that_take_no_connections_are_a_warning() {
    assert_warning(&with("disabled = true"), "service[0]", "takes no connections");
    assert_warning(&with("weight = 0"), "service[0]", "takes no connections");
    let two = changed("ports = [80]", "ports = [80]\nmin_healthy = 2");
    let idle = format!("{two}[[service.backend]]\naddress = \"10.0.0.2:80\"\nweight = 0\n");
    assert_warning(&idle, "service[0].min_healthy", "only 1 backends take connections");
}

#[test]
fn a_check_that_cannot_do_what_it_says_is_reported() {
    let check = |check: &str| changed("{ kind = \"tcp\" }", check);
    let key = |key: &str| format!("service[0].check{key}");
    assert_warning(&check("{ timeout = \"3s\" }"), &key(".timeout"), "longer than `interval`");
    assert_warning(&check("{ path = \"/health\" }"), &key(""), "have no effect");
    assert_error(
        &check("{ kind = \"http\", method = \"HEAD\", expect_body = \"ok\" }"),
        &key(""),
        "an answer to HEAD has no body",
    );
    assert_warning(
        &check("{ kind = \"none\" }\npassive = { enabled = false }"),
        &key(""),
        "counts as up, always",
    );
}

#[test]
fn a_link_local_peer_needs_its_interface_and_no_other_peer_has_one() {
    let peer =
        |address: &str| changed("10.0.0.254", address).replace("64500", "64500\nextended_next_hop = true\n");
    let key = "bgp.peer[0].address";
    assert_error(&peer("fe80::1"), key, "a link-local address without an interface");
    assert_error(&peer("2001:db8::1%eth0"), key, "so it has no interface");
    assert_error(&peer("fe80::1%an/other"), key, "no name of an interface");
    assert_eq!(problems(&peer("fe80::1%eth0")).render(false), "");
    let twin = "[[bgp.peer]]\nname = \"b\"\naddress = \"fe80::1%eth1\"\nremote_as = 64500\n";
    assert_eq!(problems(&format!("{twin}{}", peer("fe80::1%eth0"))).render(false), "", "another link");
}

#[test]
fn one_link_local_address_on_two_links_has_one_password() {
    let peers = |first: &str, second: &str| {
        let twin = "[[bgp.peer]]\nname = \"b\"\naddress = \"fe80::1%eth1\"\nremote_as = 64500\n";
        let more = format!("64500\nextended_next_hop = true\n{second}\n");
        format!("{twin}{first}\n{}", changed("10.0.0.254", "fe80::1%eth0").replace("64500", &more))
    };
    let (one, other) = ("password_file = \"/etc/passwd\"", "password_file = \"/etc/hostname\"");
    assert_error(&peers(one, other), "bgp.peer[1].password_file", "keeps one for an address");
    assert_error(&peers(one, ""), "bgp.peer[1].password_file", "keeps one for an address");
    assert_eq!(problems(&peers(one, one)).render(false), "");
}

#[test]
fn capabilities_that_a_session_cannot_have_are_refused() {
    let peer = |more: &str| changed("remote_as = 64500", &format!("remote_as = 64500\n{more}"));
    let internal = peer("role = \"peer\"").replace("64500", "64512");
    assert_error(&internal, "bgp.peer[0].role", "an internal session has no role");
    assert_error(&peer("role_strict = true"), "bgp.peer[0].role_strict", "without `role`");
    assert_error(&peer("extended_next_hop = true"), "bgp.peer[0].extended_next_hop", "RFC 8950");
    assert_eq!(problems(&peer("role = \"customer\"\nrole_strict = true")).render(false), "");
}

#[test]
fn ipv4_routes_go_over_an_ipv6_session_with_an_extended_next_hop() {
    let text = changed("10.0.0.254", "2001:db8::fe");
    assert_error(&text, "vip[0].address", "can carry ipv4 routes");
    let extended = text.replace("= 64500", "= 64500\nextended_next_hop = true");
    assert_eq!(problems(&extended).render(false), "");
    let overridden = extended.replace("= true", "= true\nnext_hop = \"2001:db8::11\"");
    assert_eq!(problems(&overridden).render(false), "");
}

#[test]
fn a_link_bandwidth_is_a_whole_number_with_a_unit() {
    let text = |value| changed("[[vip]]", &format!("[[vip]]\nannounce = {{ link_bandwidth = \"{value}\" }}"));
    for value in ["10G", "0Gbit", "1.5Gbit", "-1Gbit", "10 Gbit", "Gbit", "1000001Gbit", "10gbit"] {
        assert_error(&text(value), "vip[0].announce.link_bandwidth", "cannot be");
    }
    for value in ["", "1kbit", "1000000Gbit"] {
        assert_eq!(problems(&text(value)).render(false), "");
    }
}

#[test]
fn a_dialog_pairs_what_is_sent_with_what_is_expected() {
    let check = |check: &str| changed("{ kind = \"tcp\" }", &format!("{{ kind = {check} }}"));
    let key = |key: &str| format!("service[0].check{key}");
    assert_error(&check("\"send_expect\""), &key(""), "sends and expects nothing");
    let uneven = "\"send_expect\", send = [\"a\", \"b\"], expect = \"c\"";
    assert_error(&check(uneven), &key(".expect"), "`send` has 2 steps and `expect` 1");
    let many = format!("\"send_expect\", send = [{}]", vec!["\"a\""; 17].join(", "));
    assert_error(&check(&many), &key(".send"), "17 steps are too many");
    assert_error(&check("\"agent\", send = [\"a\", \"b\"]"), &key(".send"), "sent one text");
    assert_warning(&check("\"agent\", expect = \"up\""), &key(".expect"), "no effect");
    assert_warning(&check("\"tcp\", send = \"PING\""), &key(".send"), "no effect");
    for hex in ["0", "0x", "zz", "+1"] {
        let text = check(&format!("\"agent\", send = \"hex:{hex}\""));
        assert_error(&text, &key(".send"), "cannot be");
    }
    for check_ in ["\"send_expect\", expect = \"220\"", "\"agent\"", "\"tls\"", "\"https\", path = \"/x\""] {
        assert_eq!(problems(&check(check_)).render(false), "");
    }
}

#[test]
fn a_certificate_goes_with_its_key() {
    let tls = |tls: &str| changed("ports = [80]", &format!("ports = [80]\ntls = {{ {tls} }}"));
    let key = |key: &str| format!("service[0].tls.{key}");
    assert_error(&tls("certificate = \"/c\""), &key("certificate"), "without its `key`");
    assert_error(&tls("key = \"/k\""), &key("key"), "without `certificate`");
    assert_error(
        &tls("certificate = [\"/c\", \"/d\"], key = \"/k\""),
        &key("key"),
        "2 certificates and 1 keys",
    );
    assert_error(&tls("client_ca = \"/ca\""), &key("client_ca"), "passed through");
    assert_error(&tls("alpn = [\"h2\"]"), &key("alpn"), "passed through");
    let pair = |more: &str| tls(&format!("certificate = \"/c\", key = \"/k\", {more}"));
    assert_error(&pair("client_auth = \"required\""), &key("client_auth"), "without `client_ca`");
    assert_error(&pair("client_ca = \"/ca\""), &key("client_ca"), "no effect");
    assert_eq!(problems(&pair("min_version = \"1.3\"")).render(false), "");
    assert_eq!(problems(&tls("certificate = \"\", key = \"\", client_auth = \"none\"")).render(false), "");
    let backend = changed("ports = [80]", "ports = [80]\nbackend_tls = { certificate = \"/c\" }");
    assert_error(&backend, "service[0].backend_tls.certificate", "needs `key` too");
}

#[test]
fn routes_by_name_lead_to_another_service_that_passes_tls_through() {
    let routes = |routes: &str| {
        let other = format!("{OTHER}listen = [\"10.0.0.11:81\"]\n");
        let routes = format!("ports = [80]\nsni_routes = {{ {routes} }}");
        format!("{}{other}", changed("ports = [80]", &routes))
    };
    let key = |name: &str| format!("service[0].sni_routes.{name}");
    assert_eq!(problems(&routes("\"a.org\" = \"other\", \"*.a.org\" = \"other\"")).render(false), "");
    assert_error(&routes("a = \"othr\""), &key("a"), "no [[service]] is named \"othr\"");
    assert_error(&routes("a = \"api\""), &key("a"), "is this service itself");
    assert_error(&routes("a = \"other\", A = \"other\""), &key("A"), "two routes for a");
    assert_error(&routes("\"a.org\" = 1"), &key("\"a.org\""), "`\"a.org\"` cannot be 1");
    assert_error(&routes("\"10.0.0.1\" = \"other\""), &key("\"10.0.0.1\""), "no server name");
    let further = format!("{}sni_routes = {{ b = \"api\" }}\n", routes("a = \"other\""));
    let both = problems(&further);
    assert_eq!(both.iter().filter(|p| p.message.contains("`sni_routes` of its own")).count(), 2);
    let pair = "tls = { certificate = \"/c\", key = \"/k\" }\n";
    let ends = format!("{}{pair}", routes("a = \"other\""));
    assert_error(&ends, &key("a"), "ends TLS itself");
    let here = routes("a = \"other\"").replacen("ports", &format!("{pair}ports"), 1);
    assert_error(&here, &key("a"), "`tls` ends it here");
}

#[test]
fn too_many_ports_for_one_service_are_refused() {
    assert_eq!(problems(&changed("[80]", "[\"1001-2024\"]")).render(false), "");
    assert_error(&changed("[80]", "[\"1001-2025\"]"), "service[0].ports", "1025 listeners are too many");
    for ports in ["\"2-1\"", "\"0-9\"", "\"80\"", "\"1-65536\"", "\"1-2-3\""] {
        assert_error(&changed("[80]", &format!("[{ports}]")), "service[0].ports[0]", "cannot be");
    }
}

#[test]
fn proxy_headers_are_believed_from_somebody_or_not_accepted() {
    let service = |more: &str| changed("ports = [80]", &format!("ports = [80]\n{more}"));
    assert_error(
        &service("accept_proxy = \"required\""),
        "service[0].accept_proxy",
        "without `trusted_proxies`",
    );
    assert_warning(&service("trusted_proxies = [\"10.0.0.0/8\"]"), "service[0].trusted_proxies", "no effect");
    let both = service("accept_proxy = \"required\"\ntrusted_proxies = [\"10.0.0.0/8\"]");
    assert_eq!(problems(&both).render(false), "");
}

#[test]
fn a_source_address_that_no_backend_can_be_reached_from_is_refused() {
    let service = |more: &str| changed("ports = [80]", &format!("ports = [80]\n{more}"));
    let key = "service[0].backend[0].address";
    assert_error(&service("source_address = \"2001:db8::1\""), key, "another family");
    assert_eq!(problems(&service("source_address = \"10.0.0.11\"")).render(false), "");
    for source in ["transparent", "10.0.0.11"] {
        let text = service(&format!("source_address = \"{source}\""));
        assert_error(&text.replace("10.0.0.1:80", "unix:/run/app.sock"), key, "a Unix socket");
    }
}

#[test]
fn first_without_limits_is_a_warning() {
    let first = changed("ports = [80]", "ports = [80]\nbalance = \"first\"");
    assert_eq!(problems(&first).render(false), "", "there is nobody after it");
    let second = "[[service.backend]]\naddress = \"10.0.0.2:80\"\n";
    assert_warning(&format!("{first}{second}"), "service[0].balance", "leaves nothing");
    assert_eq!(problems(&format!("{first}max_connections = 9\n{second}")).render(false), "");
}

#[test]
fn a_backend_without_a_port_needs_one_for_its_checks() {
    let text = changed("10.0.0.1:80", "10.0.0.1");
    assert_error(&text, "service[0].backend[0].address", "there is none to check");
    assert_eq!(problems(&text.replace("kind = \"tcp\"", "port = 80")).render(false), "");
    assert_eq!(problems(&text.replace("\"tcp\"", "\"none\"")).render(false), "");
}

#[test]
fn a_backend_whose_address_is_no_name_needs_a_name() {
    let unnamed = "[[service.backend]]\naddress = \"unix:/run/app.sock\"";
    assert_error(&with(unnamed), "service[0].backend[1].address", "cannot be the name");
    assert_eq!(problems(&with(&format!("{unnamed}\nname = \"app\""))).render(false), "");
}

#[test]
fn networks_and_rates_are_exact() {
    let service = |more: &str| changed("ports = [80]", &format!("ports = [80]\n{more}"));
    assert_error(&service("deny = [\"10.0.0.1/8\"]"), "service[0].deny[0]", "bits beyond its prefix");
    assert_error(&service("deny = [\"::ffff:10.0.0.1\"]"), "service[0].deny[0]", "write it as IPv4");
    for rate in ["100", "/s", "-1/s", "+1/s", "1/h", "1.5/s", "10000001/s"] {
        let text = service(&format!("client_limits = {{ rate = \"{rate}\" }}"));
        assert_error(&text, "service[0].client_limits.rate", "cannot be");
    }
    assert_eq!(problems(&service("client_limits = { rate = \"0/m\" }")).render(false), "");
}

#[test]
fn an_address_that_cannot_be_a_vip_is_refused() {
    for (address, why) in [
        ("224.0.0.5", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "no address of a host"),
        ("::", "no address of a host"),
        ("0.1.2.3", "0.0.0.0/8"),
        ("255.255.255.255", "broadcast"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("::ffff:10.9.9.9", "IPv4-mapped"),
    ] {
        assert_error(&with(&format!("[[vip]]\naddress = \"{address}\"")), "vip[1].address", why);
    }
}

#[test]
fn a_loopback_vip_is_a_warning() {
    assert_warning(&GOOD.replace("10.9.9.9", "127.9.9.9"), "vip[0].address", "only this host reaches it");
}

#[test]
fn vips_without_a_peer_are_a_warning() {
    let start = GOOD.find("[bgp]").expect("[bgp]");
    let end = GOOD.find("[[vip]]").expect("[[vip]]");
    let without = format!("{}{}", &GOOD[..start], &GOOD[end..]);
    assert_warning(&without, "vip[0].address", "no VIP is announced");
    assert_warning(
        &format!("[bgp]\nrouter_id = \"10.0.0.11\"\n{without}"),
        "vip[0].address",
        "no VIP is announced",
    );
}

#[test]
fn a_router_id_that_is_a_vip_is_a_warning() {
    assert_warning(&changed("\"10.0.0.11\"", "\"10.9.9.9\""), "bgp.router_id", "is a VIP");
}

#[test]
fn a_peer_without_a_bgp_table_needs_what_belongs_there() {
    let peer = "[[bgp.peer]]\nname = \"a\"\naddress = \"10.0.0.254\"\nremote_as = 1\n";
    let problems = problems(&format!("{peer}{OTHER}listen = [\"10.0.0.11:81\"]"));
    let keys: Vec<_> = problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
    assert_eq!(keys, [(1, "bgp.local_as"), (1, "bgp.router_id")], "{}", problems.render(false));
}

#[test]
fn a_passive_peer_without_a_listener_is_refused() {
    let passive = changed("remote_as = 64500", "remote_as = 64500\npassive = true");
    assert_error(&passive, "bgp.peer[0].passive", "nothing listens for it");
    assert_eq!(problems(&passive.replace("= []", "= [\"10.0.0.11:179\"]")).render(false), "");
}

#[test]
fn addresses_of_another_family_than_they_serve_are_refused() {
    let peer = |more: &str| changed("remote_as = 64500", &format!("remote_as = 64500\n{more}"));
    assert_error(&peer("local_address = \"2001:db8::1\""), "bgp.peer[0].local_address", "another family");
    assert_error(
        &peer("next_hop = \"2001:db8::1\""),
        "bgp.peer[0].next_hop",
        "no such route goes to this peer",
    );
}

#[test]
fn a_vip_that_no_peer_can_carry_is_refused() {
    let peer = |more: &str| changed("remote_as = 64500", &format!("remote_as = 64500\n{more}"));
    assert_error(&peer("families = [\"ipv6\"]"), "vip[0].address", "can carry ipv4 routes");
    let v6 = |more: &str| peer(more).replace("10.9.9.9", "2001:db8::9");
    assert_error(&v6(""), "vip[0].address", "can carry ipv6 routes");
    assert_eq!(problems(&v6("next_hop = \"2001:db8::11\"")).render(false), "");
}

#[test]
fn a_peer_named_for_a_vip_that_it_cannot_carry_is_a_warning() {
    let second = "[[bgp.peer]]\nname = \"tor-b\"\naddress = \"10.0.0.253\"\nremote_as = 64500\nfamilies = [\"ipv6\"]\n";
    let named = changed("[[vip]]", &format!("{second}[[vip]]\npeers = [\"tor-a\", \"tor-b\"]"));
    assert_warning(&named, "vip[0].peers[1]", "\"tor-b\" cannot carry ipv4 routes");
    let all = changed("[[vip]]", &format!("{second}[[vip]]"));
    assert_eq!(problems(&all).render(false), "", "families say which VIPs a peer gets");
}

#[test]
fn a_vip_for_an_unknown_peer_is_refused() {
    let text = changed("[[vip]]", "[[vip]]\npeers = [\"tor-b\"]");
    assert_error(&text, "vip[0].peers[0]", "no [[bgp.peer]] is named \"tor-b\"");
    assert!(problems(&text).render(false).contains("did you mean \"tor-a\"?"));
}

#[test]
fn a_reference_that_leads_nowhere_is_reported_even_beside_a_broken_vip_or_peer() {
    let second = "[[vip]]\naddress = \"10.9.9.256\"\npeers = [\"nope\"]\n";
    let peer = "[[bgp.peer]]\nname = \"tor b\"\naddress = \"10.0.0.253\"\nremote_as = 64500\n";
    let other = format!("{OTHER}vip = \"10.9.9.7\"\nports = [80]\n");
    let problems = problems(&with(&format!("{second}{peer}{other}")));
    let found: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let all = ["vip[1].address", "vip[1].peers[0]", "bgp.peer[1].name", "service[1].vip"];
    assert_eq!(found, all, "{}", problems.render(false));
    let rendered = problems.render(false);
    assert!(rendered.contains("this one has no address that can be read"), "{rendered}");
    assert!(rendered.contains("this one has no name that can be read"), "{rendered}");
}

#[test]
fn numbers_that_no_network_has_and_a_hold_time_of_0_are_warnings() {
    assert_warning(&changed("64500", "23456"), "bgp.peer[0].remote_as", "AS_TRANS");
    assert_warning(&changed("64512", "65535"), "bgp.local_as", "reserved");
    assert_warning(&changed("64500", "64500\nhold_time = \"0s\""), "bgp.peer[0].hold_time", "never noticed");
}

#[test]
fn http_without_a_password_beyond_this_host_is_a_warning() {
    assert_warning(&with("[admin]\nlisten = \"0.0.0.0:5937\""), "admin.listen", "needs no password");
}

#[test]
fn half_of_basic_auth_is_refused() {
    assert_error(&with("[admin]\nuser = \"a\""), "admin.user", "needs `password_file` too");
    assert_error(&with("[admin]\npassword_file = \"/p\""), "admin.password_file", "needs `user` too");
    assert_error(&with("[admin]\nuser = \"a:b\"\npassword_file = \"/p\""), "admin.user", "cannot be \"a:b\"");
}

#[test]
fn too_many_communities_for_one_attribute_are_refused() {
    let list = |n: u32| (0..n).map(|i| format!("\"1:{i}\"")).collect::<Vec<_>>().join(", ");
    let text = |n| changed("[[vip]]", &format!("[[vip]]\nannounce = {{ communities = [{}] }}", list(n)));
    assert_eq!(problems(&text(63)).render(false), "");
    assert_error(&text(64), "vip[0].announce.communities", "64 communities do not fit");
}

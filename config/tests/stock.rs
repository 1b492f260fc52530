//! The short form: what a stock deployment writes, and what it gets.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::{CheckKind, Config, Loaded, Name, PeerSet, Problems, Service, expand, parse};

const STOCK: &str = include_str!("fixtures/stock.toml");

fn load(text: &str) -> Loaded {
    parse(text, "test.toml").unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

fn refused(text: &str) -> Problems {
    parse(text, "test.toml").expect_err("must be refused")
}

fn service<'c>(config: &'c Config, name: &str) -> &'c Service {
    config.services.iter().find(|service| service.name.as_str() == name).expect(name)
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

#[test]
fn the_short_form_gives_the_three_stock_services() {
    let Loaded { config, warnings } = load(STOCK);
    assert_eq!(warnings.render(false), "");
    let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["contrail-api", "contrail-discovery", "contrail-analytics-api"]);
    let listens: Vec<_> = config.services.iter().map(|service| service.listen.clone()).collect();
    assert_eq!(
        listens,
        [[socket("10.84.13.100:8082")], [socket("10.84.13.100:5998")], [socket("10.84.13.100:8081")]]
    );
    for service in &config.services {
        assert!(!service.linger, "option nolinger");
        assert!(service.required);
        assert_eq!(
            (service.check.kind.clone(), service.check.rise, service.check.fall),
            (CheckKind::Tcp, 2, 3)
        );
        assert_eq!(service.check.interval, Duration::from_secs(2));
        assert_eq!(service.timeouts.connect, Duration::from_secs(5));
    }
    assert_eq!(service(&config, "contrail-api").timeouts.client, Duration::from_secs(180));
    assert_eq!(service(&config, "contrail-api").timeouts.server, Duration::from_secs(180));
    assert_eq!(service(&config, "contrail-discovery").timeouts.client, Duration::from_secs(50));
}

#[test]
fn nodes_become_backends_named_by_their_address() {
    let config = load(STOCK).config;
    let backends = &service(&config, "contrail-analytics-api").backends;
    let listed: Vec<_> = backends.iter().map(|b| (b.name.as_str(), b.address.to_string())).collect();
    assert_eq!(
        listed,
        [("10.84.14.4", "10.84.14.4:8081".to_owned()), ("10.84.14.5", "10.84.14.5:8081".to_owned())]
    );
    assert_eq!(service(&config, "contrail-api").backends.len(), 3);
}

#[test]
fn backend_ports_may_differ_from_the_front_ports() {
    let ports = "api_port = 9100\ndiscovery_port = 9110\nanalytics_port = 9081\n\n[bgp]";
    let config = load(&STOCK.replace("[bgp]\n", &format!("{ports}\n"))).config;
    let backend = |name| service(&config, name).backends[0].address.to_string();
    assert_eq!(backend("contrail-api"), "10.84.14.1:9100");
    assert_eq!(backend("contrail-discovery"), "10.84.14.1:9110");
    assert_eq!(backend("contrail-analytics-api"), "10.84.14.4:9081");
    assert_eq!(service(&config, "contrail-api").listen, [socket("10.84.13.100:8082")]);
}

#[test]
fn the_vip_is_put_on_lo_and_announced_to_every_peer() {
    let config = load(STOCK).config;
    let [vip] = config.vips.as_slice() else { panic!("one VIP") };
    assert_eq!(vip.address, "10.84.13.100".parse::<IpAddr>().expect("an address"));
    assert_eq!(vip.interface.as_deref(), Some("lo"));
    assert_eq!(vip.peers, PeerSet::All);
    assert_eq!((vip.announce.med, vip.degraded.med, vip.degraded.local_pref), (100, 200, 50));
    let bgp = config.bgp.expect("[bgp]");
    assert_eq!(bgp.peers[0].families, [config::Family::Ipv4], "the families of the VIPs");
    assert_eq!(bgp.peers[0].hold_time.as_secs(), 9);
}

#[test]
fn two_vips_mean_two_listeners_for_each_service() {
    let both = STOCK.replace("\"10.84.13.100\"", "[\"10.84.13.100\", \"2001:db8::100\"]");
    let config = load(&format!("{both}next_hop = \"2001:db8::11\"\n")).config;
    assert_eq!(config.vips.len(), 2);
    assert_eq!(
        service(&config, "contrail-api").listen,
        [socket("10.84.13.100:8082"), socket("[2001:db8::100]:8082")]
    );
}

#[test]
fn a_vip_spelled_out_takes_the_place_of_the_short_forms() {
    let config =
        load(&format!("{STOCK}\n[[vip]]\naddress = \"10.84.13.100\"\non_short = \"withdraw\"\n")).config;
    assert_eq!(config.vips.len(), 1);
    assert_eq!(config.vips[0].on_short, config::OnShort::Withdraw);
}

#[test]
fn services_may_be_added_to_the_short_form() {
    let more = "[[service]]\nname = \"ui\"\nvip = \"10.84.13.100\"\nports = [8143]\n[[service.backend]]\naddress = \"10.84.14.9:8143\"\n";
    let config = load(&format!("{STOCK}\n{more}")).config;
    assert_eq!(config.services.len(), 4);
    assert_eq!(service(&config, "ui").backends[0].name, Name::new("10.84.14.9:8143").expect("a name"));
}

#[test]
fn a_service_with_the_name_of_a_stock_one_is_refused_with_both_places() {
    let twin = "[[service]]\nname = \"contrail-api\"\nlisten = [\"127.0.0.1:1\"]\n[[service.backend]]\naddress = \"10.84.14.9:1\"\n";
    let text = refused(&format!("{STOCK}\n{twin}")).render(false);
    assert!(text.contains("two services named \"contrail-api\""), "{text}");
    assert!(text.contains("[contrail]"), "{text}");
}

#[test]
fn an_even_number_of_controllers_is_a_warning() {
    let even = STOCK.replace(", \"10.84.14.3\"", "");
    let warnings = load(&even).warnings;
    assert_eq!(warnings.len(), 1);
    let warning = warnings.iter().next().expect("one");
    assert_eq!((warning.key.as_str(), warning.line), ("contrail.controller_nodes", 3));
    assert!(warning.message.contains("ZooKeeper"));
}

#[test]
fn a_node_given_twice_is_said_once() {
    let twice = STOCK.replace("10.84.14.3", "10.84.14.2");
    let problems = refused(&twice);
    assert_eq!(problems.len(), 1, "{}", problems.render(false));
    assert_eq!(problems.iter().next().map(|p| p.key.as_str()), Some("contrail.controller_nodes[2]"));
}

#[test]
fn without_analytics_nodes_there_is_no_analytics_service() {
    let without = STOCK.replace("analytics_nodes", "#");
    assert_eq!(load(&without).config.services.len(), 2);
}

#[test]
fn an_empty_short_form_names_what_is_missing() {
    let problems = refused("[contrail]\n");
    let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["contrail.vip", "contrail.controller_nodes"], "{}", problems.render(false));
}

#[test]
fn the_long_form_of_the_short_form_means_the_same() {
    let config = load(STOCK).config;
    let expanded = expand(&config);
    assert_eq!(load(&expanded).config, config, "{expanded}");
}

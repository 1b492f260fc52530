//! `check`, exit codes, and what a wrong configuration costs: nothing but itself.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::daemon::BINARY;
use crate::common::ports::Loopback;
use crate::common::process::{self, Ran};

/// Four mistakes of four kinds, each on a line of its own.
const WRONG: &str = r#"[bgp]
local_as = 0
router_id = "10.84.14.11"

[[vip]]
address = "10.84.13.100"
interfaces = "lo"

[[service]]
name = "contrail-api"
vip = "10.84.13.100"
ports = [8082]
check = { kind = "tcp", interval = "soon" }
[[service.backend]]
address = "10.84.14.1:8082"

[[service]]
name = "contrail-api"
vip = "10.84.13.101"
ports = [8082]
[[service.backend]]
address = "10.84.14.1:8082"
"#;

/// What a stock deployment writes.
const SHORT: &str = r#"[contrail]
vip = "10.84.13.100"
controller_nodes = ["10.84.14.1", "10.84.14.2", "10.84.14.3"]
analytics_nodes = ["10.84.14.4", "10.84.14.5"]

[bgp]
local_as = 64512
router_id = "10.84.14.11"

[[bgp.peer]]
name = "tor-a"
address = "10.84.14.254"
remote_as = 64500
"#;

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("contrail-lb.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn contrail_lb(arguments: &[&str]) -> Ran {
    process::run("contrail-lb", &[&[BINARY], arguments].concat())
}

fn check(path: &Path, options: &[&str]) -> Ran {
    contrail_lb(&[&["check", "--config", path.to_str().unwrap()], options].concat())
}

#[test]
fn check_lists_every_problem_at_once_with_its_place_and_what_would_be_accepted() {
    let (_dir, path) = file(WRONG);
    let ran = check(&path, &[]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    let name = path.to_str().unwrap();
    for (place, words) in [
        ("2:12", &["bgp.local_as", "1..4294967295", "local_as = 0"][..]),
        ("7:1", &["interfaces", "interface"]),
        ("13:36", &["interval", "\"soon\""]),
        ("18:8", &["contrail-api"]),
        ("19:7", &["10.84.13.101"]),
    ] {
        assert!(ran.stderr.contains(&format!("{name}:{place}")), "no {place} in\n{}", ran.stderr);
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "no {words:?} in\n{}", ran.stderr);
    }
}

#[test]
fn check_json_says_the_same_to_programs() {
    let (_dir, path) = file(WRONG);
    let ran = check(&path, &["--json"]);
    assert_eq!(ran.code, Some(78));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let problems =
        report["problems"]["problems"].as_array().or_else(|| report["problems"].as_array()).unwrap();
    let first = &problems[0];
    assert_eq!(
        (&first["line"], &first["column"], &first["key"]),
        (&2.into(), &12.into(), &"bgp.local_as".into())
    );
    assert!(problems.len() >= 5, "{report:#}");
    assert_eq!(report["ok"], false);
}

#[test]
fn short_form_expands_to_the_three_stock_services_and_the_long_form_to_itself() {
    let (_dir, path) = file(SHORT);
    let long = check(&path, &["--expand"]);
    assert_eq!(long.code, Some(0), "{long:?}");
    for name in ["contrail-api", "contrail-discovery", "contrail-analytics-api"] {
        assert!(long.stdout.contains(&format!("\"{name}\"")), "{}", long.stdout);
    }
    for address in ["10.84.14.1:8082", "10.84.14.3:5998", "10.84.14.5:8081"] {
        assert!(long.stdout.contains(address), "{}", long.stdout);
    }
    let (_dir, path) = file(&long.stdout);
    let again = check(&path, &["--expand"]);
    assert_eq!((again.code, again.stdout), (Some(0), long.stdout));
}

#[test]
fn even_number_of_controllers_is_a_warning_not_an_error() {
    let (_dir, path) = file(&SHORT.replace(", \"10.84.14.3\"", ""));
    let ran = check(&path, &[]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("warning") && ran.stderr.contains("controller_nodes"), "{}", ran.stderr);
}

#[test]
fn what_is_not_built_yet_is_refused_never_ignored() {
    let (_dir, path) = file("[global]\nstate_file = \"/var/lib/contrail-lb/state\"\n");
    let ran = check(&path, &[]);
    assert_eq!(ran.code, Some(78));
    assert!(ran.stderr.contains("not supported yet"), "{}", ran.stderr);
}

#[test]
fn run_refuses_a_wrong_file_as_a_whole() {
    let (_dir, path) = file(WRONG);
    let ran = contrail_lb(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!(ran.code, Some(78));
    assert!(ran.stderr.contains(":2:12"), "{}", ran.stderr);
}

#[test]
fn file_that_is_not_there_is_named() {
    let ran = check(Path::new("/nonexistent/contrail-lb.toml"), &[]);
    assert_eq!(ran.code, Some(78));
    assert!(ran.stderr.contains("/nonexistent/contrail-lb.toml"), "{}", ran.stderr);
}

#[test]
fn exit_codes_tell_usage_from_an_unreachable_daemon() {
    assert_eq!(contrail_lb(&["stauts"]).code, Some(64));
    assert_eq!(contrail_lb(&["run", "--no-such-option"]).code, Some(64));
    for verb in ["status", "bgp", "reload"] {
        let ran = contrail_lb(&[verb, "--socket", "/nonexistent/admin.sock"]);
        assert_eq!(ran.code, Some(69), "{verb}: {ran:?}");
        assert!(ran.stderr.contains("/nonexistent/admin.sock"), "{}", ran.stderr);
    }
    assert_eq!(contrail_lb(&["--help"]).code, Some(0));
    assert_eq!(contrail_lb(&["version"]).stdout, format!("contrail-lb {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn address_in_use_ends_the_start_and_is_named() {
    let lab = Loopback::take();
    let taken = std::net::TcpListener::bind(lab.addr()).unwrap();
    let front = taken.local_addr().unwrap();
    let (dir, path) = file("");
    let text = format!(
        "[admin]\nsocket = {:?}\nlisten = \"\"\n[[service]]\nname = \"x\"\nlisten = [\"{front}\"]\n[[service.backend]]\naddress = \"{front}\"\n",
        dir.path().join("admin.sock"),
    );
    std::fs::write(&path, text).unwrap();
    let ran = contrail_lb(&["run", "--config", path.to_str().unwrap()]);
    assert!(ran.code.is_some_and(|code| code != 0), "{ran:?}");
    assert!(ran.stderr.contains(&front.to_string()), "{}", ran.stderr);
}

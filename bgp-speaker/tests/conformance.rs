//! `docs/bgp-conformance.md` names tests that exist.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

/// The Rust sources below `folder`, one after the other.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn every_test_that_the_conformance_table_names_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(here.join("../docs/bgp-conformance.md")).unwrap();
    // Those with real routers are in the workspace's own tests.
    let sources: String = ["src", "tests", "../tests"].map(|folder| sources(&here.join(folder))).concat();
    // Test names are sentences: code spans with several underscores.
    let names = document.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() >= 3);
    let mut count = 0;
    for name in names {
        assert!(sources.contains(&format!("fn {name}(")), "no test is named {name}");
        count += 1;
    }
    assert!(count > 80, "only {count} tests are named");
}

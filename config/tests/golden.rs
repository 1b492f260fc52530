//! What an operator reads about a wrong file, word for word. After a change of words run the tests with
//! `BLESS=1`, and read the difference.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use config::{Problems, parse};

fn problems(fixture: &str) -> Problems {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let text = std::fs::read_to_string(path).expect("the fixture");
    parse(&text, fixture).expect_err("the fixture is wrong")
}

fn assert_golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, actual).expect("write the golden file");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file");
    assert!(golden == actual, "{name} differs; now:\n{actual}");
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    let problems = problems("mistakes.toml");
    assert!(problems.has_errors());
    assert_golden("mistakes.txt", &problems.render(false));
}

#[test]
fn problems_as_json_carry_place_key_and_what_is_expected() {
    let json = serde_json::to_string_pretty(&problems("mistakes.toml").to_json()).expect("JSON");
    assert_golden("mistakes.json", &format!("{json}\n"));
}

#[test]
fn several_syntax_errors_are_reported_with_what_else_is_wrong() {
    assert_golden("broken.txt", &problems("broken.toml").render(false));
}

#[test]
fn colour_adds_nothing_but_control_sequences() {
    let problems = problems("mistakes.toml");
    let mut plain = String::new();
    let colored = problems.render(true);
    let mut parts = colored.split('\x1b');
    plain.push_str(parts.next().expect("the start"));
    for part in parts {
        let (sequence, text) = part.split_once('m').expect("a colour");
        assert!(sequence.chars().all(|c| c.is_ascii_digit() || "[;".contains(c)), "{sequence:?}");
        plain.push_str(text);
    }
    assert_eq!(plain, problems.render(false));
}

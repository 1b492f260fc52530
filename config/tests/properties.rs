//! Properties: no input makes this crate panic, and the long form means what it was made from.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use config::{expand, parse};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const FILES: [&str; 4] = [
    include_str!("fixtures/full.toml"),
    include_str!("fixtures/stock.toml"),
    include_str!("fixtures/mistakes.toml"),
    include_str!("fixtures/broken.toml"),
];

/// What is put into a file to break it, or not.
const PIECES: [&str; 32] = [
    "",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "\n",
    "#",
    "-",
    "0",
    "99999999999999999999",
    "\"\"",
    "true",
    "nan",
    "1979-05-27",
    "\"1h\"",
    "\"10.0.0.1\"",
    "\"::1\"",
    "\t",
    "\r",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "日本",
    "\\",
    "[[service]]\n",
    "[contrail]\n",
    "vip = ",
];

#[derive(Debug, Clone)]
struct Edit {
    at: Index,
    remove: usize,
    insert: &'static str,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = (any::<Index>(), 0usize..40, select(&PIECES[..]));
    proptest::collection::vec(edit.prop_map(|(at, remove, insert)| Edit { at, remove, insert }), 1..6)
}

fn edited(file: &str, edits: &[Edit]) -> String {
    let mut text: Vec<char> = file.chars().collect();
    for Edit { at, remove, insert } in edits {
        let start = at.index(text.len() + 1);
        let end = (start + remove).min(text.len());
        text.splice(start..end, insert.chars());
    }
    text.into_iter().collect()
}

/// Whatever `text` is: it is refused with at least one error, each at a place that exists, or its long form means the same.
fn assert_sound(text: &str) -> Result<(), TestCaseError> {
    match parse(text, "test.toml") {
        Ok(loaded) => {
            prop_assert!(!loaded.warnings.has_errors());
            let expanded = expand(&loaded.config);
            let again = parse(&expanded, "expanded.toml");
            let again = again.map_err(|p| TestCaseError::fail(format!("{expanded}\n{}", p.render(false))))?;
            prop_assert_eq!(again.config, loaded.config);
        }
        Err(problems) => {
            prop_assert!(problems.has_errors());
            let lines = text.split('\n').count();
            for problem in problems.iter() {
                prop_assert!((1..=lines).contains(&problem.line), "{:?}", problem);
                prop_assert!(problem.column >= 1);
            }
            let is_harmless = |c: char| c == '\n' || !c.is_control();
            prop_assert!(problems.render(false).chars().all(is_harmless), "{:?}", problems.render(false));
            prop_assert!(problems.render(true).len() > problems.render(false).len());
            prop_assert_eq!(problems.to_json()["problems"].as_array().map(Vec::len), Some(problems.len()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_accepted_or_refused(text in any::<String>()) {
        assert_sound(&text)?;
    }

    #[test]
    fn any_sequence_of_pieces_is_accepted_or_refused(pieces in proptest::collection::vec(select(&PIECES[..]), 0..60)) {
        assert_sound(&pieces.concat())?;
    }

    #[test]
    fn a_damaged_file_is_accepted_or_refused(file in select(&FILES[..]), edits in edits()) {
        assert_sound(&edited(file, &edits))?;
    }

    #[test]
    fn any_value_of_any_key_is_accepted_or_refused(
        file in select(&FILES[..2]),
        line in any::<Index>(),
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<String>().prop_map(|s| format!("{s:?}")),
            select(&PIECES[..]).prop_map(str::to_owned),
            (0u64..100_000).prop_map(|n| format!("\"{n}ms\"")),
            any::<std::net::IpAddr>().prop_map(|ip| format!("\"{ip}\"")),
            any::<std::net::SocketAddr>().prop_map(|address| format!("[\"{address}\"]")),
        ],
    ) {
        let mut lines: Vec<String> = file.lines().map(str::to_owned).collect();
        let line = line.index(lines.len());
        if let Some((key, _)) = lines[line].split_once('=') {
            lines[line] = format!("{key}= {value}");
        }
        assert_sound(&lines.join("\n"))?;
    }
}

#[test]
fn deep_nesting_is_refused_without_running_out_of_stack() {
    for nested in ["[", "{ a = ", "a.", "[["] {
        let text = format!("x = {}", nested.repeat(100_000));
        assert!(parse(&text, "test.toml").expect_err("no TOML").has_errors());
        assert!(parse(&nested.repeat(100_000), "test.toml").expect_err("no TOML").has_errors());
    }
}

#[test]
fn thousands_of_problems_on_one_long_line_are_all_reported() {
    let text = format!(
        "global = {{ {} }}",
        (0..2_000).map(|n| format!("k{n} = {n}")).collect::<Vec<_>>().join(", ")
    );
    let problems = parse(&text, "test.toml").expect_err("unknown keys");
    assert_eq!(problems.iter().filter(|problem| problem.message.contains("unknown key")).count(), 2_000);
}

use std::collections::BTreeSet;

use super::{ROOT, SECTIONS, Section, Support};
use crate::{Problems, parse};

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// What the reference says under the heading of `section`, as far as its next heading.
fn part_of(section: &Section) -> &'static str {
    let heading = format!("\n### {}\n", section.header);
    let (_, part) = REFERENCE.split_once(&heading).unwrap_or_else(|| panic!("no part {heading:?}"));
    part.split("\n#").next().unwrap()
}

/// The keys that a part has rows for.
fn rows(part: &str) -> BTreeSet<&str> {
    part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key).collect()
}

fn problems(text: &str) -> Problems {
    parse(text, "test.toml").expect_err("must be refused")
}

/// A file with only `line` in the table of `section`, and its key path there.
fn only(section: &Section, line: &str) -> String {
    let path = section.header.trim_matches(['[', ']']);
    match path.split_once('.') {
        Some(("vip", _)) => format!("[[vip]]\n{}\n{line}\n", section.header),
        Some(("bgp", _)) if path.matches('.').count() > 1 => {
            format!("[[bgp.peer]]\n{}\n{line}\n", section.header)
        }
        Some(("service", _)) => format!("[[service]]\n{}\n{line}\n", section.header),
        _ => format!("{}\n{line}\n", section.header),
    }
}

fn sections() -> impl Iterator<Item = &'static Section> {
    SECTIONS.into_iter().filter(|section| section.header != ROOT.header)
}

#[test]
fn the_reference_has_a_row_for_every_key_and_for_nothing_else() {
    for section in sections() {
        let known: BTreeSet<&str> = section.keys.iter().map(|key| key.name).collect();
        assert_eq!(rows(part_of(section)), known, "{}", section.header);
    }
}

#[test]
fn the_reference_says_which_keys_are_not_supported_yet() {
    let (_, part) = REFERENCE.split_once("\n## Not supported yet\n").unwrap();
    for section in sections() {
        for key in section.keys.iter().filter(|key| key.support != Support::Built) {
            let name = format!("`{}`", key.name);
            let row = part_of(section).lines().find(|line| line.contains(&format!("| {name} "))).unwrap();
            assert!(row.contains("not supported yet"), "{row}");
            assert!(part.contains(&name), "{name} in the list");
        }
    }
}

#[test]
fn the_examples_of_the_reference_are_accepted_without_a_warning() {
    let examples: Vec<&str> =
        REFERENCE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let loaded =
            parse(example, "example.toml").unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        assert_eq!(loaded.warnings.render(false), "");
    }
}

#[test]
fn every_key_is_read_so_a_date_is_refused_for_each() {
    for section in SECTIONS {
        for key in section.keys {
            let line = format!("{} = 1979-05-27", key.name);
            let text = if section.header == ROOT.header { line } else { only(section, &line) };
            let refused = problems(&text);
            let is_refused = |problem: &crate::Problem| {
                problem.key.rsplit('.').next() == Some(key.name)
                    && problem.message.contains("not supported yet")
                    || problem.message == format!("`{}` cannot be 1979-05-27", key.name)
            };
            assert!(refused.iter().any(is_refused), "{}", refused.render(false));
        }
    }
}

#[test]
fn a_key_that_is_not_built_is_accepted_at_the_value_that_is_done_anyway() {
    for section in sections() {
        for key in section.keys {
            let Support::Only(value) = key.support else { continue };
            let refused = problems(&only(section, &format!("{} = {value}", key.name)));
            let about = |problem: &crate::Problem| problem.key.contains(key.name);
            assert!(!refused.iter().any(about), "{}", refused.render(false));
        }
    }
}

/// In some table at least: what `[bgp]` hands down is with the peers, and a service has either `ports` or `listen`.
#[test]
fn the_long_form_has_every_key() {
    let full = include_str!("../../tests/fixtures/full.toml");
    let text = crate::expand(&parse(full, "full.toml").unwrap().config);
    for section in sections().filter(|section| section.header != "[contrail]") {
        for key in section.keys.iter().filter(|key| key.support == Support::Built) {
            let name = format!("{} =", key.name);
            let is_table =
                text.contains(&format!(".{}]]", key.name)) || text.contains(&format!(".{}]", key.name));
            assert!(text.contains(&name) || is_table, "{} of {}", key.name, section.header);
        }
    }
}

#[test]
fn every_unknown_key_is_refused_in_every_table() {
    for section in sections() {
        let refused = problems(&only(section, "nonsense = 1"));
        assert!(
            refused.iter().any(|problem| problem.key.ends_with(".nonsense")),
            "{}",
            refused.render(false)
        );
    }
}

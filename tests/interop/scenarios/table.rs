//! The table as a whole: it has no holes, and it is the one in `docs/bgp-conformance.md`.

use super::{Row, attributes, bfd, life_cycle, security, sessions, topologies};
use crate::router::Kind;

fn table() -> impl Iterator<Item = &'static Row> {
    [sessions::TABLE, attributes::TABLE, security::TABLE, topologies::TABLE, life_cycle::TABLE, bfd::TABLE]
        .into_iter()
        .flatten()
}

#[test]
fn every_scenario_runs_with_each_router_or_says_why_not() {
    for row in table() {
        for router in Kind::ALL {
            let runs = row.with.iter().filter(|name| **name == router.name()).count();
            let why =
                row.without.iter().filter(|(name, why)| *name == router.name() && !why.is_empty()).count();
            assert_eq!(runs + why, 1, "{} with {router:?}", row.scenario);
        }
    }
}

#[test]
fn the_table_is_the_one_that_is_documented() {
    let page = include_str!("../../../docs/bgp-conformance.md");
    let documented = table().map(documented).collect::<String>();
    assert!(page.contains(&documented), "docs/bgp-conformance.md is to have these rows:\n{documented}");
}

/// A scenario's row of the documentation.
fn documented(row: &Row) -> String {
    let cells = Kind::ALL.map(|router| {
        let why = row.without.iter().find(|(name, _)| *name == router.name());
        why.map_or("yes".to_owned(), |(_, why)| format!("– {why}"))
    });
    format!("| `{}` | {} |\n", row.scenario, cells.join(" | "))
}

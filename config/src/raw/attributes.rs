//! Path attributes as they were written: those of a VIP, and what a peer gets instead.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use crate::findings::Finding;
use crate::model::AttributeOverrides;
use crate::reader::{List, Table};
use crate::types::{Community, LargeCommunity};
use crate::value::{Refused, integer, or_empty, text, typed};

pub(super) const PREPEND: RangeInclusive<u8> = 0..=16;

/// What is in `table`; nothing else.
pub(super) fn read_overrides(mut table: Table<'_, '_>) -> AttributeOverrides {
    let number = integer(0..=u32::MAX);
    AttributeOverrides {
        med: table.optional("med", &number).map(|med| med.value),
        local_pref: table.optional("local_pref", &number).map(|local_pref| local_pref.value),
        prepend: table.optional("prepend", integer(PREPEND)).map(|prepend| prepend.value),
        communities: table.has("communities").then(|| {
            let list =
                table.list("communities", typed(Community::parse, "a community, AS:VALUE or its name"));
            sorted_set(&mut table, list, 63)
        }),
        large_communities: table.has("large_communities").then(|| {
            let list = table.list("large_communities", typed(LargeCommunity::parse, "GLOBAL:LOCAL1:LOCAL2"));
            sorted_set(&mut table, list, 21)
        }),
        link_bandwidth: table.value("link_bandwidth", or_empty(bandwidth), None).value,
    }
}

/// Sorted and without repeats; more than `limit` do not fit into one path attribute.
fn sorted_set<T: Ord>(table: &mut Table<'_, '_>, list: List<T>, limit: usize) -> Vec<T> {
    let mut items: Vec<T> = list.items.into_iter().map(|item| item.value).collect();
    items.sort();
    items.dedup();
    if items.len() > limit {
        let finding =
            Finding::error(&list.place, format!("{} communities do not fit into one attribute", items.len()));
        table.findings.push(finding.expected(format!("at most {limit}")));
    }
    items
}

/// Units of [`AttributeOverrides::link_bandwidth`], the largest first.
pub(crate) const BANDWIDTHS: [(&str, u64); 3] =
    [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000)];

/// Bits per second. At most a petabit: the attribute is a 32-bit float, so any limit is good that no link reaches.
fn bandwidth(value: &DeValue<'_>) -> Result<u64, Refused> {
    let read = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at_checked(digits)?;
        let (_, factor) = BANDWIDTHS.into_iter().find(|(name, _)| *name == unit)?;
        let bits = number.parse::<u64>().ok()?.checked_mul(factor)?;
        (1..=1_000_000_000_000_000).contains(&bits).then_some(bits)
    };
    text("a whole number and a unit (kbit, Mbit or Gbit) in quotes, 1kbit..1000000Gbit", read)(value)
}

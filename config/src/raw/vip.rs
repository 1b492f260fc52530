//! `[[vip]]` as it was written.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::DAY;
use super::bgp::name;
use crate::findings::{At, Finding, Findings, Place};
use crate::model::{Announce, Degraded, OnAllDown, OnShort};
use crate::reader::{List, Table};
use crate::schema;
use crate::types::{Community, LargeCommunity, Name};
use crate::value::{Refused, choice, duration, global_address, integer, or_empty, text, typed};

/// `[[vip]]`, or an address of `[contrail]`.
#[derive(Debug)]
pub(crate) struct RawVip {
    pub(crate) address: Option<At<IpAddr>>,
    pub(crate) interface: Option<String>,
    pub(crate) announce: Announce,
    pub(crate) degraded: Degraded,
    pub(crate) on_short: OnShort,
    pub(crate) on_all_down: OnAllDown,
    pub(crate) announce_delay: Duration,
    /// Empty: all.
    pub(crate) peers: List<Name>,
    pub(crate) place: Place,
}

const ON_SHORT: &[(&str, Option<OnShort>)] =
    &[("degrade", Some(OnShort::Degrade)), ("withdraw", Some(OnShort::Withdraw))];
const ON_ALL_DOWN: &[(&str, Option<OnAllDown>)] = &[
    ("withdraw", Some(OnAllDown::Withdraw)),
    ("last_resort", Some(OnAllDown::LastResort)),
    ("hold", Some(OnAllDown::Hold)),
];

impl RawVip {
    pub(crate) fn read(mut vip: Table<'_, '_>) -> Self {
        let address = vip.required("address", global_address);
        RawVip { address, ..Self::read_rest(&mut vip) }
    }

    /// A VIP of `[contrail]`: everything is a default but the address.
    pub(crate) fn stock(address: At<IpAddr>, findings: &mut Findings) -> Self {
        let mut nothing = Table::absent(&address.place, &schema::VIP, findings);
        RawVip { address: Some(address.clone()), ..Self::read_rest(&mut nothing) }
    }

    fn read_rest(vip: &mut Table<'_, '_>) -> Self {
        RawVip {
            address: None,
            interface: vip.value("interface", or_empty(interface), Some("lo".to_owned())).value,
            announce: read_announce(vip.table("announce", &schema::ANNOUNCE)),
            degraded: read_degraded(vip.table("degraded", &schema::DEGRADED)),
            on_short: vip.value("on_short", choice(ON_SHORT), OnShort::Degrade).value,
            on_all_down: vip.value("on_all_down", choice(ON_ALL_DOWN), OnAllDown::Withdraw).value,
            announce_delay: vip
                .value("announce_delay", duration(Duration::ZERO..=DAY), Duration::from_secs(5))
                .value,
            peers: vip.list("peers", name),
            place: vip.place.clone(),
        }
    }
}

/// A name that Linux accepts for an interface (`dev_valid_name`).
fn interface(value: &DeValue<'_>) -> Result<String, Refused> {
    let fits = |name: &str| {
        (1..=15).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
    };
    text("the name of a network interface, 1..15 bytes", |name| fits(name).then(|| name.to_owned()))(value)
}

const PREPEND: std::ops::RangeInclusive<u8> = 0..=16;

fn read_announce(mut announce: Table<'_, '_>) -> Announce {
    let communities =
        announce.list("communities", typed(Community::parse, "a community, AS:VALUE or its name"));
    let large = announce.list("large_communities", typed(LargeCommunity::parse, "GLOBAL:LOCAL1:LOCAL2"));
    Announce {
        med: announce.value("med", integer(0..=u32::MAX), 100).value,
        local_pref: announce.value("local_pref", integer(0..=u32::MAX), 100).value,
        prepend: announce.value("prepend", integer(PREPEND), 0).value,
        communities: sorted_set(&mut announce, communities, 63),
        large_communities: sorted_set(&mut announce, large, 21),
        link_bandwidth: None,
    }
}

fn read_degraded(mut degraded: Table<'_, '_>) -> Degraded {
    Degraded {
        med: degraded.value("med", integer(0..=u32::MAX), 200).value,
        local_pref: degraded.value("local_pref", integer(0..=u32::MAX), 50).value,
        prepend: degraded.value("prepend", integer(PREPEND), 1).value,
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

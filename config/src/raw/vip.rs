//! `[[vip]]` as it was written.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::attributes::{PREPEND, read_overrides};
use super::bgp::name;
use super::{DAY, HOUR, SECOND};
use crate::findings::{At, Findings, Place};
use crate::model::{Announce, Degraded, Flap, OnAllDown, OnShort};
use crate::reader::{List, Table};
use crate::schema;
use crate::types::Name;
use crate::value::{Refused, choice, duration, global_address, integer, is_interface, or_empty, text};

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
    pub(crate) flap: Flap,
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
            flap: read_flap(vip.table("flap", &schema::FLAP)),
            peers: vip.list("peers", name),
            place: vip.place.clone(),
        }
    }
}

fn interface(value: &DeValue<'_>) -> Result<String, Refused> {
    let read = |name: &str| is_interface(name).then(|| name.to_owned());
    text("the name of a network interface, 1..15 bytes", read)(value)
}

fn read_announce(announce: Table<'_, '_>) -> Announce {
    let own = read_overrides(announce);
    Announce {
        med: own.med.unwrap_or(100),
        local_pref: own.local_pref.unwrap_or(100),
        prepend: own.prepend.unwrap_or(0),
        communities: own.communities.unwrap_or_default(),
        large_communities: own.large_communities.unwrap_or_default(),
        link_bandwidth: own.link_bandwidth,
    }
}

fn read_degraded(mut degraded: Table<'_, '_>) -> Degraded {
    Degraded {
        med: degraded.value("med", integer(0..=u32::MAX), 200).value,
        local_pref: degraded.value("local_pref", integer(0..=u32::MAX), 50).value,
        prepend: degraded.value("prepend", integer(PREPEND), 1).value,
    }
}

/// Recovery is put off for two minutes at most, and for nothing the first times (see `docs/configuration.md`).
const FLAP: Flap = Flap { half_life: Duration::from_secs(60), max_delay: Duration::from_secs(120) };

fn read_flap(mut flap: Table<'_, '_>) -> Flap {
    Flap {
        half_life: flap.value("half_life", duration(SECOND..=HOUR), FLAP.half_life).value,
        max_delay: flap.value("max_delay", duration(Duration::ZERO..=HOUR), FLAP.max_delay).value,
    }
}

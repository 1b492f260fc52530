//! `[[service.backend]]` as it was written.

use std::fmt::Display;

use toml::de::DeValue;

use crate::findings::{At, Finding, Findings, Place};
use crate::raw::bgp::name;
use crate::reader::Table;
use crate::schema;
use crate::types::{BackendAddr, Name, Weight};
use crate::value::{Refused, backend_address, boolean, integer, limit};

/// `[[service.backend]]`, or a node of `[contrail]`.
#[derive(Debug)]
pub(crate) struct RawBackend {
    /// `None`: it was refused, or there is no address to take it from.
    pub(crate) name: Option<At<Name>>,
    pub(crate) address: Option<At<BackendAddr>>,
    pub(crate) weight: Weight,
    pub(crate) max_connections: Option<u32>,
    pub(crate) backup: bool,
    pub(crate) disabled: bool,
}

impl RawBackend {
    pub(crate) fn read(mut backend: Table<'_, '_>) -> Self {
        let address = backend.required("address", backend_address);
        let name = match &address {
            Some(address) if !backend.has("name") => {
                default_name(&address.value, &address.place, backend.findings)
            }
            _ => backend.optional("name", name),
        };
        RawBackend { name, address, ..Self::read_rest(&mut backend) }
    }

    /// A node of `[contrail]`.
    pub(crate) fn stock(name: Option<At<Name>>, address: At<BackendAddr>, findings: &mut Findings) -> Self {
        let mut nothing = Table::absent(&address.place, &schema::BACKEND, findings);
        RawBackend { name, address: Some(address.clone()), ..Self::read_rest(&mut nothing) }
    }

    fn read_rest(backend: &mut Table<'_, '_>) -> Self {
        let weight = |value: &DeValue<'_>| Ok::<_, Refused>(Weight::new(integer(0..=256)(value)?)?);
        RawBackend {
            name: None,
            address: None,
            weight: backend.value("weight", weight, Weight::ONE).value,
            max_connections: backend.value("max_connections", limit, None).value,
            backup: backend.value("backup", boolean, false).value,
            disabled: backend.value("disabled", boolean, false).value,
        }
    }
}

/// The name of a backend that was given none: its address, unless that is a path or too long.
pub(crate) fn default_name(
    address: &impl Display,
    place: &Place,
    findings: &mut Findings,
) -> Option<At<Name>> {
    let name = Name::new(&address.to_string());
    if name.is_err() {
        let finding = Finding::error(place, format!("{address} cannot be the name of the backend too"));
        findings.push(finding.expected("a `name` of its own, 1..64 letters, digits or . _ : [ ] - %"));
    }
    name.ok().map(|name| At::new(name, place))
}

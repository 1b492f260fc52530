//! Cross-checks: what no key can tell on its own. Everything read is compared with everything else, and every
//! contradiction is a finding. Pure; changes nothing.
//!
//! One slip should be one finding, so nothing is said to be absent where something was given but refused. A reference
//! that leads nowhere is reported all the same, with the place that cannot be read beside it.

mod bgp;
pub(crate) mod files;
mod listen;
mod service;
mod tls;
mod traffic;
mod vip;

use std::collections::HashMap;
use std::hash::Hash;

use crate::findings::{At, Finding, Findings, Place};
use crate::raw::Raw;

pub(crate) fn check(raw: &Raw, findings: &mut Findings) {
    if raw.services.is_empty() && !findings.has_errors() {
        findings.push(
            Finding::error(&Place::default(), "there is no service")
                .expected("[contrail], or at least one [[service]]"),
        );
    }
    service::check(raw, findings);
    traffic::check(raw, findings);
    tls::check(raw, findings);
    listen::check(raw, findings);
    vip::check(raw, findings);
    bgp::check(raw, findings);
}

/// Reports every value that was given before. `what` says what there are two of, `expected` what each should have.
fn refuse_duplicates<'r, T: Eq + Hash + 'r>(
    items: impl Iterator<Item = &'r At<T>>,
    what: impl Fn(&T) -> String,
    expected: &str,
    findings: &mut Findings,
) {
    let mut first: HashMap<&T, &Place> = HashMap::new();
    for item in items {
        match first.get(&item.value) {
            Some(place) => {
                let finding = Finding::error(&item.place, format!("two {}", what(&item.value)));
                findings.push(finding.related(place, "the first one").expected(expected));
            }
            None => {
                first.insert(&item.value, &item.place);
            }
        }
    }
}

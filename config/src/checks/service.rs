//! Names, backends and checks of each service.

use std::collections::HashSet;

use super::refuse_duplicates;
use crate::findings::{Finding, Findings};
use crate::model::CheckKind;
use crate::raw::{Raw, RawBackend, RawService};
use crate::types::BackendAddr;

pub(super) fn check(raw: &Raw, findings: &mut Findings) {
    let names = raw.services.iter().filter_map(|service| service.name.as_ref());
    refuse_duplicates(names, |name| format!("services named \"{name}\""), "a name of its own", findings);
    for service in &raw.services {
        check_backends(service, findings);
        check_numbers(service, findings);
        check_checks(service, findings);
    }
}

fn check_backends(service: &RawService, findings: &mut Findings) {
    let names = service.backends.iter().filter_map(|backend| backend.name.as_ref());
    refuse_duplicates(
        names.clone(),
        |name| format!("backends named \"{name}\" in one service"),
        "a name of its own",
        findings,
    );
    let distinct_names = names.clone().map(|name| &name.value).collect::<HashSet<_>>().len();
    if distinct_names < service.backends.len() {
        return;
    }
    let mut seen: HashSet<&BackendAddr> = HashSet::new();
    for address in service.backends.iter().filter_map(|backend| backend.address.as_ref()) {
        if !seen.insert(&address.value) {
            let message =
                format!("two backends of one service at {}: it gets a share for each", address.value);
            findings.push(Finding::warning(&address.place, message).help("use `weight` for a larger share"));
        }
    }
}

fn check_numbers(service: &RawService, findings: &mut Findings) {
    let backends = service.backends.len();
    let takes_traffic = |backend: &&RawBackend| !backend.disabled && backend.weight.as_u16() > 0;
    let active = service.backends.iter().filter(takes_traffic).count();
    let wanted = usize::try_from(service.min_healthy.value).unwrap_or(usize::MAX);
    if backends == 0 {
        return;
    }
    if wanted > backends {
        let message = format!("`min_healthy` is {wanted}, but there are {backends} backends: never healthy");
        findings.push(Finding::error(&service.min_healthy.place, message).expected(format!("1..{backends}")));
    } else if active == 0 {
        let message = "every backend is disabled or has weight 0: the service takes no connections";
        findings.push(Finding::warning(&service.place, message));
    } else if wanted > active {
        let message = format!("`min_healthy` is {wanted}, but only {active} backends take connections");
        findings.push(Finding::warning(&service.min_healthy.place, message));
    }
}

fn check_checks(service: &RawService, findings: &mut Findings) {
    let check = &service.check;
    if check.timeout.value > check.interval.value && check.kind != CheckKind::None {
        let message = "`timeout` is longer than `interval`: a backend that hangs is checked less often";
        findings.push(
            Finding::warning(&check.timeout.place, message).expected("a timeout of at most the interval"),
        );
    }
    match &check.kind {
        CheckKind::None if !service.passive.enabled => {
            let message = "with no active and no passive check every backend counts as up, always";
            findings.push(Finding::warning(&check.place, message));
        }
        CheckKind::Http(http) | CheckKind::Https(http)
            if http.method == "HEAD" && http.expect_body.is_some() =>
        {
            let message = "an answer to HEAD has no body that `expect_body` could find";
            findings.push(
                Finding::error(&check.place, message).expected("method = \"GET\", or no `expect_body`"),
            );
        }
        CheckKind::None
        | CheckKind::Tcp
        | CheckKind::Http(_)
        | CheckKind::Https(_)
        | CheckKind::Tls
        | CheckKind::SendExpect(_)
        | CheckKind::Agent { .. } => {}
    }
}

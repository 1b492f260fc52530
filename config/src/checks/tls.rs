//! TLS: certificates with their keys, and routes by server name that lead to a service that can take them.

use std::collections::HashMap;

use super::refuse_duplicates;
use crate::findings::{Finding, Findings};
use crate::raw::{Raw, RawRoute, RawService, WhichClients};
use crate::reader::nearest;

pub(super) fn check(raw: &Raw, findings: &mut Findings) {
    let named = |service: &'_ RawService| service.name.as_ref().map(|name| name.value.clone());
    let by_name: HashMap<_, _> = raw.services.iter().filter_map(|s| Some((named(s)?, s))).collect();
    for service in &raw.services {
        check_certificates(service, findings);
        check_clients(service, findings);
        check_backend_certificate(service, findings);
        let patterns = service.sni_routes.iter().map(|route| &route.pattern);
        refuse_duplicates(patterns, |name| format!("routes for {name}"), "a name of its own", findings);
        if let (true, Some(route)) = (service.tls.certificates.is_given, service.sni_routes.first()) {
            let message = "`sni_routes` needs TLS that is passed through, but `tls` ends it here";
            let finding = Finding::error(&route.pattern.place, message).related(&service.tls.place, "`tls`");
            findings.push(finding.expected("`tls` or `sni_routes`, not both"));
        }
        for route in &service.sni_routes {
            let name = &route.service.value;
            match by_name.get(name) {
                Some(target) => check_target(service, route, target, findings),
                None => refuse_dangling(raw, route, findings),
            }
        }
    }
}

fn check_certificates(service: &RawService, findings: &mut Findings) {
    let (certificates, keys) = (&service.tls.certificates, &service.tls.keys);
    if !(certificates.is_complete && keys.is_complete) {
        return;
    }
    match (certificates.items.len(), keys.items.len()) {
        (0, 0) => check_unused(service, findings),
        (given, 0) => {
            let message =
                if given == 1 { "a certificate without its `key`" } else { "certificates without a `key`" };
            findings.push(Finding::error(&certificates.place, message).expected("`certificate` and `key`"));
        }
        (0, _) => {
            let finding = Finding::error(&keys.place, "`key` without `certificate`");
            findings.push(finding.expected("`certificate` and `key`"));
        }
        (given, of_keys) if given != of_keys => {
            let message = format!("{given} certificates and {of_keys} keys");
            let finding =
                Finding::error(&keys.place, message).related(&certificates.place, "the certificates");
            findings.push(finding.expected("a key for each certificate, in the same order"));
        }
        _ => {}
    }
}

/// What else is in `tls` says that TLS was meant to end here.
fn check_unused(service: &RawService, findings: &mut Findings) {
    let tls = &service.tls;
    let files = [&tls.key_password_file, &tls.client_ca];
    let file = files.into_iter().find(|file| file.value.is_some()).map(|file| &file.place);
    let clients = (tls.client_auth.value != WhichClients::None).then_some(&tls.client_auth.place);
    let alpn = tls.alpn.is_given.then_some(&tls.alpn.place);
    if let Some(place) = file.or(clients).or(alpn) {
        let finding = Finding::error(place, "without a certificate TLS is passed through, not ended here");
        findings.push(finding.expected("`certificate` and `key` beside it"));
    }
}

fn check_clients(service: &RawService, findings: &mut Findings) {
    let tls = &service.tls;
    match (tls.client_auth.value, &tls.client_ca.value) {
        (WhichClients::Optional | WhichClients::Required, None) if tls.certificates.is_given => {
            let message = "`client_auth` without `client_ca`: there is nothing to judge certificates by";
            let finding = Finding::error(&tls.client_auth.place, message);
            findings.push(finding.expected("`client_ca`, or client_auth = \"none\""));
        }
        (WhichClients::None, Some(_)) if tls.certificates.is_given => {
            let message = "`client_ca` has no effect with client_auth = \"none\"";
            let finding = Finding::error(&tls.client_ca.place, message);
            findings.push(finding.expected("client_auth = \"optional\" or \"required\", or no `client_ca`"));
        }
        _ => {}
    }
}

fn check_backend_certificate(service: &RawService, findings: &mut Findings) {
    let tls = &service.backend_tls;
    let (place, missing) = match (&tls.certificate.value, &tls.key.value) {
        (Some(_), None) => (&tls.certificate.place, "key"),
        (None, Some(_)) => (&tls.key.place, "certificate"),
        (Some(_), Some(_)) | (None, None) => return,
    };
    let finding = Finding::error(place, format!("a client certificate needs `{missing}` too"));
    findings.push(finding.expected("both `certificate` and `key`, or neither"));
}

/// A route ends at a service that passes TLS through and routes no further: so there are no cycles.
fn check_target(service: &RawService, route: &RawRoute, target: &RawService, findings: &mut Findings) {
    let name = &route.service.value;
    let (why, expected) = if std::ptr::eq(service, target) {
        ("is this service itself, which takes what no route fits", "another service")
    } else if !target.sni_routes.is_empty() {
        ("has `sni_routes` of its own", "a service without `sni_routes`")
    } else if target.tls.certificates.is_given {
        ("ends TLS itself, so it cannot take what is passed through", "a service without `tls`")
    } else {
        return;
    };
    let finding = Finding::error(&route.service.place, format!("\"{name}\" {why}"));
    findings.push(finding.expected(expected));
}

fn refuse_dangling(raw: &Raw, route: &RawRoute, findings: &mut Findings) {
    let names = raw.services.iter().filter_map(|service| service.name.as_ref());
    let names: Vec<&str> = names.map(|name| name.value.as_str()).collect();
    let name = route.service.value.as_str();
    let finding = Finding::error(&route.service.place, format!("no [[service]] is named \"{name}\""));
    let finding = finding.expected(format!("one of {}", names.join(", ")));
    findings.push(match nearest(name, &names) {
        Some(near) => finding.help(format!("did you mean \"{near}\"?")),
        None => finding,
    });
}

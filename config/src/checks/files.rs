//! The password files: whether they can be read where the file is checked. A warning, as another host than the one that
//! runs contrail-lb, or another user, may check it. The only check that looks beyond the text of the file.

use std::path::Path;

use crate::findings::{Finding, Findings, Place};
use crate::raw::Raw;

pub(crate) fn check(raw: &Raw, findings: &mut Findings) {
    let admin = raw.admin.auth.iter().map(|auth| (&auth.place, auth.value.password_file.as_path()));
    let peers = raw.bgp.iter().flat_map(|bgp| &bgp.peers);
    let peers = peers
        .filter_map(|peer| peer.password_file.value.as_deref().map(|file| (&peer.password_file.place, file)));
    for (place, file) in admin.chain(peers) {
        check_file(place, file, findings);
    }
}

fn check_file(place: &Place, file: &Path, findings: &mut Findings) {
    let message = match std::fs::read(file) {
        Ok(content) if content.trim_ascii().is_empty() => format!("{} is empty", file.display()),
        Ok(_) => return,
        Err(error) => format!("{} cannot be read here: {error}", file.display()),
    };
    let finding = Finding::warning(place, message).expected("a file with the password as its one line");
    findings.push(finding.help("without it contrail-lb does not start, and a reload is refused"));
}

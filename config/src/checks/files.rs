//! The files that the configuration names: whether they can be read where it is checked. A warning, as another host than
//! the one that runs contrail-lb, or another user, may check it. The only check that looks beyond the text of the file.

use std::fs::{File, metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::findings::{At, Finding, Findings, Place};
use crate::raw::{Raw, RawService};

const PASSWORD: &str = "a file with the password as its one line";
const PEM: &str = "a file in PEM";

/// A named file, where it is named, and what should be in it.
type Named<'r> = (&'r Place, &'r Path, &'static str);

pub(crate) fn check(raw: &Raw, findings: &mut Findings) {
    let admin = raw.admin.auth.iter();
    let admin = admin.map(|auth| (&auth.place, auth.value.password_file.as_path(), PASSWORD));
    let peers = raw.bgp.iter().flat_map(|bgp| &bgp.peers);
    let peers = peers.filter_map(|peer| named(&peer.password_file, PASSWORD));
    let services = raw.services.iter().flat_map(of_service);
    for (place, file, expected) in admin.chain(peers).chain(services) {
        check_file(place, file, expected, findings);
    }
}

fn named<'r>(file: &'r At<Option<PathBuf>>, expected: &'static str) -> Option<Named<'r>> {
    file.value.as_deref().map(|path| (&file.place, path, expected))
}

fn of_service(service: &RawService) -> impl Iterator<Item = Named<'_>> {
    let (tls, backend) = (&service.tls, &service.backend_tls);
    let pairs = tls.certificates.items.iter().chain(&tls.keys.items);
    let pairs = pairs.map(|file| (&file.place, file.value.as_path(), PEM));
    let password = named(&tls.key_password_file, PASSWORD);
    let others = [&tls.client_ca, &backend.ca, &backend.certificate, &backend.key];
    pairs.chain(password).chain(others.into_iter().filter_map(|file| named(file, PEM)))
}

fn check_file(place: &Place, file: &Path, expected: &str, findings: &mut Findings) {
    let message = match is_blank(file) {
        Ok(Some(true)) => format!("{} is empty", file.display()),
        Ok(Some(false)) => return,
        Ok(None) => format!("{} is no regular file", file.display()),
        Err(error) => format!("{} cannot be read here: {error}", file.display()),
    };
    let finding = Finding::warning(place, message).expected(expected);
    findings.push(finding.help("without it contrail-lb does not start, and a reload is refused"));
}

/// How much of a file is looked at.
const LOOKED_AT: u64 = 64 * 1024;

/// Whether there is only white space in `file`; `None` for what is no regular file: opening a FIFO would wait for a
/// writer.
fn is_blank(file: &Path) -> std::io::Result<Option<bool>> {
    if !metadata(file)?.is_file() {
        return Ok(None);
    }
    let mut content = Vec::new();
    File::open(file)?.take(LOOKED_AT).read_to_end(&mut content)?;
    Ok(Some(content.trim_ascii().is_empty()))
}

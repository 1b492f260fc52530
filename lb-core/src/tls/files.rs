//! Certificates and keys from their PEM files. Outside the data path: reading blocks.
//!
//! Reading and understanding are two steps, so that a reload that finds the same bytes changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::CertificateFiles;
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::{Decode, pem::PemLabel};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// A certificate, key or CA file cannot be used. Says which and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    #[error("cannot read {}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{} is not PEM: {reason}", file.display())]
    NotPem { file: PathBuf, reason: String },
    #[error("{} holds no certificate (`-----BEGIN CERTIFICATE-----`)", file.display())]
    NoCertificate { file: PathBuf },
    #[error("{} holds no private key (`-----BEGIN PRIVATE KEY-----`)", file.display())]
    NoKey { file: PathBuf },
    #[error("the key in {} is encrypted: name the file with its password in `key_password_file`", file.display())]
    Encrypted { file: PathBuf },
    #[error(
        "the key in {} is encrypted in OpenSSL's own old format: convert it with `openssl pkcs8 -topk8`",
        file.display()
    )]
    OldEncryption { file: PathBuf },
    #[error("the key in {} cannot be decrypted with the password in {}: {reason}", file.display(), password.display())]
    WrongPassword { file: PathBuf, password: PathBuf, reason: String },
    #[error("the key in {} does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
    #[error("{} cannot be used: {reason}", file.display())]
    Unusable { file: PathBuf, reason: String },
    #[error("this host has no CA certificates of its own ({reason}): name a file in `ca`")]
    NoSystemCa { reason: String },
    #[error("`{name}` is no host name or address that a certificate could be made for")]
    ServerName { name: String },
    #[error("the TLS library refuses: {0}")]
    Library(#[from] rustls::Error),
}

/// Files as they were read, in the order in which they were asked for.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Contents(Vec<Vec<u8>>);

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} files", self.0.len())
    }
}

impl Contents {
    pub(crate) fn read<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Self, TlsFileError> {
        let read = |file: &Path| {
            std::fs::read(file).map_err(|source| TlsFileError::Unreadable { file: file.to_owned(), source })
        };
        files.into_iter().map(read).collect::<Result<_, _>>().map(Contents)
    }

    /// Each file's bytes, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

/// A password and where it came from.
#[derive(Clone, Copy)]
pub(crate) struct Password<'a> {
    pub(crate) file: &'a Path,
    pub(crate) content: &'a [u8],
}

/// A chain with its key, which fit together.
pub(crate) fn certified_key(
    files: &CertificateFiles,
    certificate: &[u8],
    key: &[u8],
    password: Option<Password<'_>>,
) -> Result<CertifiedKey, TlsFileError> {
    let chain = certificates(&files.certificate, certificate)?;
    let key = private_key(&files.key, key, password)?;
    CertifiedKey::from_der(chain, key, &super::provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsFileError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        error => TlsFileError::Unusable { file: files.key.clone(), reason: error.to_string() },
    })
}

/// All certificates of a file, at least one.
pub(crate) fn certificates(
    file: &Path,
    content: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(content)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(file, &error))?;
    if chain.is_empty() {
        return Err(TlsFileError::NoCertificate { file: file.to_owned() });
    }
    Ok(chain)
}

/// The CAs of a file, at least one.
pub(crate) fn authorities(file: &Path, content: &[u8]) -> Result<Arc<RootCertStore>, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file, content)? {
        roots
            .add(certificate)
            .map_err(|error| TlsFileError::Unusable { file: file.to_owned(), reason: error.to_string() })?;
    }
    Ok(Arc::new(roots))
}

/// The CAs that the host trusts.
pub(crate) fn system_authorities() -> Result<Arc<RootCertStore>, TlsFileError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Hosts carry odd old certificates: what is not understood is left out.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsFileError::NoSystemCa { reason });
    }
    Ok(Arc::new(roots))
}

fn private_key(
    file: &Path,
    content: &[u8],
    password: Option<Password<'_>>,
) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    if let Some(encrypted) = encrypted_key(content) {
        let Some(password) = password else { return Err(TlsFileError::Encrypted { file: file.to_owned() }) };
        return decrypt(encrypted, password).map_err(|reason| TlsFileError::WrongPassword {
            file: file.to_owned(),
            password: password.file.to_owned(),
            reason,
        });
    }
    if content.windows(OLD_ENCRYPTION.len()).any(|window| window == OLD_ENCRYPTION) {
        return Err(TlsFileError::OldEncryption { file: file.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(content).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsFileError::NoKey { file: file.to_owned() },
        error => not_pem(file, &error),
    })
}

/// In the header of a key that is encrypted as in RFC 1421.
const OLD_ENCRYPTION: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// The PEM section of an encrypted PKCS#8 key.
fn encrypted_key(content: &[u8]) -> Option<&str> {
    let text = str::from_utf8(content).ok()?;
    let label = EncryptedPrivateKeyInfoRef::PEM_LABEL;
    let start = text.find(&format!("-----BEGIN {label}-----"))?;
    let end_line = format!("-----END {label}-----");
    let end = start + text.get(start..)?.find(&end_line)? + end_line.len();
    text.get(start..end)
}

fn decrypt(encrypted: &str, password: Password<'_>) -> Result<PrivateKeyDer<'static>, String> {
    let (_, document) = pkcs8::SecretDocument::from_pem(encrypted).map_err(|error| error.to_string())?;
    let encrypted =
        EncryptedPrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|error| error.to_string())?;
    let clear = encrypted.decrypt(password.content.trim_ascii_end()).map_err(|error| error.to_string())?;
    Ok(PrivatePkcs8KeyDer::from(clear.as_bytes().to_vec()).into())
}

fn not_pem(file: &Path, error: &pem::Error) -> TlsFileError {
    TlsFileError::NotPem { file: file.to_owned(), reason: error.to_string() }
}

//! TCP-MD5 keys (RFC 2385 §4.5): read from a file, never shown.

use std::fmt;
use std::io;
use std::path::Path;

use crate::sockopt::MAX_MD5_KEY;

/// 1 to 80 octets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Md5Key(Vec<u8>);

impl Md5Key {
    /// The file's content without white space at its end.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let key = std::fs::read(path)?.trim_ascii_end().to_vec();
        if key.is_empty() || key.len() > MAX_MD5_KEY {
            let text = format!("expected a key of 1..{MAX_MD5_KEY} octets, found {}", key.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Md5Key(key))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> io::Result<Md5Key> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, content).unwrap();
        Md5Key::read(&path)
    }

    #[test]
    fn a_key_is_the_files_content_without_the_line_end() {
        assert_eq!(read(b"secret word\r\n").unwrap().as_bytes(), b"secret word");
    }

    #[test]
    fn a_key_that_is_empty_or_too_long_is_refused_with_what_is_accepted() {
        for content in [&b" \n"[..], &[b'x'; 81]] {
            assert!(read(content).unwrap_err().to_string().contains("1..80"));
        }
        assert!(read(&[b'x'; 80]).is_ok());
    }

    #[test]
    fn a_key_is_never_shown() {
        assert_eq!(format!("{:?}", read(b"secret").unwrap()), "Md5Key(..)");
    }
}

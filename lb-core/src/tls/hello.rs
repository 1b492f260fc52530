//! The server name in a ClientHello, read without decrypting anything. Pure.
//!
//! A parser of its own rather than the library's: what is only passed on must be routed even if this host would not
//! speak it (TLS 1.0, no signature algorithms, unknown extensions). It takes what has come so far and says whether that
//! is enough; the bytes themselves stay untouched for the backend.

use std::borrow::Cow;

/// The longest ClientHello, record headers included, that is waited for.
pub const LONGEST_HELLO: usize = 16 * 1024;

/// What the first bytes of a connection say (RFC 8446 §4.1.2, RFC 6066 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed to tell.
    Incomplete,
    /// The name that the client asks for, in lower case.
    Name(String),
    /// No name: none in it, malformed, longer than [`LONGEST_HELLO`], or not TLS at all.
    Nameless,
}

/// Reads the beginning of a connection; `bytes` is everything that the client sent so far.
#[must_use]
pub fn read_hello(bytes: &[u8]) -> Hello {
    HelloReader::default().read(bytes)
}

/// Reads it again and again as more bytes come, and looks at each record once only: what a client can make this cost grows
/// with what it sends, however small its pieces.
#[derive(Debug, Default)]
pub struct HelloReader {
    /// Where the next record begins.
    at: usize,
    /// So much of the message is in the records before it.
    gathered: usize,
    /// The message's header, as far as it has come.
    header: [u8; HEADER],
    /// How often a record was looked at.
    #[cfg(test)]
    looks: usize,
}

impl HelloReader {
    /// `bytes` is everything that the client sent so far: what was there the last time, and what has come since.
    #[must_use]
    pub fn read(&mut self, bytes: &[u8]) -> Hello {
        match self.find_end(bytes) {
            Ok(length) => match server_name(&message(bytes, length)) {
                Some(name) => Hello::Name(name),
                None => Hello::Nameless,
            },
            Err(Short::More) if bytes.len() < LONGEST_HELLO => Hello::Incomplete,
            Err(Short::More | Short::Never) => Hello::Nameless,
        }
    }

    /// Goes on over the records until they hold all of the message, and answers the length of its body.
    fn find_end(&mut self, bytes: &[u8]) -> Result<usize, Short> {
        loop {
            if self.gathered >= HEADER {
                let [kind, high, middle, low] = self.header;
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                if kind != CLIENT_HELLO || length > LONGEST_HELLO {
                    return Err(Short::Never);
                }
                if self.gathered >= HEADER + length {
                    return Ok(length);
                }
            }
            #[cfg(test)]
            {
                self.looks += 1;
            }
            let mut rest = Reader(bytes.get(self.at..).unwrap_or_default());
            let fragment = rest.record()?;
            self.at = bytes.len() - rest.0.len();
            let missing = self.header.iter_mut().skip(self.gathered);
            missing.zip(fragment).for_each(|(octet, came)| *octet = *came);
            self.gathered += fragment.len();
        }
    }
}

/// The message's header: its kind, and the length of its body.
const HEADER: usize = 4;

/// Why there is no message.
enum Short {
    /// It has not come entirely.
    More,
    /// It will never be one.
    Never,
}

/// The body of the ClientHello, of this length, put together from its records, which are all there.
fn message(bytes: &[u8], length: usize) -> Cow<'_, [u8]> {
    let mut records = Reader(bytes);
    let mut message = Cow::Borrowed(&[][..]);
    let whole = HEADER..HEADER + length;
    while message.len() < whole.end {
        let Ok(fragment) = records.record() else { break };
        match &mut message {
            Cow::Borrowed([]) => message = Cow::Borrowed(fragment),
            several => several.to_mut().extend_from_slice(fragment),
        }
    }
    match message {
        Cow::Borrowed(one) => Cow::Borrowed(one.get(whole).unwrap_or_default()),
        Cow::Owned(joined) => Cow::Owned(joined.get(whole).unwrap_or_default().to_vec()),
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// A record's longest plaintext (RFC 8446 §5.1).
const LONGEST_RECORD: usize = 1 << 14;

fn server_name(hello: &[u8]) -> Option<String> {
    let mut hello = Reader(hello);
    hello.take(2 + 32)?; // legacy_version, random
    hello.short_vector()?; // legacy_session_id
    hello.vector()?; // cipher_suites
    hello.short_vector()?; // legacy_compression_methods
    let mut extensions = Reader(hello.vector()?);
    loop {
        let kind = extensions.number()?;
        let extension = extensions.vector()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut names = Reader(Reader(extension).vector()?);
        loop {
            let [kind] = *names.take(1)? else { return None };
            let name = names.vector()?;
            if kind == HOST_NAME {
                let name = str::from_utf8(name).ok()?;
                return (!name.is_empty() && name.is_ascii()).then(|| name.to_ascii_lowercase());
            }
        }
    }
}

/// Takes pieces off the front of what is left.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// What a length of one octet goes before.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let [length] = *self.take(1)? else { return None };
        self.take(usize::from(length))
    }

    /// What a length of two octets goes before.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    /// The fragment of one handshake record.
    fn record(&mut self) -> Result<&'a [u8], Short> {
        if self.0.first().is_some_and(|kind| *kind != HANDSHAKE)
            || self.0.get(1).is_some_and(|major| *major != 3)
        {
            return Err(Short::Never);
        }
        self.take(3).ok_or(Short::More)?;
        let length = usize::from(self.number().ok_or(Short::More)?);
        if length == 0 || length > LONGEST_RECORD {
            return Err(Short::Never);
        }
        self.take(length).ok_or(Short::More)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What a real client sends first.
    fn hello(server_name: &'static str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), server_name.try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of so many bytes each.
    fn fragmented(hello: &[u8], size: usize) -> Vec<u8> {
        let record = |piece: &[u8]| {
            let length = u16::try_from(piece.len()).unwrap().to_be_bytes();
            [&[22, 3, 1], &length[..], piece].concat()
        };
        hello[5..].chunks(size).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_known_with_the_last_byte_of_the_hello_and_not_before() {
        let hello = hello("api.Example.org");
        for length in 0..hello.len() {
            assert_eq!(read_hello(&hello[..length]), Hello::Incomplete, "{length}");
        }
        let name = Hello::Name("api.example.org".to_owned());
        assert_eq!(read_hello(&hello), name);
        assert_eq!(read_hello(&[&hello[..], b"\x14\x03\x03early data"].concat()), name);
    }

    #[test]
    fn a_hello_in_many_records_is_put_together() {
        let whole = hello("api.example.org");
        for size in [1, 3, 100] {
            assert_eq!(read_hello(&fragmented(&whole, size)), Hello::Name("api.example.org".to_owned()));
        }
    }

    #[test]
    fn a_hello_that_comes_byte_by_byte_in_records_of_one_byte_is_looked_at_once() {
        let whole = fragmented(&hello("api.example.org"), 1);
        let mut reader = HelloReader::default();
        for length in 0..whole.len() {
            assert_eq!(reader.read(&whole[..length]), Hello::Incomplete, "{length}");
        }
        assert_eq!(reader.read(&whole), Hello::Name("api.example.org".to_owned()));
        // Once for each byte that came, and once for each record that was complete.
        assert_eq!(reader.looks, whole.len() + whole.len() / 6);
    }

    #[test]
    fn an_address_is_no_name() {
        assert_eq!(read_hello(&hello("192.0.2.1")), Hello::Nameless);
    }

    #[test]
    fn what_is_not_tls_is_known_from_its_first_bytes() {
        for bytes in [
            &b"G"[..],
            b"SSH-2.0-x",
            b"\x16\x02",
            b"\x80\x2e\x01",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\xff\xff",
        ] {
            assert_eq!(read_hello(bytes), Hello::Nameless, "{bytes:?}");
        }
        let another_message = [22, 3, 1, 0, 4, 2, 0, 0, 0];
        assert_eq!(read_hello(&another_message), Hello::Nameless);
    }

    #[test]
    fn a_hello_that_promises_more_than_the_limit_is_not_waited_for() {
        assert_eq!(read_hello(&[22, 3, 1, 0, 4, 1, 0, 0x40, 1]), Hello::Nameless);
        // Records of one byte each: the headers count too.
        let mut endless = vec![22, 3, 1, 0, 4, 1, 0, 0x3f, 0];
        while endless.len() < LONGEST_HELLO {
            assert_eq!(read_hello(&endless), Hello::Incomplete);
            endless.extend([22, 3, 1, 0, 1, 0].repeat(64));
        }
        assert_eq!(read_hello(&endless), Hello::Nameless);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes: Vec<u8>) {
            let _ = read_hello(&bytes);
            let _ = read_hello(&[&[22, 3, 1, 1, 0, 1, 0, 0, 252][..], &bytes].concat());
        }

        #[test]
        fn in_whatever_pieces_it_comes_the_answer_is_the_same(
            record in 1usize..400,
            at in 0usize..200,
            byte: u8,
            pieces in prop::collection::vec(1usize..300, 1..20),
        ) {
            let mut hello = hello("api.example.org");
            hello[at] = byte;
            let bytes = fragmented(&hello, record);
            let (mut reader, mut length) = (HelloReader::default(), 0);
            for piece in pieces.iter().cycle() {
                length = (length + piece).min(bytes.len());
                let answer = reader.read(&bytes[..length]);
                prop_assert_eq!(&answer, &read_hello(&bytes[..length]));
                if answer != Hello::Incomplete || length == bytes.len() {
                    break;
                }
            }
        }

        #[test]
        fn a_changed_hello_does_no_harm(at in 0usize..200, byte: u8) {
            let mut hello = hello("api.example.org");
            hello[at] = byte;
            let _ = read_hello(&hello);
        }
    }
}

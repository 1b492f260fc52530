use proptest::prelude::*;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn decoded(bytes: &[u8]) -> Header {
    let decoded = decode(bytes).unwrap().unwrap();
    assert_eq!(decoded.length, bytes.len());
    decoded.header
}

/// A header of version 2 with these fields.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, family]);
    bytes.extend((rest.len() as u16).to_be_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn the_lines_of_version_1_are_read() {
    assert_eq!(
        decoded(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"),
        Header::Addresses { source: address("192.0.2.1:56324"), destination: address("198.51.100.2:443") }
    );
    assert_eq!(
        decoded(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 0\r\n"),
        Header::Addresses { source: address("[2001:db8::1]:1"), destination: address("[2001:db8::2]:0") }
    );
    assert_eq!(decoded(b"PROXY UNKNOWN\r\n"), Header::Unknown);
    assert_eq!(decoded(b"PROXY UNKNOWN ffff::1 anything at all\r\n"), Header::Unknown);
}

#[test]
fn a_line_that_is_not_exactly_one_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n",
        "PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +80 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 080 443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 80 443\r\n",
        "PROXY TCP4 2001:db8::1 198.51.100.2 80 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 80 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 80 443\r\n",
        "PROXY \r\n",
        "PROXY \u{fffd}\r\n",
    ] {
        assert_eq!(decode(line.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
}

#[test]
fn a_line_has_107_octets_at_most() {
    let line = |text: usize| [b"PROXY UNKNOWN ".as_slice(), &vec![b'x'; text], b"\r\n"].concat();
    assert!(matches!(decode(&line(91)), Ok(Some(Decoded { length: 107, .. }))));
    assert_eq!(decode(&line(92)), Err(Malformed::Line));
    assert_eq!(decode(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92]].concat()), Ok(None));
}

#[test]
fn a_header_without_tcp_addresses_leaves_the_connection_s_own() {
    assert_eq!(decoded(&v2(0x20, 0x00, b"")), Header::Unknown, "LOCAL");
    assert_eq!(decoded(&v2(0x20, 0xFF, b"skipped")), Header::Unknown, "LOCAL, whatever the family");
    assert_eq!(decoded(&v2(0x21, 0x00, b"skipped")), Header::Unknown, "UNSPEC");
    assert_eq!(decoded(&v2(0x21, 0x31, &[0; 216])), Header::Unknown, "a Unix socket");
}

#[test]
fn version_2_refuses_what_it_does_not_know() {
    assert_eq!(decode(&v2(0x11, 0x11, &[0; 12])), Err(Malformed::Command(0x11)));
    assert_eq!(decode(&v2(0x22, 0x11, &[0; 12])), Err(Malformed::Command(0x22)));
    assert_eq!(decode(&v2(0x21, 0x13, &[0; 12])), Err(Malformed::Family(0x13)));
    assert_eq!(decode(&v2(0x21, 0x11, &[0; 11])), Err(Malformed::TooShort(11)));
    assert_eq!(decode(&v2(0x21, 0x21, &[0; 35])), Err(Malformed::TooShort(35)));
}

#[test]
fn tlvs_are_skipped_up_to_the_limit() {
    let with_tlvs = |tlvs: usize| v2(0x21, 0x11, &[&[1; 12][..], &vec![7; tlvs]].concat());
    assert!(matches!(decoded(&with_tlvs(LONGEST - 16 - 12)), Header::Addresses { .. }));
    assert_eq!(decode(&with_tlvs(LONGEST - 16 - 11)), Err(Malformed::TooLong));
}

#[test]
fn other_bytes_are_refused_at_the_first_that_no_header_has() {
    assert_eq!(decode(b""), Ok(None));
    assert_eq!(decode(b"G"), Err(Malformed::Signature));
    assert_eq!(decode(b"PU"), Err(Malformed::Signature));
    assert_eq!(decode(b"\r\n\r\n\0\r\nQUIX"), Err(Malformed::Signature));
}

#[test]
fn addresses_of_two_families_are_sent_as_ipv6() {
    let encoded = encode(ProxyVersion::V1, address("192.0.2.1:5"), address("[2001:db8::2]:6"));
    assert_eq!(encoded.as_bytes(), b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 5 6\r\n");
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn any_version() -> impl Strategy<Value = ProxyVersion> {
    prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)]
}

proptest! {
    #[test]
    fn what_is_sent_is_understood_whatever_follows_and_only_once_it_is_whole(
        version in any_version(),
        source in any_address(),
        destination in any_address(),
        behind in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (source, destination) = of_one_family(source, destination);
        let encoded = encode(version, source, destination);
        let length = encoded.as_bytes().len();
        let stream = [encoded.as_bytes(), &behind].concat();
        let whole = Ok(Some(Decoded { header: Header::Addresses { source, destination }, length }));
        for split in 0..length {
            prop_assert_eq!(decode(&stream[..split]), Ok(None));
        }
        for split in length..=stream.len() {
            prop_assert_eq!(decode(&stream[..split]), whole);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_read_beyond_them(
        front in prop::sample::select(vec![&b""[..], b"PROXY ", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n"]),
        bytes in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        let bytes = [front, &bytes].concat();
        if let Ok(Some(decoded)) = decode(&bytes) {
            prop_assert!(decoded.length <= bytes.len());
            prop_assert_eq!(decode(&bytes[..decoded.length]), Ok(Some(decoded)));
        }
    }
}

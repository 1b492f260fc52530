//! Any bytes are a PROXY header, the beginning of one, or malformed; what is understood of a part is what is understood
//! of the whole, and addresses survive being sent on.
#![cfg_attr(feature = "link", no_main)]

use config::ProxyVersion;
use contrail_lb_fuzz::fuzz_target;
use lb_core::proxy_protocol::{Header, LONGEST, decode, encode};

fuzz_target!(|input: &[u8]| {
    let whole = decode(input);
    let Ok(Some(decoded)) = whole else { return };
    assert!(decoded.length <= input.len() && decoded.length <= LONGEST);
    for length in 0..decoded.length {
        assert_eq!(decode(&input[..length]), Ok(None));
    }
    assert_eq!(decode(&input[..decoded.length]), whole);
    if let Header::Addresses { source, destination } = decoded.header {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let sent = encode(version, source, destination);
            let again = decode(sent.as_bytes()).map(|again| again.map(|again| again.header));
            assert_eq!(again, Ok(Some(decoded.header)));
        }
    }
});

//! A BFD Control packet: read, or discarded for one of the reasons of RFC 5880 §6.8.6; what was read is written the same.
#![cfg_attr(feature = "link", no_main)]

use bgp_speaker::bfd::ControlPacket;
use contrail_lb_fuzz::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(packet) = ControlPacket::decode(input) {
        let written = packet.encode();
        let again = ControlPacket::decode(&written);
        assert_eq!(again, Ok(ControlPacket { authenticated: false, ..packet }));
    }
});
